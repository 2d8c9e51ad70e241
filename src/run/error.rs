//! Why the library could not do what it was asked.

use std::path::PathBuf;

use crate::checkpoint::Hash;
use crate::data::DataSource;
use crate::graph::ModelId;
use crate::settings::ConfigError;
use crate::{checkpoint, data, device, distributed, graph, mask, records, train};

/// Why the library could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting does not suit the data.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The folder cannot be the run's.
    #[error(transparent)]
    Folder(#[from] records::FolderError),
    /// The run that is resumed was begun on another data set.
    #[error("the run was begun on {run}, and there is only {found} here")]
    OtherData {
        /// The run's data set.
        run: DataSource,
        /// The data set that was found.
        found: DataSource,
    },
    /// The run that is resumed was begun on other images or labels.
    #[error(
        "the images or labels are not those that the run was begun on: their digest is {found}, and the \
         run's {run}; give the --data-dir that it was begun with"
    )]
    OtherImages {
        /// The digest of the run's.
        run: String,
        /// The digest of those that were found.
        found: String,
    },
    /// The newest checkpoint is not of the run's settings.
    #[error(
        "{}: its newest checkpoint was written under other settings than its config.json has had; put back \
         the one that belongs to it",
        folder.display()
    )]
    OtherSettings {
        /// The run's folder.
        folder: PathBuf,
    },
    /// More epochs would have changed those that are done.
    #[error(
        "--epochs {epochs}: the run has trained as one of {before} epochs, and at epoch {epoch} the learning \
         rate would be {} rather than {}; train on from its final weights in a new run: --weights {}",
        rates[1],
        rates[0],
        weights.display()
    )]
    Longer {
        /// Epochs that are asked for.
        epochs: u32,
        /// Epochs of the run.
        before: u32,
        /// Where the schedules differ.
        epoch: f64,
        /// The run's learning rate there, and the one that was asked for.
        rates: [f64; 2],
        /// The run's final weights.
        weights: PathBuf,
    },
    /// Another process does not answer, or differs from this one.
    #[error(transparent)]
    Distributed(#[from] distributed::Error),
    /// The images cannot be got.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// The device cannot be opened, or fails.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// The network cannot be built.
    #[error(transparent)]
    Graph(#[from] graph::Error),
    /// No mask keeps what is asked for.
    #[error(transparent)]
    Mask(#[from] mask::Error),
    /// A file of a mask cannot be read or written.
    #[error(transparent)]
    MaskFile(#[from] mask::file::Error),
    /// The mask to train under is of another model.
    #[error("{}: a mask of {mask}, and the run trains {run}", path.display())]
    MaskOfOtherModel {
        /// The mask's file.
        path: PathBuf,
        /// The model that the mask is of.
        mask: ModelId,
        /// The model that the run trains.
        run: ModelId,
    },
    /// The mask to train under was made from other weights than the run starts from.
    #[error(
        "{}: a mask made from other weights ({weights}, BLAKE3 {}) than those that the run starts from \
         (BLAKE3 {}); give those by --weights, or --mask-of-other-weights to train under it all the same",
        path.display(), made.short(), run.short()
    )]
    MaskOfOtherWeights {
        /// The mask's file.
        path: PathBuf,
        /// The file of weights that the mask was made from, as it was given.
        weights: String,
        /// The digest of those weights.
        made: Hash,
        /// The digest of the weights that the run starts from.
        run: Hash,
    },
    /// A file that the run started from is no longer what it was.
    #[error(
        "{}: not the {what} that the run began with, whose BLAKE3 is {}, and this file's {}; put that file \
         back, or start a new run",
        path.display(), began.short(), found.short()
    )]
    OtherStart {
        /// The file.
        path: PathBuf,
        /// `weights` or `mask`.
        what: &'static str,
        /// The digest when the run began.
        began: Hash,
        /// The digest now.
        found: Hash,
    },
    /// A run has no weights to read yet.
    #[error("{}: the run has neither final weights nor a checkpoint yet", .0.display())]
    NothingKept(PathBuf),
    /// A file of weights or checkpoints cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The network fails on the images.
    #[error(transparent)]
    Train(#[from] train::Error),
}

impl Error {
    /// The failure between processes that this error tells of, if it does.
    pub fn between_processes(&self) -> Option<&distributed::Error> {
        match self {
            Error::Distributed(error) | Error::Train(train::Error::Distributed(error)) => Some(error),
            _ => None,
        }
    }
}

//! Why the library could not do what it was asked.

use crate::data::DataSource;
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

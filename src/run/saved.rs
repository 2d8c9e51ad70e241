//! A model as it is kept: a file of weights, or what a run's folder holds.

use std::path::{Path, PathBuf};

use super::Error;
use crate::checkpoint::chain::{Chain, Restored};
use crate::checkpoint::{Hash, Moment, weights};
use crate::graph::{Graph, ModelId};
use crate::records::RunFolder;
use crate::settings::Config;

/// A model that was read, with all its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// The model.
    pub id: ModelId,
    /// The file that the weights are in; of a chain the newest of the files that they take.
    pub path: PathBuf,
    /// All weights, in memory order.
    pub weights: Vec<f32>,
    /// All running statistics.
    pub running: Vec<f32>,
    /// What a user should know of how the file was read, a line each.
    pub notes: Vec<String>,
}

impl Saved {
    /// Reads a file of weights, this program's or PyTorch's.
    ///
    /// # Errors
    /// When the file cannot be read, or holds another model's weights.
    pub fn file(id: ModelId, path: &Path) -> Result<Saved, Error> {
        let weights::Loaded { weights, running, notes } = weights::load(path, &id.graph()?.layout)?;
        Ok(Saved { id, path: path.to_path_buf(), weights, running, notes })
    }

    /// Reads the model of a run: that of its checkpoint after `epoch` epochs or, by default, its final
    /// weights and, where it has none yet, its newest checkpoint. Nothing is written in the folder, and it
    /// may be in use.
    ///
    /// # Errors
    /// When the folder is no run's, there is no such checkpoint, or a file cannot be read or is damaged.
    pub fn run(folder: &Path, epoch: Option<u32>) -> Result<(Config, Saved), Error> {
        let config = RunFolder::config(folder)?;
        let (id, last) = (config.network, RunFolder::final_weights(folder));
        if epoch.is_none() && last.exists() {
            return Ok((config, Saved::file(id, &last)?));
        }
        let chain = Chain::read(&RunFolder::checkpoints_of(folder), id, &id.graph()?.layout)?;
        let restored = match epoch {
            Some(epoch) => chain.load(Moment::new(epoch, 0))?,
            None => chain.load_latest()?.ok_or_else(|| Error::NothingKept(folder.to_path_buf()))?,
        };
        let Restored { path, weights, running, .. } = restored;
        Ok((config, Saved { id, path, weights, running, notes: vec![] }))
    }

    /// BLAKE3 of weights, in canonical order, and running statistics.
    pub fn digest(&self, graph: &Graph) -> Hash {
        weights::digest(&graph.layout, &self.weights, &self.running)
    }
}

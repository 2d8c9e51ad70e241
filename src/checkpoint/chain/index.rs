//! What a folder of checkpoints holds, by the files' heads.

use std::path::{Path, PathBuf};

use super::entry::{Checkpoint, Found, Kind, MaskFile, WorkersFile};
use super::look::{look, names};
use crate::checkpoint::{Error, Problem};
use crate::graph::{Layout, ModelId};

/// The checkpoints of a run, whole chains and full ones, as its files' heads tell. Heads are read once; what
/// is restored is read and checked then.
#[derive(Debug)]
pub struct Chain {
    pub(super) folder: PathBuf,
    pub(super) id: ModelId,
    pub(super) layout: Layout,
    /// Oldest first; of one moment base, delta, full.
    pub(super) checkpoints: Vec<Checkpoint>,
    pub(super) masks: Vec<MaskFile>,
    /// Oldest first.
    pub(super) workers: Vec<WorkersFile>,
    /// Files with a checkpoint's name whose head cannot be used.
    pub(super) broken: Vec<Error>,
}

impl Chain {
    /// Reads what `folder`, a run's `checkpoints/`, holds; it may hold nothing. Other files are passed over.
    ///
    /// # Errors
    /// When the folder cannot be read. A file that cannot be used is an error where it is asked for.
    pub fn read(folder: &Path, id: ModelId, layout: &Layout) -> Result<Chain, Error> {
        let (mut checkpoints, mut masks, mut workers, mut broken) = (vec![], vec![], vec![], vec![]);
        for path in names(folder)? {
            match look(&path, Some(id)).map(|(_, found)| found) {
                Ok(Found::Checkpoint(checkpoint)) => checkpoints.push(checkpoint),
                Ok(Found::Mask(mask)) => masks.push(mask),
                Ok(Found::Workers(file)) => workers.push(file),
                Err(error) => broken.push(error),
            }
        }
        let order = |c: &Checkpoint| (c.at(), !c.is_base(), matches!(c.kind, Kind::Full { .. }));
        checkpoints.sort_by_key(order);
        workers.sort_by_key(|file: &WorkersFile| file.at);
        let (folder, layout) = (folder.to_path_buf(), layout.clone());
        Ok(Chain { folder, id, layout, checkpoints, masks, workers, broken })
    }

    /// As [`Chain::read`], of the model that the first usable file names.
    ///
    /// # Errors
    /// When the folder cannot be read or has no file that can be used.
    pub fn find(folder: &Path) -> Result<Chain, Error> {
        let mut first = None;
        for path in names(folder)? {
            match look(&path, None) {
                Ok((id, _)) => {
                    let bad = |e: crate::graph::Error| {
                        Error::new(&path, Problem::NotChain { reason: e.to_string() })
                    };
                    return Chain::read(folder, id, &id.graph().map_err(bad)?.layout);
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| Error::new(folder, Problem::Empty)))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The model and its width.
    pub fn id(&self) -> ModelId {
        self.id
    }

    /// The model's layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The checkpoints whose head can be used, oldest first; of one moment base, delta, full.
    pub fn checkpoints(&self) -> &[Checkpoint] {
        &self.checkpoints
    }

    /// The file with the workers' states that belongs to a checkpoint; one worker alone has none.
    pub fn workers(&self, checkpoint: &Checkpoint) -> Option<&WorkersFile> {
        self.workers.iter().find(|file| !checkpoint.is_base() && file.at == checkpoint.at())
    }

    /// What is wrong with files whose head cannot be used.
    pub fn broken(&self) -> &[Error] {
        &self.broken
    }

    /// The newest checkpoint that a run can resume from; of several of one moment the full one, which depends
    /// on nothing.
    pub fn latest(&self) -> Option<&Checkpoint> {
        self.checkpoints.iter().rfind(|c| !c.is_base())
    }

    /// The length of a dense file's data, in bytes.
    pub fn dense_bytes(&self) -> u64 {
        4 * (self.layout.weight_count() + self.layout.statistic_count()) as u64
    }
}

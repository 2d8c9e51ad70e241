//! What a folder of checkpoints holds, by the files' heads.

use std::path::{Path, PathBuf};

use super::file;
use super::header::mask_name;
use super::look::{Found, look, names};
use crate::checkpoint::container::Bytes;
use crate::checkpoint::{Error, Hash, Moment, Problem, Progress};
use crate::graph::{Layout, ModelId};

/// What a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All weights, on which deltas build.
    Base,
    /// The new values of a mask.
    Delta {
        /// The model that the checkpoint it builds on restores to.
        parent: Hash,
        /// The hash of its mask's indices.
        mask: Hash,
    },
    /// Weights and velocity, on its own.
    Full {
        /// The hash of the indices of the mask in force, if there is one.
        mask: Option<Hash>,
    },
}

/// A checkpoint, as its head tells.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Its file.
    pub path: PathBuf,
    /// The file's length.
    pub bytes: u64,
    /// What it is.
    pub kind: Kind,
    /// When it was written.
    pub progress: Progress,
    /// The hash of the model it restores to; a full checkpoint has none.
    pub model: Option<Hash>,
    /// Weights it holds.
    pub kept: usize,
}

impl Checkpoint {
    /// The place in the run that it is of.
    pub fn at(&self) -> Moment {
        self.progress.at
    }

    pub(super) fn is_base(&self) -> bool {
        self.kind == Kind::Base
    }

    /// The mask it needs.
    pub(super) fn mask(&self) -> Option<Hash> {
        match self.kind {
            Kind::Delta { mask, .. } => Some(mask),
            Kind::Full { mask } => mask,
            Kind::Base => None,
        }
    }
}

/// A mask's file.
#[derive(Clone, Debug)]
pub(super) struct MaskFile {
    pub path: PathBuf,
    pub bytes: u64,
    pub hash: Hash,
}

/// A file with the state of several workers, beside the checkpoint of their merged model.
#[derive(Clone, Debug)]
pub struct WorkersFile {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    pub(super) at: Moment,
}

/// The checkpoints of a run, whole chains and full ones, as its files' heads tell. Heads are read once; what is
/// restored is read and checked then.
#[derive(Debug)]
pub struct Chain {
    pub(super) folder: PathBuf,
    pub(super) id: ModelId,
    pub(super) layout: Layout,
    /// By time; of one time, base, delta, full.
    pub(super) checkpoints: Vec<Checkpoint>,
    pub(super) masks: Vec<MaskFile>,
    /// By time.
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

    /// Those whose head can be used, by time; of one time, base, delta, full.
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

    /// The newest that a run can go on from; of one time the full one, which depends on nothing.
    pub fn latest(&self) -> Option<&Checkpoint> {
        self.checkpoints.iter().rfind(|c| !c.is_base())
    }

    /// The length of a dense file's data, in bytes.
    pub fn dense_bytes(&self) -> u64 {
        4 * (self.layout.weight_count() + self.layout.statistic_count()) as u64
    }

    /// The checkpoint that a delta builds on: the base if several restore to the same model.
    pub(super) fn parent(&self, child: &Checkpoint, parent: Hash) -> Result<&Checkpoint, Error> {
        // A delta's parent is always older: equal models at different moments make no circle.
        let fits = |c: &&Checkpoint| {
            c.model == Some(parent) && if c.is_base() { c.at() <= child.at() } else { c.at() < child.at() }
        };
        let found = self.checkpoints.iter().filter(fits).min_by_key(|c| !c.is_base());
        found.ok_or_else(|| self.why_missing(child, parent))
    }

    /// Why a parent is not found: first because the child's head is damaged; then others may have damaged heads.
    fn why_missing(&self, child: &Checkpoint, parent: Hash) -> Error {
        let fault = |path: &Path| file::read(path, &mut Bytes::default()).err();
        if let Some(error) = fault(&child.path) {
            return error;
        }
        let older = |c: &&Checkpoint| c.at() <= child.at() && !matches!(c.kind, Kind::Full { .. });
        let others = self.checkpoints.iter().filter(older).map(|c| &*c.path);
        let damaged = others.filter(|path| fault(path).is_some());
        let broken = self.broken.iter().map(Error::path).chain(damaged).map(Path::to_path_buf).collect();
        Error::new(&child.path, Problem::ParentMissing { parent, broken })
    }

    /// A mask's file, for a checkpoint that needs it.
    pub(super) fn mask_file(&self, mask: Hash, needs: &Checkpoint) -> Result<&MaskFile, Error> {
        let found = self.masks.iter().find(|file| file.hash == mask);
        found.ok_or_else(|| {
            // A file that is there and cannot be used is the thing to tell of.
            let name = mask_name(mask);
            let path = self.folder.join(&name);
            let fault =
                file::read(&needs.path, &mut Bytes::default()).err().filter(|_| needs.model.is_some());
            let there = || self.read_mask(&path).err().filter(|_| path.exists());
            fault.or_else(there).unwrap_or_else(|| Error::new(&needs.path, Problem::MaskMissing { name }))
        })
    }
}

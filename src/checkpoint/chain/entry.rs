//! The files that a folder of checkpoints holds, as their heads tell.

use std::path::PathBuf;

use crate::checkpoint::{Hash, Moment, Progress};

/// A file that a folder of checkpoints holds.
pub enum Found {
    Checkpoint(Checkpoint),
    Mask(MaskFile),
    Workers(WorkersFile),
}

/// The kinds of checkpoint.
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
    /// The checkpoint's file.
    pub path: PathBuf,
    /// The file's length in bytes.
    pub bytes: u64,
    /// Which kind of checkpoint it is, and what it builds on.
    pub kind: Kind,
    /// Where the run was when it was written.
    pub progress: Progress,
    /// The hash of the model it restores to; a full checkpoint has none.
    pub model: Option<Hash>,
    /// How many weights the file holds.
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
    /// The path of the file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    pub(super) at: Moment,
}

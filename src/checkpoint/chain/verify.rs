//! Every hash and every parent of a chain.

use std::path::{Path, PathBuf};

use super::entry::{Checkpoint, Kind, WorkersFile};
use super::index::Chain;
use super::mask::read_mask;
use super::read::Vector;
use super::workers::Workers;
use crate::checkpoint::{Error, Hash, weights};

/// A file, and what is wrong with it or with what it needs.
#[derive(Debug)]
pub struct Verified {
    /// The file that was checked.
    pub path: PathBuf,
    /// The first fault that was found, if any.
    pub result: Result<(), Error>,
}

/// What the vector being carried from checkpoint to checkpoint is.
struct At {
    vector: Vector,
    model: Option<Hash>,
    /// Parent and mask of the delta it is of.
    delta: Option<(Hash, Hash)>,
    mask: Option<(Hash, Vec<u32>)>,
}

impl Chain {
    /// Checks every file: masks first, then checkpoints by time, then workers' states, then files that cannot
    /// be used at all. Each base and delta is restored.
    pub fn verify(&self) -> Vec<Verified> {
        let read = |path: &Path| read_mask(path, self.id, &self.layout);
        let mut verified: Vec<Verified> = self
            .masks
            .iter()
            .map(|mask| Verified { path: mask.path.clone(), result: read(&mask.path).map(drop) })
            .collect();
        verified.extend(self.verify_only(|_| true));
        let workers = self.workers.iter();
        verified.extend(workers.map(|w| Verified { path: w.path.clone(), result: self.verify_workers(w) }));
        let broken = self.broken.iter().map(|e| (e.path(), self.why_broken(e.path())));
        verified
            .extend(broken.map(|(path, error)| Verified { path: path.to_path_buf(), result: Err(error) }));
        verified
    }

    /// Restores those checkpoints that `wanted` names, by time.
    pub(super) fn verify_only(&self, wanted: impl Fn(&Path) -> bool) -> Vec<Verified> {
        let mut at = None;
        let wanted = self.checkpoints.iter().filter(|c| wanted(&c.path));
        let check = |c: &Checkpoint| {
            let result = match c.kind {
                Kind::Full { .. } => self.restore(c).map(drop),
                _ => self.step(c, at.take()).map(|next| at = Some(next)),
            };
            Verified { path: c.path.clone(), result }
        };
        wanted.map(check).collect()
    }

    /// Checks a file of workers, and that its merged model is that of the checkpoint it lies beside. It may
    /// lie beside none: a program was killed between the two.
    pub(super) fn verify_workers(&self, file: &WorkersFile) -> Result<(), Error> {
        let workers = Workers::open(&file.path, self.id)?;
        let beside = self.checkpoints.iter().rfind(|c| !c.is_base() && c.at() == file.at);
        let Some(checkpoint) = beside else { return Ok(()) };
        // A full checkpoint has no stored hash: compute it.
        let found = match checkpoint.model {
            Some(found) => found,
            None => {
                let restored = self.restore(checkpoint)?;
                weights::digest(&self.layout, &restored.weights, &restored.running)
            }
        };
        workers.check_model(found)
    }

    /// Restores a base or delta: from the one before, if that is its parent or was of the same mask, so that
    /// a whole chain costs one pass; else from its base.
    fn step(&self, c: &Checkpoint, before: Option<At>) -> Result<At, Error> {
        let Kind::Delta { parent, mask } = c.kind else {
            return Ok(At { vector: self.base(c)?, model: c.model, delta: None, mask: None });
        };
        // The parent must be there, whether or not it is needed.
        let above = self.parent(c, parent)?;
        let usable = |at: &At| at.model == Some(parent) || at.delta == Some((parent, mask));
        let before = match before.filter(usable) {
            Some(before) => before,
            None => self.step(above, None)?,
        };
        let mut vector = before.vector;
        let (delta, indices) = self.delta(c, before.mask)?;
        self.apply(c, delta, &indices.1, &mut vector)?;
        Ok(At { vector, model: c.model, delta: Some((parent, mask)), mask: Some(indices) })
    }
}

//! Removing what nothing kept needs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::base::write_base;
use super::entry::{Checkpoint, Kind, WorkersFile};
use super::index::Chain;
use crate::checkpoint::{Error, Hash, Problem, atomic};
use crate::graph::layout::Parameter;

/// The files that pruning wrote and removed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pruned {
    /// Bases written in the place of checkpoints that others build on.
    pub written: Vec<PathBuf>,
    /// Files removed, in that order.
    pub removed: Vec<PathBuf>,
    /// The length of the removed files together.
    pub bytes: u64,
}

impl Chain {
    /// Removes all but the newest `keep` checkpoints and what they need. Where a kept delta builds on one
    /// that must go, a base with the same model is written first. Killed at any moment, it leaves a chain
    /// that verifies. Files that cannot be read stay. Whoever calls this holds the run's
    /// [`RunLock`](crate::checkpoint::RunLock), and reads the chain anew afterwards.
    ///
    /// # Errors
    /// When a checkpoint that is to be kept cannot be restored (nothing is removed then), or a file cannot be
    /// written or removed.
    pub fn prune(&self, keep: usize) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        let real: Vec<&Checkpoint> = self.checkpoints.iter().filter(|c| !c.is_base()).collect();
        let kept = &real[real.len().saturating_sub(keep)..];
        let Some(newest) = kept.last() else { return Ok(pruned) };
        let mut needed: BTreeSet<&Path> = kept.iter().map(|c| &*c.path).collect();
        // What will be left must be good before anything goes.
        for verified in self.verify_only(|path| needed.contains(path)) {
            verified.result?;
        }
        for checkpoint in kept {
            self.workers(checkpoint).map_or(Ok(()), |file| self.verify_workers(file))?;
        }
        // A base after the newest is where the run goes on.
        let bases = self.checkpoints.iter().filter(|c| c.is_base());
        needed.extend(bases.filter(|c| c.at() >= newest.at()).map(|c| &*c.path));

        atomic::remove_leftovers(&self.folder)?;
        let mut rebased = BTreeSet::new();
        for child in kept {
            let Kind::Delta { parent, .. } = child.kind else { continue };
            let above = self.parent(child, parent)?;
            if above.is_base() {
                needed.insert(&above.path);
            } else if !needed.contains(&*above.path) && rebased.insert(parent) {
                pruned.written.push(self.rebase(above)?);
            }
        }

        // Children before parents: the newest first, then bases, and last what checkpoints need beside them.
        let surplus = |c: &&Checkpoint| !needed.contains(&*c.path) && !pruned.written.contains(&c.path);
        let (bases, others): (Vec<_>, Vec<_>) =
            self.checkpoints.iter().rev().filter(surplus).partition(|c| c.is_base());
        let masks: BTreeSet<Hash> = kept.iter().filter_map(|c| c.mask()).collect();
        let masks = self.masks.iter().filter(|file| !masks.contains(&file.hash));
        // Those of checkpoints that went, or never came to be.
        let stays = |file: &WorkersFile| kept.iter().any(|c| c.at() == file.at);
        let workers = self.workers.iter().filter(|file| !stays(file));
        let going = others.iter().chain(&bases).map(|c| (&c.path, c.bytes));
        let going = going.chain(workers.map(|file| (&file.path, file.bytes)));
        for (path, bytes) in going.chain(masks.map(|mask| (&mask.path, mask.bytes))) {
            fs::remove_file(path).map_err(Error::io(path, "remove it"))?;
            // Each for good before the next goes, that a power cut keeps their order.
            atomic::sync_folder(&self.folder).map_err(Error::io(&self.folder, "sync it"))?;
            pruned.removed.push(path.clone());
            pruned.bytes += bytes;
        }
        Ok(pruned)
    }

    /// Writes a base that restores to what a delta restores to.
    fn rebase(&self, delta: &Checkpoint) -> Result<PathBuf, Error> {
        let restored = self.restore(delta)?;
        let source = |p: &Parameter| Ok::<_, Error>(restored.weights[p.range()].to_vec());
        let (path, model) =
            write_base(&self.folder, self.id, &self.layout, &delta.progress, &restored.running, source)?;
        match delta.model {
            Some(expected) if expected != model => {
                Err(Error::new(&path, Problem::Restored { expected, found: model }))
            }
            _ => Ok(path),
        }
    }
}

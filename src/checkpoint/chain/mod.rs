//! Small checkpoints: a base, masks, and deltas that hold the new values of what a mask lets change.
//!
//! A run's `checkpoints/` holds, each a safetensors file with one metadata entry `fishmask`, JSON:
//! * `base-EEEE-step-SSSSS.safetensors`: all weights, then all running statistics, f32, under PyTorch's names; in the
//!   file they lie end to end in canonical order;
//! * `mask-<16 digits>.safetensors`: `indices`, u32, canonical, ascending; named by the first digits of their BLAKE3;
//! * `epoch-EEEE-step-SSSSS.delta.safetensors`: `running`, all running statistics in the layout's order; `velocity`, one
//!   a kept weight, unless it was not to be kept; `values`, the new values at the mask's indices, f32 or f16;
//! * `epoch-EEEE-step-SSSSS.workers.safetensors`, beside a delta or full checkpoint of the merged model of several
//!   workers, which then has no velocity: `worker.N.values`, `worker.N.running` and `worker.N.velocity` of each, f32, in
//!   the order that the run keeps them in.
//!
//! Each base and delta carries `weights`, the hash of the vector it restores to ([`Hash::of_model`]). A delta names its
//! mask by the hash of its indices, and its parent by that one's `weights`: so any file that restores to the same
//! vector can take a parent's place. The parent is the last checkpoint before the mask came into force: deltas hold
//! values, not differences, so those of one mask supersede each other, and a chain is as deep as there were masks.
//! `check`, the BLAKE3 of a file's data and JSON, tells damage from content. A file of workers carries the `weights` of
//! its checkpoint, each worker's totals, and a text `run` of the run's own.
//!
//! [`Writer`] adds to a chain, [`Chain`] reads it. Full checkpoints ([`super::full`]) in the same folder belong to it.

mod base;
mod diff;
mod file;
mod header;
mod index;
mod look;
mod prune;
mod read;
mod verify;
mod workers;
mod write;

use super::Hash;
use super::full::Time;
use crate::ops::Totals;

pub use diff::{Changes, diff};
pub use index::{Chain, Checkpoint, Kind, WorkersFile};
pub use prune::Pruned;
pub use read::{Restored, Velocity};
pub use verify::Verified;
pub(super) use workers::workers_time;
pub use workers::{Part, Worker, Workers, WorkersState, prune_workers, save_workers};
pub use write::{Values, Writer, save_mask};

/// Where a run is, and how it fared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Epochs completed.
    pub epoch: u32,
    /// Steps done of the epoch after those.
    pub batch: u32,
    /// Training totals of that epoch so far.
    pub totals: Totals,
    /// Training time of that epoch so far, in seconds.
    pub train_seconds: f64,
    /// Training time before that epoch, in seconds.
    pub total_seconds: f64,
    /// Test accuracy after the last completed epoch in percent, where it is known.
    pub test_accuracy: Option<f64>,
}

impl Progress {
    fn time(&self) -> Time {
        (self.epoch, self.batch)
    }
}

/// A model's vectors as a chain's hashes see them.
struct Vector {
    canonical: Vec<f32>,
    running: Vec<f32>,
}

impl Vector {
    fn hash(&self) -> Hash {
        Hash::of_model(&self.canonical, &self.running)
    }
}

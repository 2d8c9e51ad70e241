//! Small checkpoints: a base, masks, and deltas that hold the new values of what a mask lets change.
//!
//! A run's `checkpoints/` holds, each a safetensors file with one metadata entry `fishmask`, JSON:
//! * `base-EEEE-step-SSSSS.safetensors`: all weights, then all running statistics, f32, under PyTorch's
//!   names; in the file they lie end to end in canonical order;
//! * `mask-<16 digits>.safetensors`: `indices`, u32, canonical, ascending; named by the first digits of their
//!   BLAKE3;
//! * `epoch-EEEE-step-SSSSS.delta.safetensors`: `running`, all running statistics in the layout's order;
//!   `velocity`, one a kept weight, unless it was not to be kept; `values`, the new values at the mask's
//!   indices, f32 or f16;
//! * `epoch-EEEE-step-SSSSS.workers.safetensors`, beside a delta or full checkpoint of the merged model of
//!   several workers, which then has no velocity: `worker.N.values`, `worker.N.running` and
//!   `worker.N.velocity` of each, f32, in the order that the run keeps them in.
//!
//! Each base and delta carries as `weights` the hash of the model it restores to ([`super::Hash::of_model`]).
//! A delta names its mask by the hash of its indices, and its parent by that one's `weights`: so any file
//! that restores to the same vector can take a parent's place. The parent is the last checkpoint before the
//! mask came into force: deltas hold values, not differences, so those of one mask supersede each other, and
//! a chain is as deep as there were masks. `check`, the BLAKE3 of a file's data and JSON, tells damage from
//! content. A file of workers carries the `weights` of its checkpoint, each worker's totals, and a text `run`
//! of the run's own.
//!
//! [`Writer`] adds to a chain, [`Chain`] reads it. Full checkpoints ([`super::full`]) in the same folder
//! belong to it.

mod base;
mod diff;
mod entry;
mod file;
mod header;
mod index;
mod look;
mod mask;
mod needs;
mod prune;
mod read;
mod verify;
mod workers;
mod write;

pub use diff::{Changes, diff};
pub use entry::{Checkpoint, Kind, WorkersFile};
pub use index::Chain;
pub use mask::save_mask;
pub use prune::Pruned;
pub use read::{Restored, Velocity};
pub use verify::Verified;
pub use workers::{Part, Worker, Workers, WorkersState, prune_workers, save_workers};
pub use write::{Values, Writer};

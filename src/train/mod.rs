//! A training run: epochs, evaluation, events, checkpoints.

mod evaluate;
mod events;
mod folder;
pub mod listeners;
mod merging;
mod run;
mod saving;
mod selection;
mod steps;
pub mod summary;
mod timetable;
mod trainer;
mod update;
mod worker;
mod worker_state;

pub use crate::optim::UpdateRule as Rule;
pub use evaluate::evaluate;
pub use events::{EpochReport, Event, Exchange, Listener, MaskReport, MergeReport, Outcome};
pub use folder::{FolderError, RunFolder};
pub use run::{Stop, batches, run, scoring_plan};

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] crate::device::Error),
    /// The model cannot be built.
    #[error(transparent)]
    Graph(#[from] crate::graph::Error),
    /// The loss is infinite or not a number.
    #[error(
        "the loss is no longer finite at epoch {epoch}, step {step}, {place} (lr {lr:.4}, mean loss before {last_loss:.4}): \
         try a lower --lr or a later --peak-epoch; checkpoints before it are kept"
    )]
    NotFinite {
        /// From 1.
        epoch: u32,
        /// From 1.
        step: u32,
        /// The schedule's value.
        lr: f64,
        /// Where a value that is not finite first appeared, in words.
        place: String,
        /// Mean over the epoch's steps before; not a number at its first.
        last_loss: f64,
    },
    /// The device has too little memory.
    #[error(
        "{model} of width {width} with batches of {batch_size} takes {needed} MB, and {device} has {free} MB free: \
         choose a smaller --batch-size or --width{}",
        if *workers > 1 { ", or fewer --workers" } else { "" }
    )]
    NoRoom {
        /// The network.
        model: crate::graph::Model,
        /// Its stem channels.
        width: usize,
        /// Images in a training step.
        batch_size: usize,
        /// Workers that share the device.
        workers: usize,
        /// 10^6 bytes, as `--summary` counts.
        needed: usize,
        /// The device.
        device: String,
        /// 10^6 bytes.
        free: usize,
    },
    /// Workers could not exchange.
    #[error(transparent)]
    Distributed(#[from] crate::distributed::Error),
    /// No mask keeps what is asked for.
    #[error(transparent)]
    Mask(#[from] crate::mask::Error),
    /// The checkpoint to resume from is of other workers.
    #[error(
        "the checkpoint holds {found} workers, and the run has {expected}: go on with as many as it was begun with"
    )]
    Workers {
        /// Of the run.
        expected: usize,
        /// Of the checkpoint.
        found: usize,
    },
    /// The checkpoint to resume from has values alone.
    #[error("the run's checkpoints hold no velocities (--checkpoint-state off): it cannot be gone on with")]
    NoVelocity,
    /// The checkpoint to resume from is the last.
    #[error("all {epochs} epochs are done: there is nothing left to train")]
    NothingLeft {
        /// Of the run.
        epochs: u32,
    },
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::Error),
    /// A listener's output cannot be written.
    #[error("cannot write {what}: {source}")]
    Output {
        /// The file, or what is shown.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// A number with commas between its thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

//! Why a run stopped.

use crate::graph::Model;

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
        "the loss is no longer finite at epoch {epoch}, step {step}, {place} (lr {lr:.4}, \
         mean loss before {last_loss:.4}): \
         try a lower --lr or a later --peak-epoch; checkpoints before it are kept"
    )]
    NotFinite {
        /// The epoch, from 1.
        epoch: u32,
        /// The step of the epoch, from 1.
        step: u32,
        /// The schedule's value at that step.
        lr: f64,
        /// The place where a value that is not finite first appeared, in words.
        place: String,
        /// Mean over the epoch's steps before; not a number at its first.
        last_loss: f64,
    },
    /// The device has too little memory.
    #[error(
        "{model} of width {width} with batches of {batch_size} takes {needed} MB, and {device} has \
         {free} MB free: \
         choose a smaller --batch-size or --width{}",
        if *workers > 1 { ", or fewer --workers" } else { "" }
    )]
    NoRoom {
        /// The network's family.
        model: Model,
        /// Channels of its stem.
        width: usize,
        /// Images in a training step.
        batch_size: usize,
        /// Workers that share the device.
        workers: usize,
        /// Memory that the run takes, in units of 10^6 bytes, as `--summary` counts it.
        needed: usize,
        /// The device in words.
        device: String,
        /// Memory that the device has left, in units of 10^6 bytes.
        free: usize,
    },
    /// Workers could not exchange.
    #[error(transparent)]
    Distributed(#[from] crate::distributed::Error),
    /// No mask keeps what is asked for.
    #[error(transparent)]
    Mask(#[from] crate::mask::Error),
    /// The run is to train under a mask that it was not given.
    #[error("the run trains under a mask of a file, and none was read")]
    NoMask,
    /// The checkpoint to resume from is of another number of workers.
    #[error(
        "the checkpoint holds {found} workers, and the run has {expected}: resume it with as many as it was \
         begun with"
    )]
    Workers {
        /// Workers of the run.
        expected: usize,
        /// Workers of the checkpoint.
        found: usize,
    },
    /// The checkpoint to resume from holds no velocity.
    #[error("the run's checkpoints hold no velocities (--checkpoint-state off): the run cannot be resumed")]
    NoVelocity,
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

//! A training run: epochs, evaluation, events, checkpoints.

mod config;
mod evaluate;
mod events;
mod run;

pub use config::Config;
pub use evaluate::evaluate;
pub use events::{EpochReport, Event, Listener, Outcome};
pub use run::{Stop, batches, run};

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] crate::backend::Error),
    /// The model cannot be built.
    #[error(transparent)]
    Graph(#[from] crate::graph::Error),
    /// A checkpoint or the weights cannot be written.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::Error),
    /// The loss is infinite or not a number.
    #[error(
        "the loss is no longer finite at epoch {epoch}, step {step} (lr {lr:.4}, mean loss before {last_loss:.4}): \
         try a lower --lr or a later --peak-epoch; the last checkpoint is kept"
    )]
    NotFinite {
        /// From 1.
        epoch: u32,
        /// From 1.
        step: u32,
        /// The schedule's value.
        lr: f64,
        /// Mean over the epoch's steps before; not a number at its first.
        last_loss: f64,
    },
    /// The checkpoint to resume from is the last.
    #[error("all {epochs} epochs are done: there is nothing left to train")]
    NothingLeft {
        /// Of the run.
        epochs: u32,
    },
}

//! A training run: epochs, evaluation, events, checkpoints.

mod config;
mod events;

pub use config::Config;
pub use events::{EpochReport, Event, Listener, Outcome};

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] crate::backend::Error),
    /// The model cannot be built.
    #[error(transparent)]
    Graph(#[from] crate::graph::Error),
}

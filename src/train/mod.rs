//! A training run: epochs, evaluation, events, checkpoints.

pub mod config;
mod events;
mod folder;
pub mod listeners;
mod preset;
pub mod summary;

pub use config::{Config, ConfigError, DataSource, Device, Flags};
pub use events::{EpochReport, Event, Listener, Outcome};
pub use folder::{FolderError, RunFolder};
pub use preset::Preset;

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] crate::backend::Error),
    /// The model cannot be built.
    #[error(transparent)]
    Graph(#[from] crate::graph::Error),
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::Error),
    /// A listener's output cannot be written.
    #[error("cannot write {what}: {error}")]
    Output {
        /// The file, or what is shown.
        what: &'static str,
        /// The system's reason.
        error: std::io::Error,
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

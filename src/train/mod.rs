//! The loop of a run: epochs of steps, merges, selections of masks, evaluation, and the events that tell of
//! them.
//!
//! What is written during a run goes through the trait [`Keep`], what is shown through [`Listener`]s: this
//! module knows no file's format.

mod clock;
mod error;
mod evaluate;
mod events;
mod keep;
mod laps;
mod model;
mod plans;
mod team;
mod timetable;
mod trainer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::checkpoint::chain::Restored;
use crate::data::Dataset;
use crate::distributed::Communicator;
use crate::optim::TrainingBackend;
use crate::settings::Config;
use trainer::{Epoch, Trainer};

pub use error::Error;
pub use evaluate::evaluate;
pub use events::{EpochReport, Event, Exchange, Listener, MaskReport, MergeReport, Outcome, Started};
pub use keep::{Keep, Snapshot, WorkerSource};
pub use plans::{Memory, Plans};

/// A flag that stops a run after the step it is in: 0, or the number of the signal that a handler stored.
#[derive(Clone, Debug, Default)]
pub struct Stop(pub Arc<AtomicUsize>);

impl Stop {
    fn signal(&self) -> Option<i32> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal as i32),
        }
    }
}

/// Everything that a run is made of, besides its device.
pub struct Training<'a> {
    /// The settings.
    pub config: &'a Config,
    /// The images, of which the training split is used whole: cut it to the setting `data.images` before.
    pub dataset: Dataset,
    /// The checkpoint that the run resumes from.
    pub resume: Option<Restored>,
    /// What binds as many workers as the settings say. Where it binds other processes, every process trains
    /// with the same settings and images, but only the root's `resume`, `keep` and `listeners` count.
    pub comm: Box<dyn Communicator>,
    /// Writes what must be kept.
    pub keep: &'a mut dyn Keep,
    /// Are told what happens, in this order.
    pub listeners: Vec<Box<dyn Listener + 'a>>,
}

/// Trains to the end, or until `stop` is set, when a checkpoint is written that the run can be resumed from.
///
/// # Errors
/// When the device or another process fails, a file cannot be written, a listener fails, or the loss is no
/// longer finite.
pub fn train<B: TrainingBackend>(backend: B, mut training: Training, stop: &Stop) -> Result<Outcome, Error> {
    let began = Instant::now();
    let config = training.config;
    training.resume = team::spread(&mut *training.comm, training.resume)?;
    let epochs = config.train.epochs;
    if training.resume.as_ref().is_some_and(|restored| restored.progress.at.epoch >= epochs) {
        return Err(Error::NothingLeft { epochs });
    }
    let mut trainer = Trainer::new(backend, training, began)?;
    let outcome = loop {
        match trainer.epoch(stop)? {
            Epoch::Done(report) if report.epoch == epochs => break Outcome::Finished(report),
            Epoch::Done(_) => {}
            Epoch::Stopped(signal) => {
                if config.is_resumable() {
                    trainer.checkpoint()?;
                }
                break Outcome::Interrupted(signal);
            }
        }
    };
    trainer.end(&outcome)?;
    Ok(outcome)
}

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
mod stop;
mod team;
mod timetable;
mod trainer;

use std::time::Instant;

use crate::checkpoint::chain::Restored;
use crate::data::Dataset;
use crate::distributed::Communicator;
use crate::mask::Mask;
use crate::optim::TrainingBackend;
use crate::settings::Config;
use trainer::{Epoch, Trainer};

pub use error::Error;
pub use evaluate::evaluate;
pub use events::{EpochReport, Event, Exchange, Listener, MaskReport, MergeReport, Outcome, Started};
pub use keep::{Keep, Snapshot, WorkerSource};
pub use plans::{Memory, Plans, check_room};
pub use stop::{Cause, Stop};

/// What a run starts from, where that is not what its seed gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Start {
    /// All weights, in memory order, and all running statistics; none for the initial ones of the seed.
    pub model: Option<(Vec<f32>, Vec<f32>)>,
    /// The mask of a run whose kind of mask is [`Kind::File`](crate::mask::Kind::File).
    pub mask: Option<Mask>,
}

/// Everything that a run is made of, besides its device.
pub struct Training<'a> {
    /// The settings.
    pub config: &'a Config,
    /// The images, of which the training split is used whole: cut it to the setting `data.images` before.
    pub dataset: Dataset,
    /// What the run starts from.
    pub start: Start,
    /// The checkpoint that the run resumes from.
    pub resume: Option<Restored>,
    /// What binds as many workers as the settings say. Where it binds other processes, every process trains
    /// with the same settings, images and start, but only the root's `resume`, `keep` and `listeners` count.
    pub comm: Box<dyn Communicator>,
    /// Writes what must be kept.
    pub keep: &'a mut dyn Keep,
    /// Record what happens: an epoch before its checkpoint is written.
    pub recorders: Vec<Box<dyn Listener + 'a>>,
    /// Show what happens, in this order: an epoch when it is safely kept.
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
        training.comm.finish()?;
        return Ok(Outcome::NothingLeft { epochs });
    }
    let mut trainer = Trainer::new(backend, training, began)?;
    let outcome = loop {
        match trainer.epoch(stop)? {
            Epoch::Done(report) if report.epoch == epochs => break Outcome::Finished(report),
            Epoch::Done(_) => {}
            Epoch::Stopped(cause) => {
                if config.is_resumable() {
                    trainer.checkpoint()?;
                }
                break Outcome::Interrupted(cause);
            }
        }
    };
    trainer.end(&outcome)?;
    Ok(outcome)
}

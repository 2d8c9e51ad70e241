//! A run: from a configuration and data to trained weights.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::trainer::{Epoch, Trainer};
use super::{Error, Event, Listener, Outcome};
use crate::checkpoint::chain::Restored;
use crate::data::Dataset;
use crate::distributed::{Communicator, InProcess};
use crate::graph::network::Batches;
use crate::graph::{self, Graph, Plan};
use crate::mask::kinds::fisher;
use crate::optim::TrainingBackend;
use crate::settings::Config;

/// Images in an evaluation step, at most.
const EVALUATION_BATCH: usize = 500;

/// Set by a signal handler to its signal's number; a run stops after the step it is in.
#[derive(Clone, Debug, Default)]
pub struct Stop(pub Arc<AtomicUsize>);

impl Stop {
    pub(super) fn signal(&self) -> Option<i32> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal as i32),
        }
    }
}

/// The batches of a run.
pub fn batches(config: &Config) -> Batches {
    Batches { training: Some(config.train.batch_size), inference: EVALUATION_BATCH }
}

/// The plan by which samples are scored, of a run whose mask is chosen by scores.
///
/// # Errors
/// As [`Plan::new`].
pub fn scoring_plan(config: &Config, graph: &Graph) -> Result<Option<Plan>, graph::Error> {
    let scored = config.masked().filter(|mask| mask.kind.needs_samples());
    scored.map(|mask| fisher::plan(graph, mask.samples)).transpose()
}

/// Trains as `config` says, from the beginning or from `resume`, and writes checkpoints and `final.safetensors` into
/// `folder`, which exists.
///
/// The training split is used whole: cut it to [`crate::settings::DataSettings::images`] before. Several workers all train in this process
/// unless `comm` binds it to others: then every process calls this with the same configuration and data, but only the root's
/// `folder`, `resume` and `listeners` are used. `comm` has as many workers as `config`.
///
/// # Errors
/// When the device fails, a file cannot be written, a listener fails, the loss is no longer finite, or another process
/// fails.
#[allow(clippy::too_many_arguments)] // What a run is made of.
pub fn run<B: TrainingBackend>(
    backend: B,
    config: &Config,
    dataset: Dataset,
    folder: &Path,
    resume: Option<Restored>,
    comm: Option<Box<dyn Communicator>>,
    listeners: &mut [&mut dyn Listener],
    stop: &Stop,
) -> Result<Outcome, Error> {
    let began = Instant::now();
    let (mut comm, mut alone) = match config.several() {
        None => (None, comm),
        Some(workers) => (Some(comm.unwrap_or_else(|| Box::new(InProcess::new(workers.count)))), None),
    };
    let resume = match &mut comm {
        Some(comm) => super::worker_state::spread(&mut **comm, resume)?,
        None => resume,
    };
    if resume.as_ref().is_some_and(|restored| restored.progress.at.epoch >= config.train.epochs) {
        return Err(Error::NothingLeft { epochs: config.train.epochs });
    }
    let mut trainer = Trainer::new(backend, config, dataset, folder, resume, comm, listeners)?;
    trainer.state.total_seconds += began.elapsed().as_secs_f64();
    let outcome = loop {
        match trainer.epoch(stop)? {
            Epoch::Done(report) if report.epoch == config.train.epochs => break Outcome::Finished(report),
            Epoch::Done(_) => {}
            Epoch::Stopped(signal) => {
                if config.is_resumable() {
                    trainer.checkpoint()?;
                }
                break Outcome::Interrupted(signal);
            }
        }
    };
    trainer.tell(&Event::Ended { outcome: &outcome, folder })?;
    let comm = trainer.merging.as_mut().map(|merging| &mut merging.comm);
    comm.or(alone.as_mut()).map_or(Ok(()), |comm| comm.finish())?;
    Ok(outcome)
}

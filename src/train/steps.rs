//! Training from one merge to the next.

use std::time::Instant;

use super::run::Stop;
use super::trainer::Trainer;
use super::worker::Worker;
use super::{Error, Event, MergeReport};
use crate::checkpoint::Moment;
use crate::device::Place;
use crate::graph::{Network, Statistics};
use crate::ops::Position;
use crate::optim::{Sgd, TrainingBackend};
use crate::settings::{Config, OptimizerSettings};

impl<B: TrainingBackend> Trainer<'_, '_, B> {
    /// Every worker trains up to the next merge or the epoch's end, one after another. Told to stop, the first stops after
    /// its step, and the others where it stands; a process that is not alone stops at the next agreement.
    pub(super) fn segment(&mut self, stop: &Stop) -> Result<(), Error> {
        let mut until = self.timetable.next(self.state.at);
        let alone = self.is_alone();
        let mut workers = std::mem::take(&mut self.workers);
        let trained = workers.iter_mut().enumerate().try_for_each(|(place, worker)| {
            until = self.train(worker, place, until, (alone && place == 0).then_some(stop))?;
            Ok(())
        });
        self.workers = workers;
        self.state.at.step = until;
        trained
    }

    /// Trains the worker in this place of the process up to step `until` of the epoch, or less if told to stop. Returns
    /// where it stands.
    fn train(
        &mut self,
        worker: &mut Worker<B>,
        place: usize,
        until: u32,
        stop: Option<&Stop>,
    ) -> Result<u32, Error> {
        let mut began = Instant::now();
        let Moment { epoch, step: from } = self.state.at;
        let (steps, n) = (self.timetable.steps, self.config.train.batch_size);
        let rates: Vec<f32> = (1..=steps).map(|step| (self.lr(step) / n as f64) as f32).collect();
        let backend = self.network.backend();
        backend.set_totals(worker.totals)?;
        backend.set_rates(&rates, from as usize)?;
        backend.seek(&mut worker.data, Position { epoch, image: from as usize * n })?;
        let local = self.merging.as_ref().map_or(1, |merging| merging.comm.local().len()) as u32;
        let mut done = from;
        while done < until {
            worker.with(&mut self.network, |network, worker| step(network, worker, self.config))?;
            done += 1;
            if !B::QUEUES {
                self.read_totals(worker, done)?;
            }
            self.state.train_seconds += began.elapsed().as_secs_f64();
            // As if the workers before it had got to the end, and those after it not begun.
            let step = from * local + place as u32 * (until - from) + (done - from);
            self.tell(&Event::Step { epoch: epoch + 1, step, steps: steps * local, batch: n })?;
            began = Instant::now();
            if stop.is_some_and(|stop| stop.signal().is_some()) {
                break;
            }
        }
        self.read_totals(worker, done)?;
        self.state.train_seconds += began.elapsed().as_secs_f64();
        Ok(done)
    }

    /// Learns what a worker's steps so far have summed to.
    fn read_totals(&mut self, worker: &mut Worker<B>, done: u32) -> Result<(), Error> {
        let (totals, fault) = (self.network.backend().totals()?, self.network.backend().fault()?);
        if totals.loss.is_finite() && fault.is_none() {
            worker.totals = totals;
            return Ok(());
        }
        let step = fault.map_or(done, |fault| fault.step + 1);
        let mut place = self.describe(fault.map(|fault| fault.place));
        if let Some(merging) = &self.merging {
            place += &format!(" of {}", merging.comm.name(worker.rank));
        }
        let before = worker.totals;
        Err(Error::NotFinite {
            epoch: self.state.at.epoch + 1,
            step,
            lr: self.lr(step),
            place,
            last_loss: before.loss / before.images as f64,
        })
    }

    /// A place in the network's own names.
    fn describe(&self, place: Option<Place>) -> String {
        let statistics = &self.network.graph().layout.statistics;
        let name = |at: usize| {
            let statistic = statistics.iter().find(|statistic| statistic.range().start == at);
            statistic.map_or_else(|| format!("statistic {at}"), |statistic| statistic.name.clone())
        };
        match place {
            Some(Place::Forward(at)) => format!("first in the input of {}", name(at)),
            Some(Place::Backward(at)) => format!("first in the gradient of {}", name(at)),
            Some(Place::Logits) => "first in the logits".into(),
            None => "in the sum of the losses".into(),
        }
    }

    /// Finds out whether any process was told to stop, by which signal, and that all are where this one is.
    pub(super) fn agree(&mut self, stop: &Stop) -> Result<Option<i32>, Error> {
        let Moment { epoch, step } = self.state.at;
        match &mut self.merging {
            None => Ok(stop.signal()),
            Some(merging) => {
                let at = [epoch.to_le_bytes(), step.to_le_bytes()].concat();
                Ok(merging.comm.agree("the place in the training", &at, stop.signal())?)
            }
        }
    }

    pub(super) fn merge(&mut self) -> Result<(), Error> {
        let Trainer { network, workers, merging, state, .. } = self;
        let Some(merging) = merging else { return Ok(()) };
        let began = Instant::now();
        merging.merge(network, workers)?;
        let seconds = began.elapsed().as_secs_f64();
        let report = MergeReport { epoch: state.at.epoch + 1, step: state.at.step, seconds };
        self.tell(&Event::Merge(&report))
    }
}

/// A training step of a worker, whose weights the network has.
fn step<B: TrainingBackend>(
    network: &mut Network<B>,
    worker: &mut Worker<B>,
    config: &Config,
) -> Result<(), Error> {
    let n = config.train.batch_size;
    let OptimizerSettings { momentum, weight_decay, .. } = config.optimizer;
    let sgd = Sgd { momentum: momentum as f32, weight_decay: (weight_decay * n as f64) as f32 };
    let Worker { update, data, recording, .. } = worker;
    Ok(network.replay(recording, |network| {
        network.draw_batch(true, data, n)?;
        network.forward(true, Statistics::Batch, n, config.train.label_smoothing as f32)?;
        network.backward(n)?;
        update.step(network, &sgd)
    })?)
}

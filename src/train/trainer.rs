//! The loop of a run: steps, merges, masks, evaluation, checkpoints.

use std::path::PathBuf;
use std::time::Instant;

use super::clock::Clock;
use super::events::{Audience, EpochReport, Event, MaskReport, MergeReport, Started};
use super::laps::Lap;
use super::model::SharedModel;
use super::team::{Team, Watch, view};
use super::{Cause, Error, Keep, Plans, Stop, Training};
use crate::checkpoint::chain::Restored;
use crate::checkpoint::{Hash, Progress};
use crate::mask::{Choice, Draw, Mask, Order, Samples, select};
use crate::ops::Totals;
use crate::optim::{TrainingBackend, UpdateRule};
use crate::settings::Config;

/// How an epoch ended.
pub(super) enum Epoch {
    /// All its steps are done, and the model is evaluated.
    Done(EpochReport),
    /// It was stopped.
    Stopped(Cause),
}

/// A run under way.
pub(super) struct Trainer<'a, B: TrainingBackend> {
    config: &'a Config,
    /// The mask that the run was given, if it does not choose its own.
    given: Option<Mask>,
    model: SharedModel<B>,
    team: Team<B>,
    clock: Clock,
    keep: &'a mut dyn Keep,
    audience: Audience<'a>,
}

impl<'a, B: TrainingBackend> Trainer<'a, B> {
    /// Allocates everything, takes up the checkpoint that is resumed, and tells the listeners that training
    /// begins.
    ///
    /// # Errors
    /// When the device has no room, a file cannot be read or written, or another process fails.
    pub fn new(backend: B, training: Training<'a>, began: Instant) -> Result<Self, Error> {
        let Training { config, dataset, start, resume, comm, keep, recorders, listeners } = training;
        let (plans, set) = (Plans::<B>::new(config)?, dataset.set());
        let images = [dataset.train.len(), dataset.test.len()];
        let (weights, running) = match &resume {
            Some(restored) => (restored.weights.clone(), restored.running.clone()),
            None => start.model.unwrap_or_else(|| plans.graph.layout.initial_model(config.train.seed)),
        };
        let progress = resume.as_ref().map_or_else(Progress::default, |restored| restored.progress);
        let resumed = resume.as_ref().map(|restored| restored.progress.at);
        let audience = Audience { recorders, listeners, root: comm.is_root() };
        let mut model = SharedModel::new(backend, plans, dataset.test, (&weights, &running))?;
        let team = Team::new(comm, config, model.network(), dataset.train)?;
        let steps = (team.images() / config.train.batch_size) as u32;
        let clock = Clock::new(config, steps, &progress, began);
        let mut trainer = Trainer { config, given: start.mask, model, team, clock, keep, audience };
        if let Some(restored) = resume {
            trainer.resume(restored)?;
        }
        // From here on it is a run that can be resumed.
        trainer.keep.begin()?;
        let network = trainer.model.network();
        let (device, workers) = (network.backend().device(), trainer.team.names());
        trainer.audience.tell(&Event::Started(&Started {
            config,
            device: &device,
            data: set,
            images,
            steps,
            workers: &workers,
            parameters: network.graph().layout.weight_count(),
            resumed,
            folder: trainer.keep.folder(),
        }))?;
        trainer.clock.laps().switch(Lap::Other);
        Ok(trainer)
    }

    /// Takes up a checkpoint's mask, velocities and totals; the network has its weights already.
    fn resume(&mut self, restored: Restored) -> Result<(), Error> {
        let Trainer { config, model, team, clock, keep, .. } = self;
        let network = model.network();
        if let (Some(mask), true) = (&restored.mask, config.is_masked()) {
            let weights = network.graph().layout.weight_count();
            team.restrict(network, Mask::new(mask.clone(), weights)?)?;
        }
        team.restore(network, &restored, config.network, clock.laps())?;
        match team.mask() {
            Some(mask) => keep.mask(mask, &mut view(network)),
            None => Ok(()),
        }
    }

    /// Trains and evaluates an epoch, or the rest of it.
    ///
    /// # Errors
    /// When the device, a listener or another process fails, a file cannot be written, or the loss is no
    /// longer finite.
    pub fn epoch(&mut self, stop: &Stop) -> Result<Epoch, Error> {
        while !self.clock.epoch_is_trained() {
            if self.clock.selects()
                && let Some(cause) = self.select_mask(stop)?
            {
                return Ok(Epoch::Stopped(cause));
            }
            let Trainer { config, model, team, clock, audience, .. } = self;
            team.train(model.network(), config, clock, stop, audience)?;
            let at = clock.at();
            let place = [at.epoch.to_le_bytes(), at.step.to_le_bytes()].concat();
            let cause = team.agree(clock.laps(), "the place in the training", &place, stop.cause())?;
            if clock.merges() {
                self.merge()?;
            }
            if let Some(cause) = cause {
                return Ok(Epoch::Stopped(cause));
            }
        }
        self.clock.laps().switch(Lap::Test);
        let Trainer { model, team, audience, .. } = self;
        let test = match team.evaluate(model, stop, audience)? {
            Ok(test) => test,
            Err(cause) => return Ok(Epoch::Stopped(cause)),
        };
        self.clock.laps().switch(Lap::Other);
        let report = self.report(test)?;
        self.clock.next_epoch(report.test_accuracy);
        // What keeps comes before what shows, and the final weights before the checkpoint that says nothing
        // is left to do.
        self.audience.record(&Event::Epoch(&report))?;
        let last = report.epoch == self.config.train.epochs;
        self.keep.epoch(&report, &mut view(self.model.network()))?;
        if last {
            self.keep.end(&mut view(self.model.network()))?;
        }
        let kept = match last || report.epoch.is_multiple_of(self.config.checkpoint.every) {
            true => self.write_checkpoint()?,
            false => None,
        };
        self.audience.show(&Event::Epoch(&report))?;
        kept.map_or(Ok(()), |path| self.audience.tell(&Event::Checkpoint(&path)))?;
        Ok(Epoch::Done(report))
    }

    /// The report of the epoch that has just been trained and evaluated.
    fn report(&mut self, test: Totals) -> Result<EpochReport, Error> {
        let Trainer { model, team, clock, .. } = self;
        let train = team.train_totals(clock.laps())?;
        let mean = |totals: Totals| totals.loss / totals.images as f64;
        let percent = |totals: Totals| 100.0 * totals.correct as f64 / totals.images as f64;
        let [train_seconds, test_seconds] = [Lap::Train, Lap::Test].map(|lap| clock.laps().seconds(lap));
        Ok(EpochReport {
            epoch: clock.at().epoch + 1,
            lr: clock.lr(clock.steps()),
            train_loss: mean(train),
            train_accuracy: percent(train),
            test_loss: mean(test),
            test_accuracy: percent(test),
            train_seconds,
            test_seconds,
            total_seconds: clock.total_seconds(),
            images_per_second: train.images as f64 / train_seconds,
            kept: team.mask().map_or(model.network().graph().layout.weight_count(), Mask::len),
            exchange: team.end_epoch(clock.laps()),
        })
    }

    /// Workers put their changes together.
    fn merge(&mut self) -> Result<(), Error> {
        let Trainer { model, team, clock, audience, .. } = self;
        let began = Instant::now();
        team.merge(model.network(), clock.laps())?;
        let (at, seconds) = (clock.at(), began.elapsed().as_secs_f64());
        audience.tell(&Event::Merge(&MergeReport { epoch: at.epoch + 1, step: at.step, seconds }))
    }

    /// Selects a mask, by all workers together, and trains only what it keeps from now on. Returns what has
    /// stopped it, if anything has.
    fn select_mask(&mut self, stop: &Stop) -> Result<Option<Cause>, Error> {
        let began = Instant::now();
        self.clock.laps().switch(Lap::Train);
        if self.config.mask.rule == UpdateRule::Strict {
            match self.team.mask() {
                // The values of the masks to come build on these weights.
                None => self.write_base()?,
                // The last values of a mask are kept before another takes its place.
                Some(_) if !self.clock.is_kept() => self.checkpoint()?,
                Some(_) => {}
            }
        }
        let mask = match self.choose(stop)? {
            Ok(Some(mask)) => mask,
            Ok(None) => return Ok(None),
            Err(cause) => return Ok(Some(cause)),
        };
        let Trainer { config, model, team, clock, keep, audience, .. } = self;
        let hash = Hash::of_indices(mask.indices()).to_string();
        team.agree(clock.laps(), "the mask", hash.as_bytes(), None)?;
        let weights = mask.weight_count();
        let report = MaskReport {
            epoch: clock.at().epoch + 1,
            kind: config.mask.kind,
            samples: config.mask.samples,
            kept: mask.len(),
            weights,
            stayed: team.mask().map(|before| before.shared(&mask, &(0..weights))),
            seconds: began.elapsed().as_secs_f64(),
        };
        let network = model.network();
        team.restrict(network, mask)?;
        if let Some(mask) = team.mask() {
            keep.mask(mask, &mut view(network))?;
        }
        clock.laps().switch(Lap::Other);
        audience.tell(&Event::Mask(&report))?;
        Ok(None)
    }

    /// Chooses the weights to keep, as the kind of mask has it; none for a kind that keeps all. The inner
    /// error is what has stopped it.
    fn choose(&mut self, stop: &Stop) -> Result<Result<Option<Mask>, Cause>, Error> {
        let Trainer { config, given, model, team, clock, audience, .. } = self;
        let (settings, seed, number) = (&config.mask, config.train.seed, clock.draw());
        let mut quota = || config.workers.quota(settings, &model.network().graph().layout);
        Ok(Ok(match settings.kind.choice() {
            Choice::Nothing => None,
            Choice::Given => Some(given.clone().ok_or(Error::NoMask)?),
            Choice::ByNetwork(scores) => {
                let quota = quota()?;
                let network = model.network();
                let scores = scores(network, &Draw { quota, seed, number })?;
                Some(select::largest(network, &scores, quota)?)
            }
            Choice::BySamples => {
                let quota = quota()?;
                let rule = settings.rule(clock.at().epoch);
                let (order, count) = (Order::Shuffled, settings.samples);
                let samples = Samples { first: 0, count, order, augment: true, seed, epoch: number };
                let mut watch = Watch { stop, audience };
                if let Some(cause) = team.score(model, rule, samples, clock.laps(), &mut watch)? {
                    return Ok(Err(cause));
                }
                model.largest(quota)?
            }
        }))
    }

    /// Writes a checkpoint, and says so.
    ///
    /// # Errors
    /// When it cannot be written, or the device, a listener or another process fails.
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        match self.write_checkpoint()? {
            Some(path) => self.audience.tell(&Event::Checkpoint(&path)),
            None => Ok(()),
        }
    }

    /// Writes a checkpoint. Returns its file, at the root.
    fn write_checkpoint(&mut self) -> Result<Option<PathBuf>, Error> {
        let Trainer { model, team, clock, keep, .. } = self;
        team.checkpoint(model.network(), clock, *keep)
    }

    /// Writes all weights, for deltas to build on, and says so.
    fn write_base(&mut self) -> Result<(), Error> {
        let Trainer { model, clock, keep, audience, .. } = self;
        let progress = clock.progress(Totals::default());
        match keep.base(&progress, &mut view(model.network()))? {
            Some(path) => audience.tell(&Event::Checkpoint(&path)),
            None => Ok(()),
        }
    }

    /// Tells the listeners how the run ended, and ends in order together with the other processes.
    ///
    /// # Errors
    /// When a listener fails, or another process does not come.
    pub fn end(mut self, outcome: &super::Outcome) -> Result<(), Error> {
        self.audience.tell(&Event::Ended { outcome, folder: self.keep.folder() })?;
        self.team.finish()
    }
}

//! The loop of a run: steps, merges, masks, evaluation, checkpoints.

use std::time::Instant;

use super::clock::Clock;
use super::events::{Audience, EpochReport, Event, MaskReport, MergeReport, Started};
use super::laps::Lap;
use super::model::SharedModel;
use super::team::{Team, view};
use super::{Error, Keep, Plans, Stop, Training};
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
    /// The signal of this number stopped it.
    Stopped(i32),
}

/// A run under way.
pub(super) struct Trainer<'a, B: TrainingBackend> {
    config: &'a Config,
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
        let Training { config, dataset, resume, comm, keep, listeners } = training;
        let (plans, set) = (Plans::<B>::new(config)?, dataset.set());
        let images = [dataset.train.len(), dataset.test.len()];
        let local = comm.local().len();
        check_room(&backend, config, &plans, local, images)?;
        let (weights, running) = match &resume {
            Some(restored) => (restored.weights.clone(), restored.running.clone()),
            None => {
                let layout = &plans.graph.layout;
                (layout.initial_weights(config.train.seed), layout.initial_statistics())
            }
        };
        let progress = resume.as_ref().map_or_else(Progress::default, |restored| restored.progress);
        let resumed = resume.as_ref().map(|restored| restored.progress.at);
        let audience = Audience { listeners, root: comm.is_root() };
        let mut model = SharedModel::new(backend, plans, dataset.test, (&weights, &running))?;
        let team = Team::new(comm, config, model.network(), dataset.train)?;
        let steps = (team.images() / config.train.batch_size) as u32;
        let clock = Clock::new(config, steps, &progress, began);
        let mut trainer = Trainer { config, model, team, clock, keep, audience };
        if let Some(restored) = resume {
            trainer.resume(restored)?;
        }
        let network = trainer.model.network();
        let (device, workers) = (network.backend().device(), trainer.team.names());
        trainer.audience.tell(&Event::Started(&Started {
            config,
            device: &device,
            data: set.name,
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
            if self.clock.selects() {
                self.select_mask()?;
            }
            let Trainer { config, model, team, clock, audience, .. } = self;
            team.train(model.network(), config, clock, stop, audience)?;
            let at = clock.at();
            let place = [at.epoch.to_le_bytes(), at.step.to_le_bytes()].concat();
            let signal = team.agree(clock.laps(), "the place in the training", &place, stop.signal())?;
            if clock.merges() {
                self.merge()?;
            }
            if let Some(signal) = signal {
                return Ok(Epoch::Stopped(signal));
            }
        }
        self.clock.laps().switch(Lap::Test);
        let test = self.team.evaluate(&mut self.model, stop)?;
        self.clock.laps().switch(Lap::Other);
        let Some(test) = test else { return Ok(Epoch::Stopped(stop.signal().unwrap_or(0))) };
        let report = self.report(test)?;
        self.clock.next_epoch(report.test_accuracy);
        self.audience.tell(&Event::Epoch(&report))?;
        let last = report.epoch == self.config.train.epochs;
        if last {
            // Before the checkpoint that says nothing is left to do.
            self.keep.end(&mut view(self.model.network()))?;
        }
        if last || report.epoch.is_multiple_of(self.config.checkpoint.every) {
            self.checkpoint()?;
        }
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

    /// Selects a mask, by all workers together, and trains only what it keeps from now on.
    fn select_mask(&mut self) -> Result<(), Error> {
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
        let Some(mask) = self.choose()? else { return Ok(()) };
        let Trainer { config, model, team, clock, keep, audience } = self;
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
        audience.tell(&Event::Mask(&report))
    }

    /// Chooses the weights to keep, as the kind of mask has it; none for a kind that keeps all.
    fn choose(&mut self) -> Result<Option<Mask>, Error> {
        let Trainer { config, model, team, clock, .. } = self;
        let (settings, seed, number) = (&config.mask, config.train.seed, clock.draw());
        let quota = config.workers.quota(settings, &model.network().graph().layout)?;
        Ok(match settings.kind.choice() {
            Choice::Nothing => None,
            Choice::ByNetwork(scores) => {
                let network = model.network();
                let scores = scores(network, &Draw { quota, seed, number })?;
                Some(select::largest(network, &scores, quota)?)
            }
            Choice::BySamples => {
                let rule = settings.rule(clock.at().epoch);
                let (order, count) = (Order::Shuffled, settings.samples);
                let samples = Samples { first: 0, count, order, augment: true, seed, epoch: number };
                team.score(model, rule, samples, clock.laps())?;
                model.largest(quota)?
            }
        })
    }

    /// Writes a checkpoint, and says so.
    ///
    /// # Errors
    /// When it cannot be written, or the device, a listener or another process fails.
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        let Trainer { model, team, clock, keep, audience, .. } = self;
        match team.checkpoint(model.network(), clock, *keep)? {
            Some(path) => audience.tell(&Event::Checkpoint(&path)),
            None => Ok(()),
        }
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

/// Checks that a run fits into the device's memory.
fn check_room<B: TrainingBackend>(
    backend: &B,
    config: &Config,
    plans: &Plans<B>,
    local: usize,
    [train, test]: [usize; 2],
) -> Result<(), Error> {
    let replicas = if config.has_workers() { local } else { 0 };
    // Parts of the images are copies; the whole is shared.
    let held = if config.shards() { local * config.worker_images(train) } else { train };
    let needed = plans.memory(replicas, held + test).total();
    let free = backend.free_bytes()?;
    if needed <= free {
        return Ok(());
    }
    let [needed, free] = [needed, free].map(|bytes| bytes / 1_000_000);
    let (device, batch_size) = (backend.device(), config.train.batch_size);
    let (model, width) = (config.network.model, config.network.width);
    Err(Error::NoRoom { model, width, batch_size, workers: local, needed, device, free })
}

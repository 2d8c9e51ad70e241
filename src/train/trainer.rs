//! Epochs: steps, merges, masks, evaluation, checkpoints.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::merging::Merging;
use super::run::{Stop, batches, scoring_plan};
use super::saving::Saving;
use super::summary::Memory;
use super::timetable::Timetable;
use super::worker::{Worker, shard};
use super::{EpochReport, Error, Event, Listener, evaluate};
use crate::checkpoint::chain::Restored;
use crate::checkpoint::{Moment, Progress};
use crate::data::Dataset;
use crate::distributed::Communicator;
use crate::graph::network::plans;
use crate::graph::{ModelId, Network, Scoring};
use crate::mask::Mask;
use crate::ops::Totals;
use crate::optim::PiecewiseLinear;
use crate::optim::TrainingBackend;
use crate::settings::Config;

/// How an epoch ended.
pub(super) enum Epoch {
    Done(EpochReport),
    /// By this signal.
    Stopped(i32),
}

/// A run under way.
pub(super) struct Trainer<'a, 'l, B: TrainingBackend> {
    pub(super) config: &'a Config,
    /// With a single worker its weights; else the merged model.
    pub(super) network: Network<B>,
    /// Those of this process, by rank.
    pub(super) workers: Vec<Worker<B>>,
    /// What binds several workers.
    pub(super) merging: Option<Merging<B>>,
    /// What the workers keep between them.
    pub(super) mask: Option<Mask>,
    /// Where masks are chosen by scores.
    pub(super) scoring: Option<Scoring<B>>,
    pub(super) test: B::Data,
    /// An evaluation step, where the device records.
    pub(super) evaluation: Option<B::Recording>,
    pub(super) test_images: usize,
    pub(super) timetable: Timetable,
    pub(super) schedule: PiecewiseLinear,
    /// Where the run is; totals are the workers'.
    pub(super) state: Progress,
    /// At the root.
    pub(super) saving: Saving,
    pub(super) listeners: &'a mut [&'l mut dyn Listener],
}

impl<'a, 'l, B: TrainingBackend> Trainer<'a, 'l, B> {
    pub(super) fn new(
        mut backend: B,
        config: &'a Config,
        dataset: Dataset,
        folder: &Path,
        resume: Option<Restored>,
        comm: Option<Box<dyn Communicator>>,
        listeners: &'a mut [&'l mut dyn Listener],
    ) -> Result<Self, Error> {
        let ModelId { model, width, .. } = config.network;
        let graph = config.network.graph()?;
        let plans = plans(&graph, batches(config))?;
        let scoring = scoring_plan(config, &graph)?;
        let images = [dataset.train.len(), dataset.test.len()];
        let local = comm.as_ref().map_or(0..1, |comm| comm.local());
        // Parts are copies; whole splits are shared.
        let held = if config.shards() { local.len() * config.worker_images(images[0]) } else { images[0] };
        let replicas = if comm.is_some() { local.len() } else { 0 };
        let memory = Memory::new::<B>(
            &graph,
            (plans.0.as_ref(), &plans.1),
            scoring.as_ref(),
            replicas,
            held + images[1],
        );
        let free = backend.free_bytes()?;
        if memory.total() > free {
            let batch_size = config.train.batch_size;
            let [needed, free] = [memory.total(), free].map(|bytes| bytes / 1_000_000);
            let (device, workers) = (backend.device(), local.len());
            return Err(Error::NoRoom { model, width, batch_size, workers, needed, device, free });
        }
        let parameters = graph.layout.weight_count();
        let resumed = resume.as_ref().map(|restored| restored.progress.at);
        let (weights, running) = match &resume {
            Some(restored) => (restored.weights.clone(), restored.running.clone()),
            None => (graph.layout.initial_weights(config.train.seed), graph.layout.initial_statistics()),
        };
        let saving = Saving::new(config, &graph.layout, folder, resumed, local.start == 0)?;
        let test = backend.data(&Arc::new(dataset.test), None)?;
        let mut network = Network::new(graph, plans, backend, &weights, &running)?;
        let whole = Arc::new(dataset.train);
        let mut workers = vec![];
        for rank in local {
            let split = match config.shards() {
                true => Arc::new(shard(&whole, config.train.seed, rank, config.workers.count)),
                false => whole.clone(),
            };
            workers.push(Worker::new(&mut network, config, rank, split)?);
        }
        let steps = (workers.first().map_or(0, |worker| worker.split.len()) / config.train.batch_size) as u32;
        let merging = comm.zip(config.several()).map(|(comm, settings)| Merging::new(comm, settings));
        let scoring = scoring.map(|plan| Scoring::new(&mut network, plan)).transpose()?;
        let mut trainer = Trainer {
            config,
            network,
            workers,
            merging,
            mask: None,
            scoring,
            test,
            evaluation: None,
            test_images: images[1],
            timetable: Timetable::new(config, steps),
            schedule: PiecewiseLinear::triangle(
                config.optimizer.lr,
                config.schedule.peak_epoch,
                f64::from(config.train.epochs),
            ),
            state: Progress::default(),
            saving,
            listeners,
        };
        if let Some(restored) = resume {
            trainer.resume(restored)?;
        }
        let (data, device) = (whole.set.name, trainer.network.backend().device());
        let names: Vec<String> = match &trainer.merging {
            Some(merging) => (0..merging.comm.size()).map(|rank| merging.comm.name(rank)).collect(),
            None => vec![],
        };
        trainer.tell(&Event::Started {
            config,
            device: &device,
            data,
            images,
            steps,
            workers: &names,
            parameters,
            resumed,
            folder,
        })?;
        Ok(trainer)
    }

    /// Takes up what a checkpoint holds.
    fn resume(&mut self, restored: Restored) -> Result<(), Error> {
        let weights = self.network.graph().layout.weight_count();
        if let (Some(mask), Some(_)) = (&restored.mask, self.config.masked()) {
            self.restrict(Mask::new(mask.clone(), weights)?)?;
        }
        let Trainer { network, workers, merging, saving, mask, .. } = self;
        self.state = restored.progress;
        saving.resume(network, workers, merging.as_mut(), mask.as_ref(), restored)
    }

    /// Tells the root's listeners.
    pub(super) fn tell(&mut self, event: &Event) -> Result<(), Error> {
        if self.is_root() {
            return self.listeners.iter_mut().try_for_each(|listener| listener.hear(event));
        }
        Ok(())
    }

    fn is_root(&self) -> bool {
        self.merging.as_ref().is_none_or(|merging| merging.comm.is_root())
    }

    /// Whether all workers are in this process, so that it alone decides when to stop.
    pub(super) fn is_alone(&self) -> bool {
        self.merging.as_ref().is_none_or(|merging| merging.comm.local().len() == merging.comm.size())
    }

    /// Trains and evaluates an epoch, or what is left of it.
    pub(super) fn epoch(&mut self, stop: &Stop) -> Result<Epoch, Error> {
        while self.state.at.step < self.timetable.steps {
            self.select_mask()?;
            self.segment(stop)?;
            let signal = self.agree(stop)?;
            if self.timetable.merges(self.state.at) {
                self.merge()?;
            }
            if let Some(signal) = signal {
                return Ok(Epoch::Stopped(signal));
            }
        }
        let began = Instant::now();
        let Some(test) = self.evaluate(stop)? else {
            return Ok(Epoch::Stopped(stop.signal().unwrap_or(0)));
        };
        let test_seconds = began.elapsed().as_secs_f64();
        let report = self.report(test, test_seconds)?;
        let total_seconds = report.total_seconds;
        let test_accuracy = Some(report.test_accuracy);
        self.state = Progress {
            at: Moment::new(report.epoch, 0),
            total_seconds,
            test_accuracy,
            ..Progress::default()
        };
        self.workers.iter_mut().for_each(|worker| worker.totals = Totals::default());
        self.tell(&Event::Epoch(&report))?;
        let last = report.epoch == self.config.train.epochs;
        if last && self.is_root() {
            // Before the checkpoint that says nothing is left to do.
            self.saving.write_final(&self.network)?;
        }
        if last || report.epoch.is_multiple_of(self.config.checkpoint.every) {
            self.checkpoint()?;
        }
        Ok(Epoch::Done(report))
    }

    /// Totals over the test images, at the root; none if told to stop, which a process that is not alone does after a
    /// merge only. Of several workers each evaluates a part: whole batches, so that there are no more of them.
    fn evaluate(&mut self, stop: &Stop) -> Result<Option<Totals>, Error> {
        let alone = self.is_alone();
        let Trainer { network, test, evaluation, test_images, merging, .. } = self;
        let (size, local) =
            merging.as_ref().map_or((1, 0..1), |merging| (merging.comm.size(), merging.comm.local()));
        let (batch, images) = (network.inference().batch, *test_images);
        let start = |rank: usize| (images.div_ceil(batch) * rank / size * batch).min(images);
        let mut parts = vec![];
        for rank in local {
            let go_on = |_: &Network<B>, _| Ok(!alone || stop.signal().is_none());
            match evaluate(network, test, start(rank)..start(rank + 1), evaluation, go_on)? {
                Some(totals) => parts.push(totals),
                None => return Ok(None),
            }
        }
        if let Some(merging) = merging {
            parts = merging.uncounted(|merging| merging.totals(parts))?;
        }
        Ok(Some(parts.into_iter().sum()))
    }

    /// The epoch that has just been trained.
    fn report(&mut self, test: Totals, test_seconds: f64) -> Result<EpochReport, Error> {
        let own: Vec<Totals> = self.workers.iter().map(|worker| worker.totals).collect();
        let train: Totals = match &mut self.merging {
            Some(merging) => merging.totals(own)?,
            None => own,
        }
        .into_iter()
        .sum();
        let mean = |totals: Totals| totals.loss / totals.images as f64;
        let percent = |totals: Totals| 100.0 * totals.correct as f64 / totals.images as f64;
        let exchange = self.merging.as_mut().map(Merging::take);
        let exchanging = exchange.map_or(0.0, |e| e.waiting_seconds + e.exchanging_seconds);
        let Progress { at: Moment { epoch, .. }, train_seconds, total_seconds, .. } = self.state;
        Ok(EpochReport {
            epoch: epoch + 1,
            lr: self.lr(self.timetable.steps),
            train_loss: mean(train),
            train_accuracy: percent(train),
            test_loss: mean(test),
            test_accuracy: percent(test),
            train_seconds,
            test_seconds,
            total_seconds: total_seconds + train_seconds + exchanging,
            images_per_second: train.images as f64 / train_seconds,
            kept: self.mask.as_ref().map_or(self.network.graph().layout.weight_count(), Mask::len),
            exchange,
        })
    }

    /// The schedule's value at step `step`, counted from 1, of the current epoch.
    pub(super) fn lr(&self, step: u32) -> f64 {
        self.schedule.at(f64::from(self.state.at.epoch) + f64::from(step) / f64::from(self.timetable.steps))
    }

    /// Seconds of exchanges in this epoch so far.
    pub(super) fn exchanging(&mut self) -> f64 {
        self.merging.as_mut().map_or(0.0, Merging::seconds)
    }

    /// Where the run is, as a checkpoint keeps it.
    fn progress(&mut self) -> Progress {
        let state = self.state;
        Progress {
            // The time of exchanges is not in the epoch's training time.
            total_seconds: state.total_seconds + self.exchanging(),
            test_accuracy: state.test_accuracy.filter(|_| state.at.step == 0),
            ..state
        }
    }

    pub(super) fn checkpoint(&mut self) -> Result<(), Error> {
        let progress = self.progress();
        let Trainer { network, workers, merging, saving, mask, .. } = self;
        match saving.checkpoint(network, workers, merging.as_mut(), mask.as_ref(), progress)? {
            Some(path) => self.tell(&Event::Checkpoint(&path)),
            None => Ok(()),
        }
    }

    /// Writes all weights, for deltas to build on.
    pub(super) fn write_base(&mut self) -> Result<(), Error> {
        let progress = self.progress();
        match self.saving.write_base(&self.network, progress)? {
            Some(path) => self.tell(&Event::Checkpoint(&path)),
            None => Ok(()),
        }
    }
}

//! The run itself: steps, epochs, evaluation, checkpoints.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::summary::Memory;
use super::update::Update;
use super::{
    CheckpointState, Config, EpochReport, Error, Event, Listener, MaskReport, Outcome, Precision, Rule,
    evaluate,
};
use crate::backend::{Place, Position, Sgd, Sparse, Totals};
use crate::checkpoint::chain::{self, Restored, Values, Velocity, Writer};
use crate::checkpoint::full::{self, State};
use crate::checkpoint::{Hash, weights};
use crate::data::{Dataset, Split};
use crate::graph::network::{Batches, plans};
use crate::graph::{self, Graph, Model, Network, Plan, Scoring, Statistics, scoring};
use crate::mask::{Kind, Mask, Order, Samples, select};
use crate::optim::PiecewiseLinear;

/// Images in an evaluation step, at most.
const EVALUATION_BATCH: usize = 500;

/// Set by a signal handler to its signal's number; a run stops after the step it is in.
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

/// The batches of a run.
pub fn batches(config: &Config) -> Batches {
    Batches { training: Some(config.batch_size), inference: EVALUATION_BATCH }
}

/// The plan by which samples are scored, of a run whose mask is chosen by scores.
///
/// # Errors
/// As [`Plan::new`].
pub fn scoring_plan(config: &Config, graph: &Graph) -> Result<Option<Plan>, graph::Error> {
    let fisher = config.mask.filter(|mask| mask.kind == Kind::Fisher);
    fisher.map(|mask| scoring::plan(graph, mask.fisher_samples.min(select::BATCH))).transpose()
}

/// Trains as `config` says, from the beginning or from `resume`, and writes checkpoints and `final.safetensors` into
/// `folder`, which exists.
///
/// The training split is used whole: cut it to [`Config::train_images`] before.
///
/// # Errors
/// When the device fails, a file cannot be written, a listener fails, or the loss is no longer finite.
pub fn run<B: Sparse>(
    backend: B,
    config: &Config,
    dataset: Dataset,
    folder: &Path,
    resume: Option<Restored>,
    listeners: &mut [&mut dyn Listener],
    stop: &Stop,
) -> Result<Outcome, Error> {
    let began = Instant::now();
    if resume.as_ref().is_some_and(|restored| restored.progress.epoch >= config.epochs) {
        return Err(Error::NothingLeft { epochs: config.epochs });
    }
    let mut trainer = Trainer::new(backend, config, dataset, folder, resume, listeners)?;
    trainer.state.total_seconds += began.elapsed().as_secs_f64();
    let outcome = loop {
        match trainer.epoch(stop)? {
            Some(report) if report.epoch == config.epochs => break Outcome::Finished(report),
            Some(_) => {}
            None => {
                if config.mask.is_none_or(|mask| mask.checkpoint_state == CheckpointState::On) {
                    trainer.checkpoint()?;
                }
                break Outcome::Interrupted(stop.signal().unwrap_or(0));
            }
        }
    };
    trainer.tell(&Event::Ended { outcome: &outcome, folder })?;
    Ok(outcome)
}

/// Where in the training the run is, beside its vectors.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    epoch: u32,
    batch: u32,
    totals: Totals,
    train_seconds: f64,
    total_seconds: f64,
}

impl From<chain::Progress> for Progress {
    fn from(progress: chain::Progress) -> Self {
        let chain::Progress { epoch, batch, totals, train_seconds, total_seconds, .. } = progress;
        Progress { epoch, batch, totals, train_seconds, total_seconds }
    }
}

struct Trainer<'a, 'l, B: Sparse> {
    config: &'a Config,
    network: Network<B>,
    update: Update<B>,
    /// Where masks are chosen by scores.
    scoring: Option<Scoring<B>>,
    training: B::Data,
    /// What `training` draws from.
    split: Arc<Split>,
    test: B::Data,
    /// A training step and an evaluation step, where the device records.
    recordings: [Option<B::Recording>; 2],
    /// Under the strict rule, what keeps the values of masks.
    chain: Option<Writer>,
    /// Else the mask that full checkpoints name.
    mask_file: Option<Hash>,
    /// Epoch and batch of the last checkpoint.
    saved: (u32, u32),
    /// After the last epoch, in percent.
    test_accuracy: Option<f64>,
    test_images: usize,
    /// Steps in an epoch.
    steps: u32,
    schedule: PiecewiseLinear,
    state: Progress,
    folder: PathBuf,
    listeners: &'a mut [&'l mut dyn Listener],
}

impl<'a, 'l, B: Sparse> Trainer<'a, 'l, B> {
    fn new(
        backend: B,
        config: &'a Config,
        dataset: Dataset,
        folder: &Path,
        resume: Option<Restored>,
        listeners: &'a mut [&'l mut dyn Listener],
    ) -> Result<Self, Error> {
        let graph = config.model.graph(config.width)?;
        let plans = plans(&graph, batches(config))?;
        let scoring = scoring_plan(config, &graph)?;
        let images = [dataset.train.len(), dataset.test.len()];
        let memory =
            Memory::new::<B>(&graph, (plans.0.as_ref(), &plans.1), scoring.as_ref(), images[0] + images[1]);
        let free = backend.free_bytes()?;
        if memory.total() > free {
            let Config { model, width, batch_size, .. } = *config;
            let [needed, free] = [memory.total(), free].map(|bytes| bytes / 1_000_000);
            return Err(Error::NoRoom { model, width, batch_size, needed, device: backend.device(), free });
        }
        let parameters = graph.layout.weights();
        let resumed = resume.as_ref().map(|restored| (restored.progress.epoch, restored.progress.batch));
        let (state, restored) = match resume {
            Some(restored) => (Progress::from(restored.progress), restored),
            None => {
                let weights = graph.layout.initial_weights(config.seed);
                let (running, velocity) =
                    (graph.layout.initial_statistics(), Velocity::Dense(vec![0.0; weights.len()]));
                let (path, progress) = (folder.to_path_buf(), chain::Progress::default());
                (Progress::default(), Restored { path, progress, weights, running, velocity, mask: None })
            }
        };
        let Restored { weights, running, velocity, mask, progress, .. } = restored;
        let strict = config.mask.filter(|mask| mask.update_rule == Rule::Strict);
        let open = |mask: super::Masking| {
            let values = if mask.checkpoint_values == Precision::F16 { Values::F16 } else { Values::F32 };
            Writer::open(&folder.join("checkpoints"), (config.model, config.width), &graph.layout, values)
        };
        let chain = strict.map(open).transpose()?;
        let split = Arc::new(dataset.train);
        let training = backend.data(&split, Some((config.batch_size, config.seed)))?;
        let test = backend.data(&Arc::new(dataset.test), None)?;
        let mut network = Network::new(graph, plans, backend, &weights, &running)?;
        let mut update = Update::dense(&mut network, &vec![0.0; weights.len()])?;
        if let (Some(mask), Some(masking)) = (mask, config.mask) {
            update.restrict(&mut network, Mask::new(mask, parameters)?, masking.update_rule)?;
        }
        match velocity {
            Velocity::Kept(velocity) | Velocity::Dense(velocity) => update.resume(&mut network, &velocity)?,
            Velocity::Absent => return Err(Error::NoVelocity),
        }
        let scoring = scoring.map(|plan| Scoring::new(&mut network, plan)).transpose()?;
        let mut trainer = Trainer {
            config,
            network,
            update,
            scoring,
            training,
            split,
            test,
            recordings: [None, None],
            chain,
            mask_file: None,
            saved: resumed.unwrap_or_default(),
            test_accuracy: progress.test_accuracy,
            test_images: images[1],
            steps: (images[0] / config.batch_size) as u32,
            schedule: PiecewiseLinear::triangle(config.lr, config.peak_epoch, f64::from(config.epochs)),
            state,
            folder: folder.to_path_buf(),
            listeners,
        };
        trainer.keep_mask()?;
        let (data, device) = (dataset.name, trainer.network.backend().device());
        trainer.tell(&Event::Started {
            config,
            device: &device,
            data,
            images,
            parameters,
            resumed,
            folder,
        })?;
        Ok(trainer)
    }

    fn tell(&mut self, event: &Event) -> Result<(), Error> {
        self.listeners.iter_mut().try_for_each(|listener| listener.hear(event))
    }

    /// Trains and evaluates an epoch, or what is left of it; none when it was told to stop.
    fn epoch(&mut self, stop: &Stop) -> Result<Option<EpochReport>, Error> {
        self.begin_epoch()?;
        while self.state.batch < self.steps {
            let began = Instant::now();
            self.step()?;
            if !B::QUEUES {
                self.read_totals()?;
            }
            self.state.train_seconds += began.elapsed().as_secs_f64();
            let (epoch, step) = (self.state.epoch + 1, self.state.batch);
            let batch = self.config.batch_size;
            self.tell(&Event::Step { epoch, step, steps: self.steps, batch })?;
            if stop.signal().is_some() {
                self.read_totals()?;
                return Ok(None);
            }
        }
        let began = Instant::now();
        self.read_totals()?;
        self.state.train_seconds += began.elapsed().as_secs_f64();

        let began = Instant::now();
        let go_on = |_: &Network<B>, _| Ok(stop.signal().is_none());
        let Some(test) =
            evaluate(&mut self.network, &mut self.test, self.test_images, &mut self.recordings[1], go_on)?
        else {
            return Ok(None);
        };
        let test_seconds = began.elapsed().as_secs_f64();
        let Progress { epoch, totals: train, train_seconds, total_seconds, .. } = self.state;
        let mean = |totals: Totals| totals.loss / totals.images as f64;
        let percent = |totals: Totals| 100.0 * totals.correct as f64 / totals.images as f64;
        let report = EpochReport {
            epoch: epoch + 1,
            lr: self.lr(self.steps),
            train_loss: mean(train),
            train_accuracy: percent(train),
            test_loss: mean(test),
            test_accuracy: percent(test),
            train_seconds,
            test_seconds,
            total_seconds: total_seconds + train_seconds,
            images_per_second: train.images as f64 / train_seconds,
            kept: self.update.mask().map_or(self.network.graph().layout.weights(), |mask| mask.len()),
        };
        self.state =
            Progress { epoch: epoch + 1, total_seconds: report.total_seconds, ..Progress::default() };
        self.test_accuracy = Some(report.test_accuracy);
        self.tell(&Event::Epoch(&report))?;
        let last = report.epoch == self.config.epochs;
        if last {
            // Before the checkpoint that says nothing is left to do.
            self.write_final()?;
        }
        if last || report.epoch.is_multiple_of(self.config.checkpoint_every) {
            self.checkpoint()?;
        }
        Ok(Some(report))
    }

    /// The schedule's value at step `step`, counted from 1, of the current epoch.
    fn lr(&self, step: u32) -> f64 {
        self.schedule.at(f64::from(self.state.epoch) + f64::from(step) / f64::from(self.steps))
    }

    /// Sets the device to the next step of an epoch.
    fn begin_epoch(&mut self) -> Result<(), Error> {
        self.select_mask()?;
        let Progress { epoch, batch, totals, .. } = self.state;
        let n = self.config.batch_size;
        let rates: Vec<f32> = (1..=self.steps).map(|step| (self.lr(step) / n as f64) as f32).collect();
        let backend = self.network.backend();
        backend.set_totals(totals)?;
        backend.set_rates(&rates, batch as usize)?;
        Ok(backend.seek(&mut self.training, Position { epoch, image: batch as usize * n })?)
    }

    /// Selects the mask of the epoch that begins, if it is due.
    fn select_mask(&mut self) -> Result<(), Error> {
        let Progress { epoch, batch, .. } = self.state;
        let Some(masking) = self.config.mask.filter(|mask| batch == 0 && mask.selects(epoch)) else {
            return Ok(());
        };
        let began = Instant::now();
        match (&mut self.chain, self.update.mask()) {
            // What the masks to come build on.
            (Some(_), None) => self.write_base()?,
            // A mask's last values, before another takes its place.
            (Some(_), Some(_)) if self.saved != (epoch, 0) => self.checkpoint()?,
            _ => {}
        }
        let Trainer { config, network, update, scoring, split, .. } = self;
        let quota = masking.quota(&network.graph().layout)?;
        let mask = match scoring {
            Some(scoring) => {
                let (count, seed) = (masking.fisher_samples, config.seed);
                let samples = Samples { count, order: Order::Shuffled, augment: true, seed, epoch };
                select::score(network, scoring, masking.rule(epoch), split, &samples)?;
                select::largest(network, scoring, quota)?
            }
            None => select::random(network, quota, config.seed, epoch)?,
        };
        let report = MaskReport {
            epoch: epoch + 1,
            kind: masking.kind,
            samples: masking.fisher_samples,
            kept: mask.len(),
            weights: mask.weights(),
            stayed: update.mask().map(|before| before.shared(&mask, &(0..mask.weights()))),
            seconds: began.elapsed().as_secs_f64(),
        };
        update.restrict(network, mask, masking.update_rule)?;
        self.keep_mask()?;
        // What was recorded trains other weights.
        self.recordings[0] = None;
        self.state.train_seconds += began.elapsed().as_secs_f64();
        self.tell(&Event::Mask(&report))
    }

    fn step(&mut self) -> Result<(), Error> {
        let Trainer { config, network, update, training, recordings, .. } = self;
        let n = config.batch_size;
        let sgd =
            Sgd { momentum: config.momentum as f32, weight_decay: (config.weight_decay * n as f64) as f32 };
        network.replay(&mut recordings[0], |network| {
            network.draw_batch(true, training, n)?;
            network.forward(true, Statistics::Batch, n, config.label_smoothing as f32)?;
            network.backward(n)?;
            update.step(network, &sgd)
        })?;
        self.state.batch += 1;
        Ok(())
    }

    /// Learns what the steps so far have summed to.
    fn read_totals(&mut self) -> Result<(), Error> {
        let (totals, fault) = (self.network.backend().totals()?, self.network.backend().fault()?);
        if totals.loss.is_finite() && fault.is_none() {
            self.state.totals = totals;
            return Ok(());
        }
        let step = fault.map_or(self.state.batch, |fault| fault.step + 1);
        let before = self.state.totals;
        Err(Error::NotFinite {
            epoch: self.state.epoch + 1,
            step,
            lr: self.lr(step),
            place: self.describe(fault.map(|fault| fault.place)),
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

    /// Where the run is, as a checkpoint keeps it.
    fn progress(&self) -> chain::Progress {
        let Progress { epoch, batch, totals, train_seconds, total_seconds } = self.state;
        let test_accuracy = self.test_accuracy.filter(|_| batch == 0);
        chain::Progress { epoch, batch, totals, train_seconds, total_seconds, test_accuracy }
    }

    /// Under a strict mask a delta; a full checkpoint else.
    fn checkpoint(&mut self) -> Result<(), Error> {
        let (progress, running) = (self.progress(), self.network.running()?);
        let velocity = self.update.velocity(&mut self.network)?;
        let masked = self.update.mask().is_some();
        let path = match &mut self.chain {
            Some(chain) if masked => {
                let state = self.config.mask.map(|mask| mask.checkpoint_state);
                let velocity = (state == Some(CheckpointState::On)).then_some(&velocity[..]);
                let network = &self.network;
                chain.delta(&progress, velocity, &running, |p| network.parameter(p).map_err(Error::from))?
            }
            _ => {
                let chain::Progress { epoch, batch, totals, train_seconds, total_seconds, .. } = progress;
                let (weights, mask) = (self.network.weights()?, self.mask_file);
                let state = State {
                    epoch,
                    batch,
                    totals,
                    train_seconds,
                    total_seconds,
                    weights,
                    velocity,
                    running,
                    mask,
                };
                let layout = &self.network.graph().layout;
                full::save(&self.folder.join("checkpoints"), self.model(), layout, &state)?
            }
        };
        self.saved = (progress.epoch, progress.batch);
        self.tell(&Event::Checkpoint(&path))
    }

    /// Takes a mask that comes into force, or does so again, into the checkpoints.
    fn keep_mask(&mut self) -> Result<(), Error> {
        let Some(mask) = self.update.mask() else { return Ok(()) };
        match &mut self.chain {
            Some(chain) => {
                let (network, running) = (&self.network, self.network.running()?);
                chain.mask(mask.indices(), &running, |p| network.parameter(p).map_err(Error::from))?;
            }
            None => {
                let folder = self.folder.join("checkpoints");
                self.mask_file = Some(chain::save_mask(
                    &folder,
                    self.model(),
                    &self.network.graph().layout,
                    mask.indices(),
                )?);
            }
        }
        Ok(())
    }

    /// Writes all weights, for deltas to build on.
    fn write_base(&mut self) -> Result<(), Error> {
        let (progress, running, network) = (self.progress(), self.network.running()?, &self.network);
        let Some(chain) = &mut self.chain else { return Ok(()) };
        let path = chain.base(&progress, &running, |p| network.parameter(p).map_err(Error::from))?;
        self.tell(&Event::Checkpoint(&path))
    }

    /// Model and width.
    fn model(&self) -> (Model, usize) {
        (self.config.model, self.config.width)
    }

    fn write_final(&self) -> Result<(), Error> {
        let (weights, running) = (self.network.weights()?, self.network.running()?);
        let layout = &self.network.graph().layout;
        weights::save(&self.folder.join("final.safetensors"), layout, &weights, &running)?;
        Ok(())
    }
}

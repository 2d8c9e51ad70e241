//! The run itself: steps, epochs, evaluation, checkpoints.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::summary::Memory;
use super::{Config, EpochReport, Error, Event, Listener, Outcome, evaluate};
use crate::backend::{Backend, Place, Position, Sgd, Totals};
use crate::checkpoint::full::{self, State};
use crate::checkpoint::weights;
use crate::data::Dataset;
use crate::graph::network::{Batches, plans};
use crate::graph::{Network, Statistics};
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

/// Trains as `config` says, from the beginning or from `resume`, and writes checkpoints and `final.safetensors` into
/// `folder`, which exists.
///
/// The training split is used whole: cut it to [`Config::train_images`] before.
///
/// # Errors
/// When the device fails, a file cannot be written, a listener fails, or the loss is no longer finite.
pub fn run<B: Backend>(
    backend: B,
    config: &Config,
    dataset: Dataset,
    folder: &Path,
    resume: Option<State>,
    listeners: &mut [&mut dyn Listener],
    stop: &Stop,
) -> Result<Outcome, Error> {
    let began = Instant::now();
    if resume.as_ref().is_some_and(|state| state.epoch >= config.epochs) {
        return Err(Error::NothingLeft { epochs: config.epochs });
    }
    let mut trainer = Trainer::new(backend, config, dataset, folder, resume, listeners)?;
    trainer.state.total_seconds += began.elapsed().as_secs_f64();
    let outcome = loop {
        match trainer.epoch(stop)? {
            Some(report) if report.epoch == config.epochs => break Outcome::Finished(report),
            Some(_) => {}
            None => {
                trainer.checkpoint()?;
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

struct Trainer<'a, 'l, B: Backend> {
    config: &'a Config,
    network: Network<B>,
    velocity: B::Vector,
    training: B::Data,
    test: B::Data,
    /// A training step and an evaluation step, where the device records.
    recordings: [Option<B::Recording>; 2],
    test_images: usize,
    /// Steps in an epoch.
    steps: u32,
    schedule: PiecewiseLinear,
    state: Progress,
    folder: PathBuf,
    listeners: &'a mut [&'l mut dyn Listener],
}

impl<'a, 'l, B: Backend> Trainer<'a, 'l, B> {
    fn new(
        backend: B,
        config: &'a Config,
        dataset: Dataset,
        folder: &Path,
        resume: Option<State>,
        listeners: &'a mut [&'l mut dyn Listener],
    ) -> Result<Self, Error> {
        let graph = config.model.graph(config.width)?;
        let plans = plans(&graph, batches(config))?;
        let images = [dataset.train.len(), dataset.test.len()];
        let memory = Memory::new::<B>(&graph, (plans.0.as_ref(), &plans.1), images[0] + images[1]);
        let free = backend.free_bytes()?;
        if memory.total() > free {
            let Config { model, width, batch_size, .. } = *config;
            let [needed, free] = [memory.total(), free].map(|bytes| bytes / 1_000_000);
            return Err(Error::NoRoom { model, width, batch_size, needed, device: backend.device(), free });
        }
        let parameters = graph.layout.weights();
        let resumed = resume.as_ref().map(|state| (state.epoch, state.batch));
        let (state, weights, velocity, running) = match resume {
            Some(s) => {
                let State { epoch, batch, totals, train_seconds, total_seconds, weights, velocity, running } =
                    s;
                let progress = Progress { epoch, batch, totals, train_seconds, total_seconds };
                (progress, weights, velocity, running)
            }
            None => {
                let weights = graph.layout.initial_weights(config.seed);
                let velocity = vec![0.0; weights.len()];
                (Progress::default(), weights, velocity, graph.layout.initial_statistics())
            }
        };
        let training = backend.data(&Arc::new(dataset.train), Some((config.batch_size, config.seed)))?;
        let test = backend.data(&Arc::new(dataset.test), None)?;
        let velocity = backend.vector(&velocity)?;
        let network = Network::new(graph, plans, backend, &weights, &running)?;
        let mut trainer = Trainer {
            config,
            network,
            velocity,
            training,
            test,
            recordings: [None, None],
            test_images: images[1],
            steps: (images[0] / config.batch_size) as u32,
            schedule: PiecewiseLinear::triangle(config.lr, config.peak_epoch, f64::from(config.epochs)),
            state,
            folder: folder.to_path_buf(),
            listeners,
        };
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
        };
        self.state =
            Progress { epoch: epoch + 1, total_seconds: report.total_seconds, ..Progress::default() };
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
        let Progress { epoch, batch, totals, .. } = self.state;
        let n = self.config.batch_size;
        let rates: Vec<f32> = (1..=self.steps).map(|step| (self.lr(step) / n as f64) as f32).collect();
        let backend = self.network.backend();
        backend.set_totals(totals)?;
        backend.set_rates(&rates, batch as usize)?;
        Ok(backend.seek(&mut self.training, Position { epoch, image: batch as usize * n })?)
    }

    fn step(&mut self) -> Result<(), Error> {
        let Trainer { config, network, velocity, training, recordings, .. } = self;
        let n = config.batch_size;
        let sgd =
            Sgd { momentum: config.momentum as f32, weight_decay: (config.weight_decay * n as f64) as f32 };
        network.replay(&mut recordings[0], |network| {
            network.draw_batch(true, training, n)?;
            network.forward(true, Statistics::Batch, n, config.label_smoothing as f32)?;
            network.backward(n)?;
            let (backend, gradients, weights) = network.parameters();
            backend.sgd(&sgd, gradients, velocity, weights)
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

    fn checkpoint(&mut self) -> Result<(), Error> {
        let Progress { epoch, batch, totals, train_seconds, total_seconds } = self.state;
        let (weights, running) = (self.network.weights()?, self.network.running()?);
        let velocity = self.network.backend().read(&self.velocity)?;
        let state = State { epoch, batch, totals, train_seconds, total_seconds, weights, velocity, running };
        let model = (self.config.model, self.config.width);
        let layout = &self.network.graph().layout;
        let path = full::save(&self.folder.join("checkpoints"), model, layout, &state)?;
        self.tell(&Event::Checkpoint(&path))
    }

    fn write_final(&self) -> Result<(), Error> {
        let (weights, running) = (self.network.weights()?, self.network.running()?);
        let layout = &self.network.graph().layout;
        weights::save(&self.folder.join("final.safetensors"), layout, &weights, &running)?;
        Ok(())
    }
}

//! What a strict mask costs or saves: a training step under one, beside a dense step in the same run.
//!
//! `cargo bench --bench sparse_step [-- [--device cpu|cuda:N] [--batch N] [MODEL]]` prints, for keep ratios
//! of 0.5%, 2% and 10% by score, the time of a step over that of a dense one: forward, backward without the
//! filters that keep nothing, optimiser. Rounds in turn, medians of the rounds' ratios.

use std::time::Instant;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use fishmask::data::IMAGE;
use fishmask::device::Cpu;
use fishmask::device::Cuda;
use fishmask::device::Device;
use fishmask::device::gpu::Gpu;
use fishmask::graph::network::{Batches, plans};
use fishmask::graph::scoring::{self, ScoreRule, Statistics, Target};
use fishmask::graph::{Model, Network, Phase, Scoring};
use fishmask::mask::kinds::fisher;
use fishmask::mask::{Mask, Quota};
use fishmask::ops::Power;
use fishmask::optim::{Moves, Sgd, SgdBuffers, TrainingBackend};
use fishmask::rng::{Purpose, Stream};

const RATIOS: [f64; 3] = [0.005, 0.02, 0.1];
const ROUNDS: usize = 5;
const STEPS: usize = 3;
const SHAPES: [(Model, usize); 3] = [(Model::Resnet9, 16), (Model::Resnet9, 64), (Model::Resnet34, 64)];

type Failure = Box<dyn std::error::Error>;

#[derive(Parser)]
struct Cli {
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: Device,
    /// Images in a step
    #[arg(long, default_value = "128", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    batch: usize,
    /// Only this model
    model: Option<Model>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Failure> {
    let cli = Cli::parse();
    match cli.device {
        Device::Cpu => run(&cli, || Ok(Cpu::new())),
        Device::Cuda(ordinal) => run(&cli, || Ok(Cuda::new(Gpu::open(ordinal)?)?)),
        other => Err(format!("--device {other}: choose cpu, cuda or cuda:N").into()),
    }
}

fn run<B: TrainingBackend>(cli: &Cli, make: impl Fn() -> Result<B, Failure>) -> Result<(), Failure> {
    println!("{}, batch {}, {ROUNDS} rounds of {STEPS} steps", make()?.device(), cli.batch);
    println!("{:<9} {:>5} {:>9} {:>10} {:>8}", "model", "width", "keep", "skipped", "ratio");
    for (model, width) in SHAPES.into_iter().filter(|(m, _)| cli.model.is_none_or(|only| only == *m)) {
        let mut bench = Steps::new(model, width, make()?, cli.batch)?;
        let mut ratios = vec![vec![]; RATIOS.len()];
        let masks = RATIOS.iter().map(|&ratio| bench.mask(ratio)).collect::<Result<Vec<_>, _>>()?;
        for _ in 0..ROUNDS {
            let dense = bench.seconds(None)?;
            for (mask, ratios) in masks.iter().zip(&mut ratios) {
                ratios.push(bench.seconds(Some(mask))? / dense);
            }
        }
        for ((mask, ratios), keep) in masks.iter().zip(&mut ratios).zip(RATIOS) {
            let parameters = &bench.network.graph().layout.parameters;
            let filters = parameters.iter().filter(|p| p.shape.len() == 4);
            let skipped = filters.clone().filter(|p| mask.kept(&p.range()) == 0).count();
            ratios.sort_by(f64::total_cmp);
            let (of, ratio) = (filters.count(), ratios[ROUNDS / 2]);
            println!(
                "{:<9} {width:>5} {:>8}% {:>10} {ratio:>8.3}",
                model.to_string(),
                100.0 * keep,
                format!("{skipped} of {of}")
            );
        }
    }
    Ok(())
}

/// A network that steps on fixed noise.
struct Steps<B: TrainingBackend> {
    network: Network<B>,
    velocity: B::Vector,
    images: Vec<f32>,
    labels: Vec<u8>,
}

impl<B: TrainingBackend> Steps<B> {
    fn new(model: Model, width: usize, backend: B, batch: usize) -> Result<Self, Failure> {
        let graph = model.graph(width)?;
        let plans = plans(&graph, Batches { training: Some(batch), inference: 1 })?;
        let (weights, running) = (graph.layout.initial_weights(0), graph.layout.initial_statistics());
        let velocity = backend.vector(&vec![0.0; weights.len()])?;
        let network = Network::new(graph, plans, backend, &weights, &running)?;
        let mut stream = Stream::new(0, Purpose::Synthetic, 0, 0);
        let images = (0..batch * IMAGE).map(|_| stream.normal() as f32).collect();
        let labels = (0..batch).map(|_| stream.below(10) as u8).collect();
        Ok(Steps { network, velocity, images, labels })
    }

    /// By the scores of the images themselves.
    fn mask(&mut self, ratio: f64) -> Result<Mask, Failure> {
        let network = &mut self.network;
        let quota = Quota::new(&network.graph().layout, ratio)?;
        let mut scoring = Scoring::new(network, scoring::plan(network.graph(), fisher::BATCH)?)?;
        let rule = ScoreRule { power: Power::Square, target: Target::Label, statistics: Statistics::Own };
        for (images, labels) in
            self.images.chunks(fisher::BATCH * IMAGE).zip(self.labels.chunks(fisher::BATCH))
        {
            scoring.add(network, rule, images, labels)?;
        }
        Ok(fisher::largest(network, &mut scoring, quota)?)
    }

    /// Seconds of a step, the mean of a few.
    fn seconds(&mut self, mask: Option<&Mask>) -> Result<f64, Failure> {
        let Steps { network, velocity, images, labels } = self;
        let n = labels.len();
        // So small a rate that the weights, and what is computed, hardly change.
        let sgd = Sgd { momentum: 0.9, weight_decay: 0.0 };
        network.backend().set_rates(&[1e-9; STEPS + 1], 0)?;
        network.train_only(|range| mask.is_none_or(|mask| mask.kept(range) > 0));
        let order = mask.map(|mask| network.graph().layout.memory_order(mask.indices()));
        let indices: Vec<u32> = order.iter().flatten().map(|(index, _)| *index).collect();
        let kept = network.backend().indices(&indices)?;
        let mut kept_velocity = network.backend().vector(&vec![0.0; indices.len()])?;
        let mut step = || -> Result<(), Failure> {
            network.set_batch(Phase::Training, images, labels)?;
            network.forward(Phase::Training, n, 0.0)?;
            network.backward(n)?;
            let (backend, gradients, weights) = network.parameters();
            match mask {
                Some(_) => backend.sgd(
                    &sgd,
                    Moves::At(&kept),
                    SgdBuffers { gradients, velocity: &mut kept_velocity, weights },
                )?,
                None => backend.sgd(&sgd, Moves::All, SgdBuffers { gradients, velocity, weights })?,
            }
            // Waits for all of it.
            backend.totals()?;
            Ok(())
        };
        step()?;
        let began = Instant::now();
        (0..STEPS).try_for_each(|_| step())?;
        Ok(began.elapsed().as_secs_f64() / STEPS as f64)
    }
}

//! Evaluates weights on CIFAR-10: loss, accuracy and, if wanted, the logits.

mod common;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, ValueEnum};
use fishmask::checkpoint;
use fishmask::data::{CLASSES, Source};
use fishmask::graph::network::{Batches, plans};
use fishmask::graph::{Graph, Model, Network};
use fishmask::optim::{self, TrainingBackend};
use fishmask::train::{ConfigError, DataSource, Device, config, evaluate};

/// Evaluate weights, this program's or PyTorch's.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Network the weights are of
    #[arg(long, value_enum)]
    model: Model,
    /// Channels of its stem
    #[arg(long, value_name = "CHANNELS")]
    width: usize,
    /// Weights, such as a run's final.safetensors
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Data set [default: cifar10]
    #[arg(long, value_enum)]
    data: Option<DataSource>,
    #[command(flatten)]
    data_flags: common::DataFlags,
    /// Images to evaluate on
    #[arg(long, value_enum, default_value = "test")]
    split: Split,
    /// Only the first so many [default: all]
    #[arg(long, value_name = "IMAGES")]
    count: Option<usize>,
    /// Write the logits, f32 (N, 10) in the data's order, as tensor `logits` of a safetensors file
    #[arg(long, value_name = "OUT")]
    logits: Option<PathBuf>,
    /// Images in a step; the result does not depend on it
    #[arg(long, value_name = "IMAGES", default_value = "500")]
    batch_size: usize,
    /// What evaluates: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: Device,
    /// Threads [default: one a core]; the result does not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// A part of the data set.
#[derive(Clone, Copy, ValueEnum)]
enum Split {
    /// The test images.
    Test,
    /// The training images.
    Train,
}

fn main() -> ExitCode {
    common::finish(run(&Cli::parse()))
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    config::check_width(cli.width)?;
    if cli.batch_size == 0 {
        return Err(refuse("batch-size", 0, "a step needs at least 1 image").into());
    }
    common::use_threads(cli.threads)?;
    // The weights first: they are quick to refuse, and the data may have to be fetched.
    let graph = cli.model.graph(cli.width)?;
    let (weights, running) = checkpoint::weights::load(&cli.weights, &graph.layout)?;

    let (device, _) = cli.device.choose(Device::first_gpu);
    optim::with_device(device, Evaluation { cli, graph, weights, running })?
}

/// A flag whose value makes no sense.
fn refuse(flag: &'static str, value: usize, need: impl Into<String>) -> ConfigError {
    ConfigError::Value { flag, value: value.to_string(), need: need.into() }
}

/// What is to be evaluated.
struct Evaluation<'a> {
    cli: &'a Cli,
    graph: Graph,
    weights: Vec<f32>,
    running: Vec<f32>,
}

impl optim::Work for Evaluation<'_> {
    type Output = anyhow::Result<ExitCode>;

    fn on<B: TrainingBackend>(self, backend: B) -> anyhow::Result<ExitCode> {
        let Evaluation { cli, graph, weights, running } = self;
        let source = if cli.data == Some(DataSource::Synthetic) { Source::Synthetic } else { Source::Auto };
        let dataset = cli.data_flags.load(source)?;
        let name = dataset.name;
        let (split, split_name) = match cli.split {
            Split::Test => (dataset.test, "test"),
            Split::Train => (dataset.train, "training"),
        };
        let count = cli.count.unwrap_or(split.len());
        if !(1..=split.len()).contains(&count) {
            let need = format!("must be from 1 to the {} {split_name} images of {name}", split.len());
            return Err(refuse("count", count, need).into());
        }
        let plans = plans(&graph, Batches { training: None, inference: cli.batch_size.min(count) })?;
        let mut network = Network::new(graph, plans, backend, &weights, &running)?;
        let mut data = network.backend().data(&Arc::new(split), None)?;
        let mut logits = vec![];
        let keep = |network: &Network<B>, n| {
            if cli.logits.is_some() {
                logits.extend(network.logits(false, n)?);
            }
            Ok(true)
        };
        let totals = evaluate(&mut network, &mut data, 0..count, &mut None, keep)?.unwrap_or_default();
        if let Some(path) = &cli.logits {
            checkpoint::save_tensor(path, "logits", vec![count, CLASSES.len()], &logits)?;
        }
        let images = totals.images as f64;
        let (loss, accuracy) = (totals.loss / images, 100.0 * totals.correct as f64 / images);
        writeln!(
            std::io::stdout(),
            "{name}, {count} {split_name} images: loss {loss:.4}, accuracy {accuracy:.2}%"
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

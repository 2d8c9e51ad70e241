//! Scores a model's weights and chooses a mask; compares masks.

mod common;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use fishmask::checkpoint;
use fishmask::data::Source;
use fishmask::graph::network::{Batches, plans};
use fishmask::graph::{Graph, Model, ModelId, Network, Scoring, scoring};
use fishmask::mask::kinds::fisher;
use fishmask::mask::{self, Order, Quota, Samples, file, table};
use fishmask::ops::Power;
use fishmask::optim::{self, TrainingBackend};
use fishmask::train::{ConfigError, DataSource, Device, FisherTarget, config};

/// Score weights by the Fisher information of training images and choose which to keep, or compare two such masks.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Print how far two masks agree, layer by layer, and stop
    #[arg(long, num_args = 2, value_names = ["A", "B"], exclusive = true)]
    compare: Option<Vec<PathBuf>>,
    /// Network the weights are of
    #[arg(long, value_enum, required_unless_present = "compare")]
    model: Option<Model>,
    /// Channels of its stem
    #[arg(long, value_name = "CHANNELS", required_unless_present = "compare")]
    width: Option<usize>,
    /// Weights, such as a run's final.safetensors
    #[arg(long, value_name = "FILE", required_unless_present = "compare")]
    weights: Option<PathBuf>,
    /// Where scores and mask go
    #[arg(long, value_name = "FILE", required_unless_present = "compare")]
    out: Option<PathBuf>,
    /// Share of the weights to keep
    #[arg(long, value_name = "SHARE", default_value = "0.02", allow_negative_numbers = true)]
    keep_ratio: f64,
    /// Training images whose gradients score the weights
    #[arg(long, value_name = "N", default_value = "1024")]
    fisher_samples: usize,
    /// The class whose loss is differentiated: the label, or each by its predicted probability
    #[arg(long, value_enum, default_value = "label")]
    fisher_target: FisherTarget,
    /// How a sample's gradient counts
    #[arg(long, value_enum, default_value = "square")]
    fisher_power: Power,
    /// Whether images come as an epoch shuffles them or as they lie
    #[arg(long, value_enum, default_value = "shuffled")]
    sample_order: Order,
    /// Whether they are augmented as in training
    #[arg(long, value_enum, default_value = "on")]
    augment: Switch,
    /// Whether batch norm uses the running statistics or each image's own
    #[arg(long, value_enum, default_value = "running")]
    bn: Bn,
    /// Seed of order and augmentation
    #[arg(long, default_value = "0")]
    seed: u64,
    /// Data set [default: cifar10]
    #[arg(long, value_enum)]
    data: Option<DataSource>,
    #[command(flatten)]
    data_flags: common::DataFlags,
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: Device,
    /// Threads [default: one a core]; the result does not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Bn {
    Running,
    Sample,
}

fn main() -> ExitCode {
    common::finish(run(&Cli::parse()))
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    if let Some([a, b]) = cli.compare.as_deref() {
        return compare(a, b);
    }
    match cli {
        Cli { model: Some(model), width: Some(width), weights: Some(weights), out: Some(out), .. } => {
            choose(cli, ModelId::new(*model, *width), weights, out)
        }
        _ => anyhow::bail!("give --model, --width, --weights and --out, or --compare A B"),
    }
}

/// A flag whose value cannot be.
fn refuse(flag: &'static str, value: impl ToString, error: mask::Error) -> ConfigError {
    ConfigError::Value { flag, value: value.to_string(), need: error.to_string() }
}

fn choose(cli: &Cli, id: ModelId, weights: &Path, out: &Path) -> anyhow::Result<ExitCode> {
    config::check_width(id.width)?;
    common::use_threads(cli.threads)?;
    let graph = id.graph()?;
    let (ratio, count) = (cli.keep_ratio, cli.fisher_samples);
    let quota = Quota::new(&graph.layout, ratio).map_err(|error| refuse("keep-ratio", ratio, error))?;
    Samples::check(count, usize::MAX).map_err(|error| refuse("fisher-samples", count, error))?;
    let (weights, running) = checkpoint::weights::load(weights, &graph.layout)?;
    let (device, _) = cli.device.choose(Device::first_gpu);
    optim::with_device(device, Choice { cli, id, out, graph, quota, weights, running })?
}

/// What is to be scored.
struct Choice<'a> {
    cli: &'a Cli,
    id: ModelId,
    out: &'a Path,
    graph: Graph,
    quota: Quota,
    weights: Vec<f32>,
    running: Vec<f32>,
}

impl optim::Work for Choice<'_> {
    type Output = anyhow::Result<ExitCode>;

    fn on<B: TrainingBackend>(self, backend: B) -> anyhow::Result<ExitCode> {
        let Choice { cli, id, out, graph, quota, weights, running } = self;
        let source = if cli.data == Some(DataSource::Synthetic) { Source::Synthetic } else { Source::Auto };
        let split = cli.data_flags.load(source)?.train;
        let count = cli.fisher_samples;
        Samples::check(count, split.len()).map_err(|error| refuse("fisher-samples", count, error))?;
        let plan = fisher::plan(&graph, count)?;
        // The network is there for its weights: it trains nothing and infers nothing.
        let plans = plans(&graph, Batches { training: None, inference: 1 })?;
        let mut network = Network::new(graph, plans, backend, &weights, &running)?;
        let mut scoring = Scoring::new(&mut network, plan)?;
        let rule = scoring::Rule {
            power: cli.fisher_power,
            expect: cli.fisher_target == FisherTarget::Expect,
            running: cli.bn == Bn::Running,
        };
        let (order, augment) = (cli.sample_order, cli.augment == Switch::On);
        let samples = Samples { first: 0, count, order, augment, seed: cli.seed, epoch: 0 };
        fisher::score(&mut network, &mut scoring, rule, &split, &samples)?;
        let mask = fisher::largest(&mut network, &mut scoring, quota)?;
        let scores = scoring.read(&mut network)?;
        let about = file::About {
            kind: file::Scores::Scores,
            model: id.model,
            width: id.width,
            keep_ratio: cli.keep_ratio,
            samples: count,
            order,
            augment,
            seed: cli.seed,
            power: rule.power,
            expect: rule.expect,
            running: rule.running,
        };
        file::save(out, &about, &scores, &mask)?;

        let rows = table::rows(&network.graph().layout, &mask, &scores);
        let longest = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        let out = &mut io::stdout().lock();
        writeln!(
            out,
            "{:longest$}  {:>9}  {:>9}  {:>7}  {:>8}",
            "layer", "weights", "kept", "share", "of score"
        )?;
        for row in rows.iter().chain([&table::total(&rows)]) {
            let share = 100.0 * row.kept as f64 / row.weights as f64;
            let (name, weights, kept, score) = (&row.name, row.weights, row.kept, 100.0 * row.score);
            writeln!(out, "{name:longest$}  {weights:9}  {kept:9}  {share:6.2}%  {score:7.2}%")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints how many weights two masks share.
fn compare(a: &Path, b: &Path) -> anyhow::Result<ExitCode> {
    let ((about, first), (other, second)) = (file::load(a)?, file::load(b)?);
    let (id, other) = (about.id(), other.id());
    if id != other {
        anyhow::bail!(
            "{} is of {id}, and {} of {other}: masks of one network can be compared",
            a.display(),
            b.display()
        );
    }
    let layout = id.graph()?.layout;
    let width = layout.parameters.iter().map(|p| p.name.len()).max().unwrap_or(0);
    let out = &mut io::stdout().lock();
    writeln!(
        out,
        "{:width$}  {:>9}  {:>9}  {:>9}  {:>9}  {:>7}",
        "layer", "weights", "A", "B", "both", "of A"
    )?;
    let ranges = layout.parameters.iter().map(|p| (p.name.as_str(), p.range()));
    for (name, range) in ranges.chain([("all", 0..layout.weight_count())]) {
        let [a, b, both] = [first.kept(&range), second.kept(&range), first.shared(&second, &range)];
        // Where A keeps nothing, there is no share of it.
        let share = if a == 0 { "-".into() } else { format!("{:.2}%", 100.0 * both as f64 / a as f64) };
        writeln!(out, "{name:width$}  {:9}  {a:9}  {b:9}  {both:9}  {share:>7}", range.len())?;
    }
    Ok(ExitCode::SUCCESS)
}

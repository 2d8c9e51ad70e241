//! Scoring and selection, beside PyTorch's on the same machine in the same run.
//!
//! `cargo bench --bench fisher [-- [--device cpu|cuda:N] [--samples N] [--batch N] [MODEL]]` prints for
//! resnet9 and resnet34 at width 64: samples scored a second (label, square, running statistics; random
//! images), and for the authors' loop and torch.func's vmap in `benches/peers/torch_fisher.py`; then the
//! seconds of choosing 2% of the scores, and torch.topk's. Rounds in turn, medians. The peer's interpreter is
//! `$PYTHON`, `python3` if unset; without torch its figures are left out.

use std::process::Command;
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
use fishmask::graph::{Model, Network, Scoring};
use fishmask::mask::Quota;
use fishmask::mask::kinds::fisher;
use fishmask::ops::Power;
use fishmask::optim::TrainingBackend;
use fishmask::rng::{Purpose, Stream};
use serde_json::Value;

const WIDTH: usize = 64;
const ROUNDS: usize = 3;
const RULE: ScoreRule =
    ScoreRule { power: Power::Square, target: Target::Label, statistics: Statistics::Running };

type Failure = Box<dyn std::error::Error>;

#[derive(Parser)]
struct Cli {
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: Device,
    /// Samples scored in a round
    #[arg(long, default_value = "128", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    samples: usize,
    /// Samples scored together, as training does by default
    #[arg(long, default_value_t = fisher::BATCH)]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
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
        Device::Cpu => run(&cli, Cpu::new),
        Device::Cuda(ordinal) => {
            Gpu::open(ordinal)?;
            // Opened anew for each model; it has just been there.
            run(&cli, || Cuda::new(Gpu::open(ordinal).expect("the GPU")).expect("room on the GPU"))
        }
        other => Err(format!("--device {other}: choose cpu, cuda or cuda:N").into()),
    }
}

fn run<B: TrainingBackend>(cli: &Cli, make: impl Fn() -> B) -> Result<(), Failure> {
    let device = make().device();
    println!("{device}, width {WIDTH}, {} samples a round by {}, {ROUNDS} rounds", cli.samples, cli.batch);
    println!(
        "{:<9} {:>10} {:>8} {:>8} {:>6} {:>6} {:>11} {:>9} {:>6}",
        "model", "samples/s", "loop", "vmap", "ratio", "ratio", "select ms", "topk ms", "ratio"
    );
    for model in
        [Model::Resnet9, Model::Resnet34].into_iter().filter(|m| cli.model.is_none_or(|only| only == *m))
    {
        let (mut ours, mut selections, mut peers) = (vec![], vec![], vec![]);
        let mut bench = Ours::new(model, make(), cli)?;
        for _ in 0..ROUNDS {
            let (speed, selection) = bench.round()?;
            ours.push(speed);
            selections.push(selection);
            peers.extend(torch(model, cli.device).map_err(|why| eprintln!("no peer: {why}")).ok());
        }
        let (speed, selection) = (median(ours), median(selections));
        print!("{:<9} {speed:>10.1}", model.to_string());
        if peers.len() == ROUNDS {
            let of = |key: &str| median(peers.iter().filter_map(|peer| peer[key].as_f64()).collect());
            let [looped, vmapped, top_k] = ["loop", "vmap", "topk"].map(of);
            print!(" {looped:>8.1} {vmapped:>8.1} {:>6.2} {:>6.2}", speed / looped, speed / vmapped);
            println!(" {:>11.1} {:>9.1} {:>6.2}", 1e3 * selection, 1e3 * top_k, top_k / selection);
        } else {
            println!(" {:>8} {:>8} {:>6} {:>6} {:>11.1}", "", "", "", "", 1e3 * selection);
        }
    }
    Ok(())
}

/// A network, and noise to score it by.
struct Ours<B: TrainingBackend> {
    network: Network<B>,
    scoring: Scoring<B>,
    quota: Quota,
    images: Vec<f32>,
    labels: Vec<u8>,
}

impl<B: TrainingBackend> Ours<B> {
    fn new(model: Model, backend: B, cli: &Cli) -> Result<Self, Failure> {
        let graph = model.graph(WIDTH)?;
        let quota = Quota::new(&graph.layout, 0.02)?;
        let (weights, running) = (graph.layout.initial_weights(0), graph.layout.initial_statistics());
        let plan = scoring::plan(&graph, cli.batch)?;
        let plans = plans(&graph, Batches { training: None, inference: 1 })?;
        let mut network = Network::new(graph, plans, backend, &weights, &running)?;
        let scoring = Scoring::new(&mut network, plan)?;
        let mut stream = Stream::new(0, Purpose::Synthetic, 0, 0);
        let images = (0..cli.samples * IMAGE).map(|_| stream.normal() as f32).collect();
        let labels = (0..cli.samples).map(|_| stream.below(10) as u8).collect();
        Ok(Ours { network, scoring, quota, images, labels })
    }

    /// Samples scored a second, and seconds of a selection.
    fn round(&mut self) -> Result<(f64, f64), Failure> {
        let Ours { network, scoring, images, labels, .. } = self;
        let batch = scoring.batch();
        let mut score = |images: &[f32], labels: &[u8]| -> Result<(), Failure> {
            for (images, labels) in images.chunks(batch * IMAGE).zip(labels.chunks(batch)) {
                scoring.add(network, RULE, images, labels)?;
            }
            // Waits for all of it.
            scoring.top_k(network, 1, 1)?;
            Ok(())
        };
        let few = batch.min(labels.len());
        score(&images[..few * IMAGE], &labels[..few])?;
        let began = Instant::now();
        score(images, labels)?;
        let speed = labels.len() as f64 / began.elapsed().as_secs_f64();
        let began = Instant::now();
        let mask = fisher::largest(network, scoring, self.quota)?;
        let seconds = began.elapsed().as_secs_f64();
        assert_eq!(mask.len(), self.quota.kept);
        Ok((speed, seconds))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The peer's figures.
fn torch(model: Model, device: Device) -> Result<Value, Failure> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let device = if matches!(device, Device::Cuda(_)) { "cuda" } else { "cpu" };
    // Cargo sets it, and run-gpu-checks.sh where there is no cargo.
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
    let output = Command::new(python)
        .arg(format!("{root}/benches/peers/torch_fisher.py"))
        .args(["--model", &model.to_string(), "--width", &WIDTH.to_string(), "--repeats", "1"])
        .args(["--threads", &rayon::current_num_threads().to_string(), "--device", device])
        .output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(text.lines().last().unwrap_or("the peer failed").to_owned().into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

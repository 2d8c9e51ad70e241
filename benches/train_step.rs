//! Training steps a second on this CPU, beside PyTorch's on the same cores in the same run.
//!
//! `cargo bench --bench train_step [-- MODEL[-WIDTH]]` runs each named shape here and through
//! `benches/peers/torch_cpu.py` in turn, several rounds, and prints images/s (median over rounds) and the
//! ratio (median of the rounds' ratios). The peer's interpreter is `$PYTHON`, `python3` if unset; without
//! torch the ratios are left out.

use std::process::Command;
use std::time::Instant;

use fishmask::data::IMAGE;
use fishmask::device::Cpu;
use fishmask::graph::network::{Batches, plans};
use fishmask::graph::{Model, Network, Phase, summary};
use fishmask::optim::{Moves, RateOps, Sgd, SgdBuffers, SgdOps};
use fishmask::rng::{Purpose, Stream};

struct Shape {
    model: Model,
    width: usize,
    batch: usize,
    steps: usize,
}

const SHAPES: [Shape; 3] = [
    Shape { model: Model::Resnet9, width: 16, batch: 128, steps: 12 },
    Shape { model: Model::Resnet9, width: 64, batch: 128, steps: 4 },
    Shape { model: Model::Resnet34, width: 64, batch: 128, steps: 4 },
];
const ROUNDS: usize = 3;

type Failure = Box<dyn std::error::Error>;

/// Runs steps on fixed noise.
struct Ours {
    network: Network<Cpu>,
    velocity: Vec<f32>,
    images: Vec<f32>,
    labels: Vec<u8>,
}

impl Ours {
    fn new(shape: &Shape) -> Result<Self, Failure> {
        let graph = shape.model.graph(shape.width)?;
        let plans = plans(&graph, Batches { training: Some(shape.batch), inference: 1 })?;
        let weights = graph.layout.initial_weights(0);
        let running = graph.layout.initial_statistics();
        let mut stream = Stream::new(0, Purpose::Synthetic, 0, 0);
        let velocity = vec![0.0; weights.len()];
        let network = Network::new(graph, plans, Cpu::new(), &weights, &running)?;
        let images = (0..shape.batch * IMAGE).map(|_| stream.normal() as f32).collect();
        let labels = (0..shape.batch).map(|_| stream.below(10) as u8).collect();
        Ok(Ours { network, velocity, images, labels })
    }

    fn step(&mut self) -> Result<(), Failure> {
        let n = self.labels.len();
        self.network.set_batch(Phase::Training, &self.images, &self.labels)?;
        self.network.forward(Phase::Training, n, 0.0)?;
        self.network.backward(n)?;
        let sgd = Sgd { momentum: 0.9, weight_decay: 5e-4 * n as f32 };
        let (backend, gradients, weights) = self.network.parameters();
        backend.set_rates(&[0.1 / n as f32], 0)?;
        Ok(backend.sgd(&sgd, Moves::All, SgdBuffers { gradients, velocity: &mut self.velocity, weights })?)
    }

    /// Of the median step, after one to warm up.
    fn images_per_second(&mut self, steps: usize) -> Result<f64, Failure> {
        self.step()?;
        let mut seconds = Vec::new();
        for _ in 0..steps {
            let began = Instant::now();
            self.step()?;
            seconds.push(began.elapsed().as_secs_f64());
        }
        Ok(self.labels.len() as f64 / median(&mut seconds))
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The peer's images/s, or why it has none.
fn torch(shape: &Shape, threads: usize) -> Result<f64, Failure> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let output = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/torch_cpu.py"))
        .args(["--model", &shape.model.to_string(), "--width", &shape.width.to_string()])
        .args(["--batch", &shape.batch.to_string(), "--threads", &threads.to_string()])
        .args(["--steps", &shape.steps.to_string()])
        .output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(text.lines().last().unwrap_or("the peer failed").to_owned().into());
    }
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    report["images_per_second"].as_f64().ok_or_else(|| "the peer printed no images_per_second".into())
}

fn main() -> Result<(), Failure> {
    let wanted = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let threads = rayon::current_num_threads();
    println!("training steps, f32, {threads} threads, {ROUNDS} rounds");
    println!(
        "{:<9} {:>5} {:>5} {:>14} {:>8} {:>15} {:>6} {:>15}",
        "model", "width", "batch", "ours images/s", "GFLOP/s", "torch images/s", "ratio", "lowest-highest"
    );
    for shape in SHAPES
        .iter()
        .filter(|s| wanted.as_ref().is_none_or(|w| format!("{}-{}", s.model, s.width).starts_with(w)))
    {
        let mut ours = Ours::new(shape)?;
        let plan = ours.network.training();
        let flops = plan.map_or(0, summary::training_flops);
        let (mut here, mut there, mut ratios) = (vec![], vec![], vec![]);
        let mut missing = None;
        for _ in 0..ROUNDS {
            let speed = ours.images_per_second(shape.steps)?;
            here.push(speed);
            if missing.is_none() {
                match torch(shape, threads) {
                    Ok(peer) => {
                        there.push(peer);
                        ratios.push(speed / peer);
                    }
                    Err(why) => missing = Some(why),
                }
            }
        }
        let speed = median(&mut here);
        let gflops = speed * flops as f64 / 1e9;
        let name = shape.model.to_string();
        print!("{name:<9} {:>5} {:>5} {speed:>14.1} {gflops:>8.0} ", shape.width, shape.batch);
        match missing {
            None => {
                let (peer, ratio) = (median(&mut there), median(&mut ratios));
                let range = format!("{:.2}-{:.2}", ratios[0], ratios[ratios.len() - 1]);
                println!("{peer:>15.1} {ratio:>6.2} {range:>15}");
            }
            Some(why) => println!("no peer: {why}"),
        }
    }
    Ok(())
}

//! CPU convolutions at the networks' shapes: milliseconds and GFLOP/s (operations of direct convolution) of
//! fprop with batch norm's sums, dgrad, wgrad and the sum of each sample's squared gradient; best of several
//! runs.
//!
//!     cargo bench --bench conv_cpu -- [--all-algorithms] [--threads T] [--runs R] [--batch N] [NAME PART]...
//!
//! A line is named by network, width, and the first layer of its shape, with the number of layers that have
//! it.

use std::any::Any;
use std::hint::black_box;
use std::time::Instant;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use fishmask::device::{Buffers, Cpu};
use fishmask::graph::plan::Mode;
use fishmask::graph::{Model, Plan};
use fishmask::ops::conv::cpu::{self, Algorithm};
use fishmask::ops::{Conv, ConvDgrad, ConvFprop, ConvOps, ConvWgrad, In, Out, Power, Work};

const NETWORKS: [(Model, usize); 3] = [(Model::Resnet9, 16), (Model::Resnet9, 64), (Model::Resnet34, 64)];

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
struct Cli {
    /// Every algorithm that can compute a shape, not only the one it gets
    #[arg(long)]
    all_algorithms: bool,
    /// 0: one a core
    #[arg(long, default_value = "0")]
    threads: usize,
    /// Runs of which the best counts
    #[arg(long, default_value = "10", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    runs: usize,
    /// Images
    #[arg(long, default_value = "128", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    batch: usize,
    /// Only layers with one of these in their name
    parts: Vec<String>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Failure> {
    let cli = Cli::parse();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(cli.threads).build()?;
    pool.install(|| {
        println!(
            "{:<44}{:>11}{:>18}{:>18}{:>18}{:>18}",
            "ms (GFLOP/s)", "", "fprop", "dgrad", "wgrad", "score"
        );
        for (model, width) in NETWORKS {
            for (name, conv) in layers(model, width, cli.batch)? {
                if cli.parts.is_empty() || cli.parts.iter().any(|part| name.contains(part)) {
                    layer(&cli, &name, &conv)?;
                }
            }
        }
        Ok(())
    })
}

/// The different convolutions of a network.
fn layers(model: Model, width: usize, batch: usize) -> Result<Vec<(String, Conv)>, Failure> {
    let graph = model.graph(width)?;
    let mut found: Vec<(&str, usize, Conv)> = vec![];
    for step in &Plan::<Cpu>::new(&graph, batch, Mode::Training)?.steps {
        let Some(conv) = (&*step.operation as &dyn Any).downcast_ref::<Conv>() else { continue };
        match found.iter_mut().find(|(.., other)| other == conv) {
            Some((_, times, _)) => *times += 1,
            None => found.push((&graph.nodes[step.nodes[0]].name, 1, *conv)),
        }
    }
    let name = |layer, times| format!("{model}-w{width} {layer} x{times}");
    Ok(found.into_iter().map(|(layer, times, conv)| (name(layer, times), conv)).collect())
}

fn layer(cli: &Cli, name: &str, conv: &Conv) -> Result<(), Failure> {
    let chosen = cpu::algorithm(conv);
    for algorithm in [Algorithm::Im2col, Algorithm::Winograd2, Algorithm::Winograd4] {
        let able = algorithm == Algorithm::Im2col || (conv.r, conv.stride, conv.pad) == (3, 1, 1);
        if algorithm != chosen && !(cli.all_algorithms && able) {
            continue;
        }
        let cell = |s: f64| format!("{:.3} ({:.0})", s * 1e3, conv.flops() as f64 / s * 1e-9);
        let [fprop, dgrad, wgrad] = passes(algorithm, conv, cli.runs)?.map(cell);
        let score = if algorithm == chosen { cell(score(conv, cli.runs)?) } else { String::new() };
        let algorithm = format!("{algorithm:?}");
        println!("{name:<44}{algorithm:>11}{fprop:>18}{dgrad:>18}{wgrad:>18}{score:>18}");
    }
    Ok(())
}

fn fill(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect()
}

/// Best seconds of fprop, dgrad, wgrad; one run more for the warm-up.
fn passes(algorithm: Algorithm, conv: &Conv, runs: usize) -> Result<[f64; 3], Failure> {
    let filters = conv.k * conv.r * conv.r * conv.c;
    let (x, dy, filter) = (fill(conv.inputs()), fill(conv.outputs()), fill(filters));
    let (mut y, mut dx, mut dfilter) =
        (vec![0.0; conv.outputs()], vec![0.0; conv.inputs()], vec![0.0; filters]);
    let mut sums = vec![0.0; 2 * conv.k];
    let mut cpu = Cpu::new();
    cpu.reserve(cpu::scratch(conv, algorithm))?;
    let whole = || In { vector: &filter, at: 0..filters };
    let mut best = [f64::INFINITY; 3];
    for run in 0..=runs {
        let start = Instant::now();
        let sums_at = Some((&mut sums, 0..2 * conv.k));
        cpu.conv_fprop_by(algorithm, conv, ConvFprop { x: &x, filter: whole(), y: &mut y, sums: sums_at });
        let fprop = start.elapsed();
        let dgrad = ConvDgrad { dy: &dy, filter: whole(), dx: &mut dx, accumulate: false };
        cpu.conv_dgrad_by(algorithm, conv, dgrad);
        let dgrad = start.elapsed();
        let into = Out::Gradients(&mut dfilter);
        cpu.conv_wgrad_by(algorithm, conv, ConvWgrad { x: &x, dy: &dy, filter: 0..filters, into });
        let wgrad = start.elapsed();
        black_box((&y, &dx, &dfilter, &sums));
        if run > 0 {
            let seconds = [fprop, dgrad - fprop, wgrad - dgrad].map(|d| d.as_secs_f64());
            best.iter_mut().zip(seconds).for_each(|(b, s)| *b = b.min(s));
        }
    }
    Ok(best)
}

/// Best seconds of the scores, likewise.
fn score(conv: &Conv, runs: usize) -> Result<f64, Failure> {
    let filters = conv.k * conv.r * conv.r * conv.c;
    let (x, dy, mut scores) = (fill(conv.inputs()), fill(conv.outputs()), vec![0.0; filters]);
    let mut cpu = Cpu::new();
    cpu.reserve(Cpu::conv_scratch(conv, Work::Score))?;
    let mut best = f64::INFINITY;
    for run in 0..=runs {
        let start = Instant::now();
        let into = Out::Scores(Power::Square, &mut scores);
        cpu.conv_wgrad(conv, ConvWgrad { x: &x, dy: &dy, filter: 0..filters, into })?;
        black_box(&scores);
        if run > 0 {
            best = best.min(start.elapsed().as_secs_f64());
        }
    }
    Ok(best)
}

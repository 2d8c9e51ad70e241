//! The plan of a run in a table: what `--summary` prints.

use std::io::{self, Write};

use super::{Error, batches, grouped, scoring_plan};
use crate::data::IMAGE;
use crate::graph::Graph;
use crate::graph::network::{plans, scratch, shared_slots};
use crate::graph::plan::Plan;
use crate::graph::summary::{rows, training_flops};
use crate::ops::Work;
use crate::optim::{Sgd, TrainingBackend};
use crate::settings::Config;

/// Bytes that a run keeps on its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Activations, their gradients and pooling's winners.
    pub activations: usize,
    /// Weights, gradients and velocity; of several workers each one's weights and velocity, and the merged model.
    pub weights: usize,
    /// What operations need beside their buffers.
    pub scratch: usize,
    /// Scores, and what samples are scored in.
    pub scoring: usize,
    /// The images.
    pub data: usize,
}

impl Memory {
    /// What a backend needs for a network's plans, for scoring by a plan of its own, for so many workers of several (0 for a
    /// single one), and for so many images.
    pub fn new<B: TrainingBackend>(
        graph: &Graph,
        (training, inference): (Option<&Plan>, &Plan),
        scoring: Option<&Plan>,
        workers: usize,
        images: usize,
    ) -> Memory {
        let value = size_of::<f32>();
        // The network has its weights and gradients; it, or each of several workers, what moves.
        let (network, state) = (B::WEIGHT + value, value * Sgd::STATE.len());
        let weight = match workers {
            0 => network + state,
            workers => network + workers * (B::WEIGHT + state),
        };
        let activations: usize = shared_slots(training, inference).iter().sum();
        let winners: usize = training.iter().flat_map(|plan| &plan.winners).sum();
        let plans = [(Some(inference), Work::Train), (training, Work::Train), (scoring, Work::Score)];
        let scratch = plans.into_iter().filter_map(|(plan, work)| Some(scratch::<B>(plan?, work))).collect();
        Memory {
            activations: activations * B::ACTIVATION + winners,
            weights: graph.layout.weight_count() * weight,
            scratch: B::scratch_bytes(scratch),
            scoring: scoring.map_or(0, |plan| {
                let (scores, moments) =
                    (graph.layout.weight_count(), plan.batch * graph.layout.statistic_count());
                plan.activation_bytes(B::ACTIVATION) + size_of::<f32>() * (scores + moments)
            }),
            // Pixels and a label.
            data: images * (IMAGE + 1),
        }
    }

    /// All of it.
    pub fn total(&self) -> usize {
        self.activations + self.weights + self.scratch + self.scoring + self.data
    }
}

/// Writes each forward step's nodes, output shape for one image, parameters and MFLOP an image, then totals and the
/// memory that training takes on a backend with `images` images and, of a run of several workers, so many of them.
///
/// # Errors
/// When the model cannot be planned or `out` not written.
pub fn print<B: TrainingBackend>(
    out: &mut impl Write,
    config: &Config,
    workers: usize,
    images: usize,
) -> Result<(), Error> {
    let graph = config.network.model.graph(config.network.width)?;
    let (training, inference) = plans(&graph, batches(config))?;
    let plan = training.as_ref().unwrap_or(&inference);
    let rows = rows(&graph, plan);
    let scoring = scoring_plan(config, &graph)?;
    let workers = if config.has_workers() { workers } else { 0 };
    let memory = Memory::new::<B>(&graph, (training.as_ref(), &inference), scoring.as_ref(), workers, images);

    let width = rows.iter().map(|row| row.nodes.len()).max().unwrap_or(0);
    let mut table = || -> io::Result<()> {
        writeln!(out, "{} of width {}, batch {}", config.network.model, config.network.width, plan.batch)?;
        writeln!(out, "{:width$}  {:>10}  {:>10}  {:>9}", "nodes", "output", "parameters", "MFLOP")?;
        for row in &rows {
            let (shape, parameters) = (row.shape.to_string(), grouped(row.parameters as u64));
            let mflop = row.flops as f64 / 1e6;
            writeln!(out, "{:width$}  {shape:>10}  {parameters:>10}  {mflop:9.3}", row.nodes)?;
        }
        let flops = training_flops(&graph, plan) as f64;
        writeln!(out, "\nparameters                    {}", grouped(graph.layout.weight_count() as u64))?;
        writeln!(out, "training, for one image       {:.1} MFLOP, forward and backward", flops / 1e6)?;
        writeln!(out, "device                        {}, {}", config.device.name, config.device.precision)?;
        for (what, bytes) in [
            ("activations", memory.activations),
            ("weights, gradients, velocity", memory.weights),
            ("scratch", memory.scratch),
            ("scoring", memory.scoring),
            ("images", memory.data),
            ("memory in all", memory.total()),
        ] {
            writeln!(out, "{what:28}  {:.1} MB", bytes as f64 / 1e6)?;
        }
        Ok(())
    };
    table().map_err(|error| Error::Output { what: "the summary", source: error })
}

//! The plan of a run in a table: what `--summary` prints.

use std::io::{self, Write};

use super::grouped;
use crate::graph::summary::{rows, training_flops};
use crate::optim::TrainingBackend;
use crate::settings::Config;
use crate::train::{Error, Plans};

/// Writes each forward step's nodes, output shape for one image, parameters and MFLOP an image, then totals
/// and the memory that training takes on a device: with `images` images and, of several workers, `workers`
/// that share it.
///
/// # Errors
/// When the model cannot be planned, or `out` cannot be written.
pub fn print<B: TrainingBackend>(
    out: &mut impl Write,
    config: &Config,
    workers: usize,
    images: usize,
) -> Result<(), Error> {
    let plans = Plans::<B>::new(config)?;
    let (graph, plan) = (&plans.graph, &plans.training);
    let rows = rows(graph, plan);
    let replicas = if config.has_workers() { workers } else { 0 };
    let memory = plans.memory(replicas, images);

    let width = rows.iter().map(|row| row.nodes.len()).max().unwrap_or(0);
    let mut table = || -> io::Result<()> {
        writeln!(out, "{} of width {}, batch {}", config.network.model, config.network.width, plan.batch)?;
        writeln!(out, "{:width$}  {:>10}  {:>10}  {:>9}", "nodes", "output", "parameters", "MFLOP")?;
        for row in &rows {
            let (shape, parameters) = (row.shape.to_string(), grouped(row.parameters as u64));
            let mflop = row.flops as f64 / 1e6;
            writeln!(out, "{:width$}  {shape:>10}  {parameters:>10}  {mflop:9.3}", row.nodes)?;
        }
        let flops = training_flops(plan) as f64;
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

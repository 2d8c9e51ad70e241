//! The plan of a run in a table: what `--summary` prints.

use std::io::{self, Write};

use super::{Config, Error, grouped};
use crate::backend::{Conv, Norm};
use crate::graph::network::{Batches, plans, shared_slots};
use crate::graph::summary::{rows, training_flops};

/// Bytes of an activation or weight.
const ELEMENT: usize = 4;

/// Writes each forward step's nodes, output shape for one image, parameters and MFLOP an image, then totals and the
/// memory that training takes at these batch sizes. `scratch_bytes` is the backend's
/// [`scratch_bytes`](crate::backend::Backend::scratch_bytes).
///
/// # Errors
/// When the model cannot be planned or `out` not written.
pub fn print(
    out: &mut impl Write,
    config: &Config,
    batches: Batches,
    scratch_bytes: impl Fn(&[Conv], &[Norm]) -> usize,
) -> Result<(), Error> {
    let graph = config.model.graph(config.width)?;
    let (training, inference) = plans(&graph, batches)?;
    let plan = training.as_ref().unwrap_or(&inference);
    let rows = rows(&graph, plan);

    let activations: usize = shared_slots(training.as_ref(), &inference).iter().sum();
    let winners: usize = training.iter().flat_map(|plan| &plan.winners).sum();
    let (mut convs, mut norms) = (inference.convs(), inference.norms());
    training.iter().for_each(|plan| {
        convs.extend(plan.convs());
        norms.extend(plan.norms());
    });
    let memory = [
        ("activations", activations * ELEMENT + winners),
        // A gradient and a velocity for each weight.
        ("weights, gradients, velocity", 3 * graph.layout.weights() * ELEMENT),
        ("scratch", scratch_bytes(&convs, &norms)),
    ];

    let width = rows.iter().map(|row| row.nodes.len()).max().unwrap_or(0);
    let mut table = || -> io::Result<()> {
        writeln!(out, "{} of width {}, batch {}", config.model, config.width, plan.batch)?;
        writeln!(out, "{:width$}  {:>10}  {:>10}  {:>9}", "nodes", "output", "parameters", "MFLOP")?;
        for row in &rows {
            let (shape, parameters) = (row.shape.to_string(), grouped(row.parameters as u64));
            let mflop = row.flops as f64 / 1e6;
            writeln!(out, "{:width$}  {shape:>10}  {parameters:>10}  {mflop:9.3}", row.nodes)?;
        }
        let flops = training_flops(&graph, plan) as f64;
        writeln!(out, "\nparameters                    {}", grouped(graph.layout.weights() as u64))?;
        writeln!(out, "training, for one image       {:.1} MFLOP, forward and backward", flops / 1e6)?;
        for (what, bytes) in memory {
            writeln!(out, "{what:28}  {:.1} MB", bytes as f64 / 1e6)?;
        }
        let total: usize = memory.iter().map(|(_, bytes)| bytes).sum();
        writeln!(out, "{:28}  {:.1} MB", "memory in all", total as f64 / 1e6)
    };
    table().map_err(|error| Error::Output { what: "the summary", source: error })
}

//! Builds a network of one's own and trains it by hand on one batch: `cargo run --release --example network`.

use std::sync::Arc;

use fishmask::data::synthetic;
use fishmask::device::Cpu;
use fishmask::graph::network::{Batches, plans};
use fishmask::graph::{Graph, Init, Network, Phase, Shape};
use fishmask::ops::conv::ConvLayer;
use fishmask::ops::linear::LinearLayer;
use fishmask::ops::norm::{BatchNorm, Pool, Relu};
use fishmask::ops::pool::GlobalAveragePool;
use fishmask::ops::{AugmentOps, LossOps, Position, Totals};
use fishmask::optim::{RateOps, Sgd, Update};
use fishmask::train::Error;

/// Returns the mean loss of the batch before each step.
pub fn run(steps: usize) -> Result<Vec<f64>, Error> {
    let (mut graph, image) = Graph::new(Shape { h: 32, w: 32, c: 3 });
    let init = Init::fan_in(9 * 3);
    let x = graph.layer("conv", &[image], ConvLayer { k: 8, r: 3, stride: 1, pad: 1, init })?;
    let x = graph.layer("norm", &[x], BatchNorm)?;
    let x = graph.layer("relu", &[x], Relu)?;
    let x = graph.layer("pool", &[x], Pool::square(8))?;
    let x = graph.layer("average", &[x], GlobalAveragePool)?;
    graph.layer("linear", &[x], LinearLayer { k: 10, bias: true })?;

    let layout = graph.layout.clone();
    let (weights, running) = (layout.initial_weights(0), layout.initial_statistics());
    let n = 50;
    let plans = plans(&graph, Batches { training: Some(n), inference: n })?;
    let mut network = Network::new(graph, plans, Cpu::new(), &weights, &running)?;
    let split = Arc::new(synthetic::dataset(n, 10, 0).train);
    let mut data = network.backend().data(&split, None)?;
    let mut optimizer = Update::dense(&mut network, &vec![0.0; layout.weight_count()])?;
    // Gradients are of the summed loss, so the rate is divided by the number of images.
    network.backend().set_rates(&vec![0.1 / n as f32; steps], 0)?;
    let sgd = Sgd { momentum: 0.9, weight_decay: 0.0 };
    let mut losses = vec![];
    for _ in 0..steps {
        network.backend().seek(&mut data, Position { epoch: 0, image: 0 })?;
        network.backend().set_totals(Totals::default())?;
        network.draw_batch(Phase::Training, &mut data, n)?;
        network.forward(Phase::Training, n, 0.0)?;
        network.backward(n)?;
        optimizer.step(&mut network, &sgd)?;
        losses.push(network.backend().totals()?.loss / n as f64);
    }
    Ok(losses)
}

#[allow(dead_code)] // The tests call `run`.
fn main() -> Result<(), Error> {
    run(20)?.iter().enumerate().for_each(|(step, loss)| println!("step {step:2}: loss {loss:.4}"));
    Ok(())
}

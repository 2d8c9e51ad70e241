//! The same bits whatever the number of threads.

use crate::support::{channels_last, labels, normals, on_threads};
use fishmask::device::Cpu;
use fishmask::graph::network::{Batches, plans};
use fishmask::graph::{Model, Network, Phase};
use fishmask::ops::Totals;
use fishmask::optim::{Moves, Sgd, SgdBuffers, TrainingBackend};

/// Bits of the weights, velocities and running statistics after three training steps, of each step's loss,
/// and of the loss of an evaluation.
fn train<B: TrainingBackend>(backend: B, model: Model, width: usize, n: usize) -> [Vec<u64>; 4] {
    let graph = model.graph(width).unwrap();
    let plans = plans(&graph, Batches { training: Some(n), inference: n }).unwrap();
    let (weights, running) = (graph.layout.initial_weights(3), graph.layout.initial_statistics());
    let mut velocity = backend.vector(&vec![0.0; weights.len()]).unwrap();
    let mut network = Network::new(graph, plans, backend, &weights, &running).unwrap();
    let sgd = Sgd { momentum: 0.9, weight_decay: 5e-4 * n as f32 };
    network.backend().set_rates(&[0.1 / n as f32; 3], 0).unwrap();
    let mut losses = vec![];
    for step in 0..4 {
        let (images, labels) = (normals(&[n, 3, 32, 32], step), labels(n, 10, step));
        let labels: Vec<u8> = labels.iter().map(|&l| l as u8).collect();
        let phase = if step < 3 { Phase::Training } else { Phase::Inference };
        network.backend().set_totals(Totals::default()).unwrap();
        network.set_batch(phase, &channels_last(&images), &labels).unwrap();
        network.forward(phase, n, 0.1).unwrap();
        losses.push(network.backend().totals().unwrap().loss.to_bits());
        if phase == Phase::Training {
            network.backward(n).unwrap();
            let (backend, gradients, weights) = network.parameters();
            backend
                .sgd(&sgd, Moves::All, SgdBuffers { gradients, velocity: &mut velocity, weights })
                .unwrap();
        }
    }
    let bits = |values: Vec<f32>| {
        assert!(values.iter().all(|v| v.is_finite()));
        values.into_iter().map(|v| u64::from(v.to_bits())).collect()
    };
    let velocity = network.backend().read(&velocity).unwrap();
    assert!(velocity.iter().any(|&v| v != 0.0));
    [bits(network.read_weights().unwrap()), bits(velocity), bits(network.read_running().unwrap()), losses]
}

#[test]
fn one_two_and_three_threads_give_the_same_bits() {
    for (model, width, n) in [(Model::Resnet9, 8, 12), (Model::Resnet18, 4, 5)] {
        let run = |threads: usize| on_threads(threads, || train(Cpu::new(), model, width, n));
        let alone = run(1);
        for threads in [2, 3, 2] {
            let together = run(threads);
            for (i, what) in ["weights", "velocities", "running statistics", "losses"].iter().enumerate() {
                // Not assert_eq: nobody wants to see them all.
                let same = alone[i] == together[i];
                assert!(same, "{model}: {what} differ between 1 and {threads} threads");
            }
        }
    }
}

//! The optimiser: by hand, against its formula in f64, and three steps of each network against PyTorch.

use crate::support::device::{Probe, U, on_cuda_devices, on_every_device};
use crate::support::fixture::Fixture;
use crate::support::nets::{self, schedule};
use crate::support::reference::{Named, Tensor};
use crate::support::{assert_close, channels_last, normals};
use fishmask::device::driver::Driver;
use fishmask::device::{Buffers, Cpu, Cuda};
use fishmask::graph::network::{Batches, plans};
use fishmask::graph::{Model, Network, Phase};
use fishmask::ops::Totals;
use fishmask::optim::{Moves, RateOps, Sgd, SgdBuffers, SgdOps};
use half::f16;

fn three_steps_by_hand<B: Probe>(mut backend: B) {
    // d = -lr (g + wd w), v = momentum v + d, w += d + momentum v; powers of 2 keep f32 exact.
    let mut weights = backend.upload_weights(&[2.0, -1.0, 0.0]).unwrap();
    let mut velocity = backend.vector(&[0.0, 0.0, 0.0]).unwrap();
    let steps = [
        // g + wd w = 4, 1.5, 0: d = v = -1, -0.375, 0; w += 1.5 d.
        (0.25, [3.0, 2.0, 0.0], [-1.0, -0.375, 0.0], [0.5, -1.5625, 0.0]),
        // g + wd w = 1.25, -0.78125, 4: d = -0.625, 0.390625, -2; v = -0.5 + d, -0.1875 + d, d.
        (0.5, [1.0, 0.0, 4.0], [-1.125, 0.203125, -2.0], [-0.6875, -1.0703125, -3.0]),
        // lr 0: d = 0, v halves, w += v / 2.
        (0.0, [9.0, 9.0, 9.0], [-0.5625, 0.1015625, -1.0], [-0.96875, -261.0 / 256.0, -3.5]),
    ];
    for (lr, g, v, w) in steps {
        let gradients = backend.vector(&g).unwrap();
        backend.set_rates(&[0.125, lr], 1).unwrap();
        let sgd = Sgd { momentum: 0.5, weight_decay: 0.5 };
        backend
            .sgd(
                &sgd,
                Moves::All,
                SgdBuffers { gradients: &gradients, velocity: &mut velocity, weights: &mut weights },
            )
            .unwrap();
        assert_eq!(backend.read(&velocity).unwrap(), v);
        assert_eq!(backend.read(&weights).unwrap(), w);
        assert_eq!(backend.read(&gradients).unwrap(), g);
    }
}

/// Lengths around every vector width and around a task's share.
fn against_f64<B: Probe>(mut backend: B) {
    for length in [1, 7, 17, 1000, 16_384, 16_385, 40_003] {
        let [mut w, mut v] = [normals(&[length], 1), normals(&[length], 2)].map(|t| t.f32s());
        let (mut weights, mut velocity) = (backend.upload_weights(&w).unwrap(), backend.vector(&v).unwrap());
        // The steps take the rates one after another.
        let rates = [0.1, 0.2, 0.3];
        backend.set_rates(&rates, 0).unwrap();
        for step in 0..3 {
            let g = normals(&[length], 3 + step).f32s();
            let sgd = Sgd { momentum: 0.9, weight_decay: 0.05 };
            let gradients = backend.vector(&g).unwrap();
            backend
                .sgd(
                    &sgd,
                    Moves::All,
                    SgdBuffers { gradients: &gradients, velocity: &mut velocity, weights: &mut weights },
                )
                .unwrap();
            let [lr, momentum, decay] = [rates[step as usize], sgd.momentum, sgd.weight_decay].map(f64::from);
            let name = |values: &[f32]| {
                let values = values.iter().map(|&x| f64::from(x)).collect();
                Named::from([("w".to_owned(), Tensor::new(&[length], values))])
            };
            let (mut state, mut expected) = (name(&w), name(&v));
            nets::sgd(&mut state, &mut expected, &name(&g), lr, decay, momentum);
            (w, v) = (backend.read(&weights).unwrap(), backend.read(&velocity).unwrap());
            // Each step starts from the backend's own f32: a dozen roundings of terms below 6.
            assert_close(&v, &expected["w"].data, 24.0 * U, 4.0 * U, "velocity");
            assert_close(&w, &state["w"].data, 24.0 * U, 4.0 * U, "weights");
        }
    }
}

/// The CPU's bits in f32, and the halves in step with them. Then a step more than there are rates for.
fn same_bits_as_the_cpu<D: Driver>(mut backend: Cuda<D>) {
    for length in [1, 8, 13, 4099] {
        let [w, v] = [normals(&[length], 1), normals(&[length], 2)].map(|t| t.f32s());
        let mut cpu = Cpu::new();
        let (mut cpu_w, mut cpu_v) = (w.clone(), v.clone());
        let (mut weights, mut velocity) = (backend.upload_weights(&w).unwrap(), backend.vector(&v).unwrap());
        let (rates, sgd) = ([0.1, 0.02, 0.003], Sgd { momentum: 0.9, weight_decay: 0.05 });
        cpu.set_rates(&rates, 0).unwrap();
        backend.set_rates(&rates, 0).unwrap();
        for step in 0..3 {
            let g = normals(&[length], 3 + step).f32s();
            let gradients = backend.vector(&g).unwrap();
            backend
                .sgd(
                    &sgd,
                    Moves::All,
                    SgdBuffers { gradients: &gradients, velocity: &mut velocity, weights: &mut weights },
                )
                .unwrap();
            cpu.sgd(
                &sgd,
                Moves::All,
                SgdBuffers { gradients: &g, velocity: &mut cpu_v, weights: &mut cpu_w },
            )
            .unwrap();
            assert_eq!(backend.read(&weights).unwrap(), cpu_w, "step {step}");
            assert_eq!(backend.read(&velocity).unwrap(), cpu_v, "step {step}");
            let halves = weights.halves.as_ref().unwrap().read(backend.driver(), length).unwrap();
            assert!(halves.iter().zip(&cpu_w).all(|(h, &w)| *h == f16::from_f32(w)), "step {step}");
        }
        let gradients = backend.vector(&w).unwrap();
        backend
            .sgd(
                &sgd,
                Moves::All,
                SgdBuffers { gradients: &gradients, velocity: &mut velocity, weights: &mut weights },
            )
            .unwrap();
        assert!(backend.read(&weights).unwrap().iter().all(|w| w.is_nan()));
    }
}

/// |actual - expected| / |expected|, of vectors.
fn distance(actual: &[f64], expected: &[f64]) -> f64 {
    let square = |v: f64| v * v;
    let error: f64 = actual.iter().zip(expected).map(|(a, e)| square(a - e)).sum();
    (error / expected.iter().map(|&e| square(e)).sum::<f64>()).sqrt()
}

/// Three whole training steps, compared with PyTorch's f64 by the losses, by what a few parameters moved and
/// by a projection of every parameter's move. `bound` is on each, as a share of its length: one step's
/// gradients are known to 3e-4 (see `network.rs`), and steps of this size (a loss of 6.5 becomes 1.8) make
/// the next ones' errors a few times larger each.
fn trains_as_pytorch<B: Probe>(make: impl Fn() -> B, bound: f64) {
    for (model, file, width) in [
        (Model::Resnet9, "resnet9_w4", 4),
        (Model::Resnet18, "resnet18_w2", 2),
        (Model::Resnet34, "resnet34_w2", 2),
    ] {
        let fixture = Fixture::open(file);
        let graph = model.graph(width).unwrap();
        let layout = graph.layout.clone();
        let before = fixture.named("before.");
        let canonical: Vec<f32> = layout.parameters.iter().flat_map(|p| before[&p.name].f32s()).collect();
        let statistics = layout.statistics.iter().flat_map(|s| s.tensors());
        let running: Vec<f32> = statistics.flat_map(|(name, _)| before[&name].f32s()).collect();
        let labels: Vec<u8> = fixture.labels("labels").iter().map(|&l| l as u8).collect();
        let (n, images) = (labels.len(), channels_last(fixture.tensor("images")));
        let plans = plans(&graph, Batches { training: Some(n), inference: n }).unwrap();
        let backend = make();
        let mut velocity = backend.vector(&vec![0.0; layout.weight_count()]).unwrap();
        let weights = layout.to_memory(&canonical);
        let mut network = Network::new(graph, plans, backend, &weights, &running).unwrap();
        let mut losses = vec![];
        for step in 1..=4 {
            network.backend().set_totals(Totals::default()).unwrap();
            network.set_batch(Phase::Training, &images, &labels).unwrap();
            network.forward(Phase::Training, n, 0.0).unwrap();
            losses.push(network.backend().totals().unwrap().loss);
            if step == 4 {
                break;
            }
            network.backward(n).unwrap();
            let lr = schedule(f64::from(step) / 2.0, 0.4, 5.0, 24.0) / n as f64;
            let sgd = Sgd { momentum: 0.9, weight_decay: (5e-4 * n as f64) as f32 };
            let (backend, gradients, weights) = network.parameters();
            backend.set_rates(&[lr as f32], 0).unwrap();
            backend
                .sgd(&sgd, Moves::All, SgdBuffers { gradients, velocity: &mut velocity, weights })
                .unwrap();
        }
        let mut found = vec![("losses".to_owned(), distance(&losses, &fixture.tensor("steps.losses").data))];
        let after = layout.to_canonical(&network.read_weights().unwrap());
        let expected = fixture.named("steps.");
        let mut projections = vec![];
        for p in &layout.parameters {
            let old = &before[&p.name].data;
            let moved: Vec<f64> = after[p.range()].iter().zip(old).map(|(&a, b)| f64::from(a) - b).collect();
            projections.push(moved.iter().enumerate().map(|(i, m)| m * (1.0 + i as f64).cos()).sum());
            if let Some(expected) = expected.get(&p.name) {
                let expected: Vec<f64> = expected.data.iter().zip(old).map(|(a, b)| a - b).collect();
                found.push((p.name.clone(), distance(&moved, &expected)));
            }
        }
        found.push(("projection".to_owned(), distance(&projections, &expected["projection"].data)));
        assert!(found.len() >= 5, "{file}: {found:?}");
        for (name, distance) in &found {
            println!("{file} {name}: {distance:e}");
            assert!(*distance <= bound, "{file} {name}: {distance:e} of its length away");
        }
    }
}

on_every_device!(three_steps_by_hand, against_f64);
on_cuda_devices!(same_bits_as_the_cpu);

#[test]
fn trains_as_pytorch_cpu() {
    trains_as_pytorch(Cpu::new, 3e-3);
}

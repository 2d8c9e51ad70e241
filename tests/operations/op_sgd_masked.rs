//! Optimiser steps that know which weights are kept, against the dense rule, whose bits they have.

use crate::support::device::{Probe, on_cuda_devices, on_every_device};
use crate::support::{normals, on_threads};
use fishmask::device::driver::Driver;
use fishmask::device::{Buffers, Cpu, Cuda, Error};
use fishmask::optim::{Moves, RateOps, Sgd, SgdBuffers, SgdOps};
use fishmask::rng::{Purpose, Stream};
use half::f16;

const SGD: Sgd = Sgd { momentum: 0.9, weight_decay: 0.05 };
const RATES: [f32; 4] = [0.1, 0.0, 0.02, 0.003];

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// What a weight outside a mask may hold: a step that reads it, writes it or computes with it would show.
const ODD: [f32; 6] = [f32::NAN, -0.0, 1e-42, f32::INFINITY, f32::MAX, -1.5];

/// (length, kept): around a vector's width and a task's share; few, one, runs, both ends, all.
fn masks() -> Vec<(usize, Vec<u32>)> {
    let every = |length: usize, step: usize| (length, (0..length as u32).step_by(step).collect());
    let random = |length: u32, one_in: u32| {
        let mut stream = Stream::new(3, Purpose::Synthetic, length, one_in);
        (length as usize, (0..length).filter(|_| stream.below(one_in) == 0).collect::<Vec<u32>>())
    };
    vec![
        every(1, 1),
        every(17, 1),
        every(1000, 3),
        (40_003, vec![40_002]),
        (33_000, (100..140).chain(16_380..16_390).chain(32_990..33_000).collect()),
        random(40_003, 50),
        random(40_003, 2),
        random(70_001, 1000),
        // Skewed: a classifier at the end kept whole.
        (50_000, (5..50_000).step_by(997).filter(|&i| i < 45_000).chain(45_000..50_000).collect()),
        every(40_003, 1),
    ]
}

fn strict<B: Probe>(mut backend: B) {
    for (length, kept) in masks() {
        let what = format!("{} of {length}", kept.len());
        let inside = |i: usize| kept.binary_search(&(i as u32)).is_ok();
        let pick = |values: &[f32]| kept.iter().map(|&i| values[i as usize]).collect::<Vec<f32>>();
        let mut w = normals(&[length], 1).f32s();
        (0..length).filter(|&i| !inside(i)).for_each(|i| w[i] = ODD[i % ODD.len()]);
        let v = normals(&[kept.len()], 2).f32s();
        let on_device = backend.indices(&kept).unwrap();
        let (mut weights, mut velocity) = (backend.upload_weights(&w).unwrap(), backend.vector(&v).unwrap());
        let (mut dense_w, mut dense_v) =
            (backend.upload_weights(&pick(&w)).unwrap(), backend.vector(&v).unwrap());
        for step in 0..RATES.len() {
            let mut g = normals(&[length], 3 + step as u64).f32s();
            (0..length).filter(|&i| !inside(i)).for_each(|i| g[i] = f32::NAN);
            backend.set_rates(&RATES, step).unwrap();
            let gradients = backend.vector(&pick(&g)).unwrap();
            backend
                .sgd(
                    &SGD,
                    Moves::All,
                    SgdBuffers { gradients: &gradients, velocity: &mut dense_v, weights: &mut dense_w },
                )
                .unwrap();
            let gradients = backend.vector(&g).unwrap();
            backend.set_rates(&RATES, step).unwrap();
            backend
                .sgd(
                    &SGD,
                    Moves::At(&on_device),
                    SgdBuffers { gradients: &gradients, velocity: &mut velocity, weights: &mut weights },
                )
                .unwrap();
            let (after, dense) = (backend.read(&weights).unwrap(), backend.read(&dense_w).unwrap());
            assert!(dense.iter().all(|v| v.is_finite()));
            assert!(bits(&pick(&after)) == bits(&dense), "{what}, step {step}: kept weights");
            let outside = (0..length).filter(|&i| !inside(i));
            let same = outside.into_iter().all(|i| after[i].to_bits() == w[i].to_bits());
            assert!(same, "{what}, step {step}: a weight outside the mask changed");
            let (found, dense) = (backend.read(&velocity).unwrap(), backend.read(&dense_v).unwrap());
            assert!(bits(&found) == bits(&dense), "{what}, step {step}: velocity");
            assert!(bits(&backend.read(&gradients).unwrap()) == bits(&g), "{what}: gradients changed");
        }
    }
}

fn published<B: Probe>(mut backend: B) {
    for (length, kept) in masks() {
        let what = format!("{} of {length}", kept.len());
        // Any byte but 0 keeps.
        let mut mask = vec![0; length];
        kept.iter().for_each(|&i| mask[i as usize] = if i % 2 == 0 { 1 } else { 255 });
        let [w, v] = [normals(&[length], 1), normals(&[length], 2)].map(|t| t.f32s());
        let mut on_device = backend.bytes(length).unwrap();
        backend.write_bytes(&mask, &mut on_device).unwrap();
        let (mut weights, mut velocity) = (backend.upload_weights(&w).unwrap(), backend.vector(&v).unwrap());
        let (mut dense_w, mut dense_v) = (backend.upload_weights(&w).unwrap(), backend.vector(&v).unwrap());
        for (step, rate) in RATES.into_iter().enumerate() {
            let mut g = normals(&[length], 3 + step as u64).f32s();
            let masked: Vec<f32> = g.iter().zip(&mask).map(|(&g, &m)| if m == 0 { 0.0 } else { g }).collect();
            g.iter_mut().zip(&mask).filter(|(_, m)| **m == 0).for_each(|(g, _)| *g = f32::NAN);
            backend.set_rates(&RATES, step).unwrap();
            let gradients = backend.vector(&masked).unwrap();
            backend
                .sgd(
                    &SGD,
                    Moves::All,
                    SgdBuffers { gradients: &gradients, velocity: &mut dense_v, weights: &mut dense_w },
                )
                .unwrap();
            let gradients = backend.vector(&g).unwrap();
            backend.set_rates(&RATES, step).unwrap();
            backend
                .sgd(
                    &SGD,
                    Moves::GradientsWhere(&on_device),
                    SgdBuffers { gradients: &gradients, velocity: &mut velocity, weights: &mut weights },
                )
                .unwrap();
            let (after, dense) = (backend.read(&weights).unwrap(), backend.read(&dense_w).unwrap());
            assert!(bits(&after) == bits(&dense), "{what}, step {step}: weights");
            // Decay moves weights that no gradient does.
            assert!(rate == 0.0 || (0..length).all(|i| after[i] != w[i]), "{what}, step {step}");
            let (found, dense) = (backend.read(&velocity).unwrap(), backend.read(&dense_v).unwrap());
            assert!(bits(&found) == bits(&dense), "{what}, step {step}: velocity");
        }
    }
}

/// What the tensor cores read is kept in step.
fn halves_follow<D: Driver>(mut backend: Cuda<D>) {
    for (length, kept) in masks() {
        let w = normals(&[length], 1).f32s();
        let gradients = backend.vector(&normals(&[length], 2).f32s()).unwrap();
        let indices = backend.indices(&kept).unwrap();
        let mut bytes = backend.bytes(length).unwrap();
        backend.write_bytes(&vec![1; length], &mut bytes).unwrap();
        for strict in [true, false] {
            let mut weights = backend.upload_weights(&w).unwrap();
            let moving = if strict { kept.len() } else { length };
            let mut velocity = backend.vector(&vec![0.0; moving]).unwrap();
            backend.set_rates(&RATES, 0).unwrap();
            match strict {
                true => backend.sgd(
                    &SGD,
                    Moves::At(&indices),
                    SgdBuffers { gradients: &gradients, velocity: &mut velocity, weights: &mut weights },
                ),
                false => backend.sgd(
                    &SGD,
                    Moves::GradientsWhere(&bytes),
                    SgdBuffers { gradients: &gradients, velocity: &mut velocity, weights: &mut weights },
                ),
            }
            .unwrap();
            let halves = weights.halves.as_ref().unwrap().read(backend.driver(), length).unwrap();
            let values = backend.read(&weights).unwrap();
            assert!(kept.iter().any(|&i| f16::from_f32(values[i as usize]) != f16::from_f32(w[i as usize])));
            let follow = halves.iter().zip(values).all(|(h, v)| *h == f16::from_f32(v));
            assert!(follow, "{} of {length}, strict {strict}", kept.len());
        }
    }
}

/// Both rules take the rates one after another, as the dense one does, and say what they lack as it does.
fn rates_in_turn<B: Probe>(mut backend: B) {
    let sgd = Sgd { momentum: 0.0, weight_decay: 0.0 };
    let (gradients, kept) = (backend.vector(&[1.0, 1.0]).unwrap(), backend.indices(&[1]).unwrap());
    let mut bytes = backend.bytes(2).unwrap();
    backend.write_bytes(&[0, 1], &mut bytes).unwrap();
    for strict in [true, false] {
        let mut weights = backend.upload_weights(&[8.0, 8.0]).unwrap();
        let mut velocity = backend.vector(&vec![0.0; if strict { 1 } else { 2 }]).unwrap();
        backend.set_rates(&[0.5, 1.0, 2.0], 1).unwrap();
        for expected in [7.0, 5.0] {
            if strict {
                backend
                    .sgd(
                        &sgd,
                        Moves::At(&kept),
                        SgdBuffers { gradients: &gradients, velocity: &mut velocity, weights: &mut weights },
                    )
                    .unwrap();
            } else {
                backend
                    .sgd(
                        &sgd,
                        Moves::GradientsWhere(&bytes),
                        SgdBuffers { gradients: &gradients, velocity: &mut velocity, weights: &mut weights },
                    )
                    .unwrap();
            }
            assert_eq!(backend.read(&weights).unwrap(), [8.0, expected], "strict {strict}");
        }
    }
}

/// A step more than there are rates for.
#[test]
fn steps_without_a_rate_cpu() {
    let mut cpu = Cpu::new();
    let (mut w, mut v, g) = (vec![1.0], vec![0.0], vec![1.0]);
    for strict in [true, false] {
        cpu.set_rates(&[0.5], 1).unwrap();
        let error = match strict {
            true => cpu.sgd(
                &SGD,
                Moves::At(&vec![0]),
                SgdBuffers { gradients: &g, velocity: &mut v, weights: &mut w },
            ),
            false => cpu.sgd(
                &SGD,
                Moves::GradientsWhere(&vec![1]),
                SgdBuffers { gradients: &g, velocity: &mut v, weights: &mut w },
            ),
        };
        assert!(matches!(error, Err(Error::Steps { steps: 2, most: 1 })), "{error:?}");
        assert_eq!((&w, &v), (&vec![1.0], &vec![0.0]));
    }
}

/// With nothing kept, nothing happens.
fn nothing_kept<B: Probe>(mut backend: B) {
    backend.set_rates(&[0.5], 0).unwrap();
    let (gradients, kept) = (backend.vector(&[f32::NAN; 2]).unwrap(), backend.indices(&[]).unwrap());
    let mut weights = backend.upload_weights(&[1.0, f32::NAN]).unwrap();
    let mut velocity = backend.vector(&[]).unwrap();
    backend
        .sgd(
            &SGD,
            Moves::At(&kept),
            SgdBuffers { gradients: &gradients, velocity: &mut velocity, weights: &mut weights },
        )
        .unwrap();
    assert_eq!(bits(&backend.read(&weights).unwrap()), bits(&[1.0, f32::NAN]));
}

on_every_device!(nothing_kept, strict, published, rates_in_turn);
on_cuda_devices!(halves_follow);

#[test]
fn any_number_of_threads_cpu() {
    for threads in [1, 3] {
        on_threads(threads, || strict(Cpu::new()));
    }
}

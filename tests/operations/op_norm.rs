//! Fused batch norm, every combination of its parts: small integers exactly, then normals against the f64
//! reference, PyTorch's fixtures, statistics, NaNs, faults.

use crate::support::device::{Probe, U, emulated, largest, on_every_device, poisoned, stored, tensor};
use crate::support::fixture::Fixture;
use crate::support::gpu::on_gpu;
use crate::support::norm::{
    Bounds, Inputs, Outputs, POOLS, batch_statistics, check_case, combinations, normal_inputs, output_shape,
    reference, rest,
};
use crate::support::reference::{BatchStatistics, Statistics, Tape, Tensor};
use crate::support::{assert_close, channels_first, channels_last, integers, normals};
use fishmask::device::Cpu;
use fishmask::device::{Fault, Place};
use fishmask::ops::{
    Affine, Groups, Norm, NormBackward, NormForward, Out, Pool, ResidualGradient, StatisticsOf, Totals, Work,
};

/// (N, H, W, C): channels below, at and around a vector's width, a multiple of 8 and not, and more than a
/// block's; windows of every pool with pixels left over; pixels for several blocks.
const SHAPES: [[usize; 4]; 7] = [
    [3, 8, 12, 1],
    [2, 9, 6, 3],
    [3, 5, 7, 16],
    [2, 6, 10, 20],
    [2, 4, 5, 67],
    [3, 10, 6, 40],
    [2, 7, 6, 264],
];

/// Small integers, and statistics whose products are exact: everything but the division by the count is exact
/// in f32, and so is that where the count is a power of 2; then only dx may need rounding to be stored.
/// Windows and ReLUs meet many ties and zeros.
fn integers_exactly<B: Probe>(mut backend: B) {
    for (seed, shape) in SHAPES.into_iter().chain([[2, 8, 4, 5], [4, 4, 8, 24]]).enumerate() {
        let [n, h, w, c] = shape;
        let seed = 10 * seed as u64;
        for norm in combinations(shape) {
            let mut weight = integers(&[c], 2, seed + 1);
            weight.data.iter_mut().filter(|v| **v == 0.0).for_each(|v| *v = -1.0);
            let mut statistics = integers(&[c], 1, seed + 2).f32s();
            statistics.extend(integers(&[c], 1, seed + 3).f32s().iter().map(|e| e.exp2()));
            let inputs = Inputs {
                x: integers(&[n, c, h, w], 2, seed + 4),
                residual: integers(&[n, c, h, w], 2, seed + 5),
                weight,
                bias: integers(&[c], 2, seed + 6),
                statistics,
                dy: integers(&output_shape(&norm), 3, seed + 7),
                before: integers(&[n, c, h, w], 3, seed + 8),
            };
            let mut expected = reference(&norm, &inputs, true);
            let mut bounds = Bounds::EXACT;
            if (n * h * w).is_power_of_two() {
                expected.dx = stored::<B>(expected.dx);
            } else {
                bounds.dx = Bounds::new(&norm, &inputs, B::TOLERANCE).dx;
                bounds.dx_storage = B::TOLERANCE;
            }
            check_case(&mut backend, &norm, &inputs, &expected, &bounds);
        }
    }
}

fn normals_against_f64<B: Probe>(mut backend: B) {
    for (seed, shape) in SHAPES.into_iter().enumerate() {
        for norm in combinations(shape) {
            let inputs = normal_inputs(&mut backend, &norm, 100 * seed as u64);
            let expected = reference(&norm, &inputs, false);
            let bounds = Bounds::new(&norm, &inputs, B::TOLERANCE);
            check_case(&mut backend, &norm, &inputs, &expected, &bounds);
        }
    }
}

/// Only the forward pass: with running statistics there is no other.
fn running_against_f64<B: Probe>(mut backend: B) {
    for (seed, shape) in SHAPES.into_iter().enumerate() {
        let c = shape[3];
        let mean = normals(&[c], 7);
        let var = Tensor::from_fn(&[c], |i| f64::from((0.1 + i as f64 / 3.0) as f32));
        let running = backend.vector(&[mean.f32s(), var.f32s()].concat()).unwrap();
        let mut statistics = backend.vector(&vec![f32::NAN; 2 * c]).unwrap();
        let of = StatisticsOf::Running { running: &running, from: 0..2 * c, groups: Groups::Batch };
        let [n, h, w, _] = shape;
        let norm = Norm { n, h, w, c, relu: false, residual: false, relu_sum: false, pool: None };
        backend.norm_statistics(&norm, of, &mut statistics, 0..2 * c).unwrap();
        let found = backend.read(&statistics).unwrap();
        assert_eq!(found[..c], mean.f32s());
        let expected: Vec<f64> = var.data.iter().map(|v| 1.0 / (v + 1e-5).sqrt()).collect();
        // eps, the sum, the root and the quotient are rounded once each.
        assert_close(&found[c..], &expected, 0.0, 4.0 * U, "1 / sqrt(var + eps)");
        for norm in combinations(shape) {
            let inputs =
                Inputs { statistics: found.clone(), ..normal_inputs(&mut backend, &norm, seed as u64) };
            let mut tape = Tape::default();
            let leaves = [&inputs.x, &inputs.weight, &inputs.bias, &inputs.residual].map(|t| tape.leaf(t));
            let by = Statistics::Running(&mean, &var);
            let (z, _) = tape.batch_norm(leaves[0], leaves[1], leaves[2], by);
            let (_, y) = rest(&norm, &mut tape, z, leaves[3]);
            let affine = Affine { weight: 0..c, bias: c..2 * c };
            let weights = backend.vector(&[inputs.weight.f32s(), inputs.bias.f32s()].concat()).unwrap();
            let (x, other) = (channels_last(&inputs.x), channels_last(&inputs.residual));
            let (x, other) = (tensor(&backend, &x, 0), tensor(&backend, &other, 0));
            let elements = output_shape(&norm).iter().product();
            let mut out = poisoned(&backend, elements);
            backend.reserve(B::norm_scratch(&norm, Work::Train)).unwrap();
            let buffers = NormForward {
                x: &x,
                residual: norm.residual.then_some(&other),
                weights: &weights,
                affine: &affine,
                groups: Groups::Batch,
                statistics: &statistics,
                at: 0..2 * c,
                y: &mut out,
                winners: None,
            };
            backend.norm_forward(&norm, buffers).unwrap();
            let out = backend.read_tensor(&out, elements).unwrap();
            let out = channels_first(&out, output_shape(&norm));
            let Bounds { y: bound, y_storage: storage, .. } = Bounds::new(&norm, &inputs, B::TOLERANCE);
            let what = format!("{norm:?}");
            assert_close(&out.data, &tape.value(y).data, bound + storage.tiny, storage.storage, &what);
        }
    }
}

fn batch_norm_fixture<B: Probe>(mut backend: B) {
    let file = Fixture::open("ops");
    let of = |key: &str| file.tensor(&format!("bn_batch.{key}"));
    let [n, c, h, w] = of("x").dims();
    let running = [of("mean").f32s(), of("var").f32s()].concat();
    let (statistics, after) = batch_statistics(&mut backend, of("x"), &running);
    let expected = [&of("mean_after").data[..], &of("var_after").data[..]].concat();
    assert_close(&after, &expected, 0.0, 4.0 * U, "running statistics");
    let norm = Norm { n, h, w, c, relu: false, residual: false, relu_sum: false, pool: None };
    let zeros = Tensor::zeros(&[n, c, h, w]);
    let (residual, before) = (zeros.clone(), zeros.clone());
    let [x, weight, bias, dy] = ["x", "w", "b", "dy"].map(|key| of(key).clone());
    let inputs = Inputs { x, residual, weight, bias, statistics, dy, before };
    let expected = Outputs {
        y: of("y").clone(),
        winners: vec![],
        dx: of("dx").clone(),
        dresidual: zeros,
        dweight: of("dw").data.clone(),
        dbias: of("db").data.clone(),
    };
    // These inputs are normals that f16 storage rounds: as much again for each.
    let mut bounds = Bounds::new(&norm, &inputs, B::TOLERANCE);
    let coarse = (B::TOLERANCE.storage / U - 1.0) * 8.0 * U;
    (bounds.y, bounds.dx) = (bounds.y + coarse * 30.0, bounds.dx + coarse * 30.0);
    (bounds.dweight, bounds.dbias) = (bounds.dweight + coarse * 500.0, bounds.dbias + coarse * 500.0);
    check_case(&mut backend, &norm, &inputs, &expected, &bounds);
}

/// PyTorch's pools and ReLU through the residual, with a batch norm that adds 0: x = 0, mean 0, bias 0.
fn pool_fixtures<B: Probe>(mut backend: B) {
    let file = Fixture::open("ops");
    for pool in POOLS.into_iter().flatten() {
        let Pool { size, stride, pad } = pool;
        let of = |key: &str| file.tensor(&format!("max_pool_{size}s{stride}p{pad}.{key}"));
        let [n, c, h, w] = of("x").dims();
        let norm = Norm { n, h, w, c, relu: false, residual: true, relu_sum: false, pool: Some(pool) };
        let ones = Tensor::from_fn(&[c], |_| 1.0);
        let mut statistics = vec![0.0; c];
        statistics.extend(vec![1.0; c]);
        let inputs = Inputs {
            x: Tensor::zeros(&[n, c, h, w]),
            residual: of("x").clone(),
            weight: ones,
            bias: Tensor::zeros(&[c]),
            statistics,
            dy: of("dy").clone(),
            before: Tensor::zeros(&[n, c, h, w]),
        };
        let mut expected = reference(&norm, &inputs, true);
        (expected.y, expected.dresidual) = (of("y").clone(), of("dx").clone());
        let mut bounds = Bounds::new(&norm, &inputs, B::TOLERANCE);
        // f16 storage rounds this dy, of which a pixel gets up to four; dx has that less its mean.
        let coarse = 4.0 * (B::TOLERANCE.storage - U) * largest(&inputs.dy.data);
        (bounds.dx, bounds.dresidual) = (bounds.dx + 2.0 * coarse, bounds.dresidual + coarse);
        bounds.dbias += (n * h * w) as f64 * coarse;
        check_case(&mut backend, &norm, &inputs, &expected, &bounds);
    }
}

/// A NaN anywhere in x or the residual comes out of every window that holds it, and nowhere else.
fn nan_comes_through<B: Probe>(mut backend: B) {
    let shape = [2, 5, 6, 3];
    let [_, h, w, c] = shape;
    for norm in combinations(shape) {
        for from_residual in [false, true] {
            if from_residual && !norm.residual {
                continue;
            }
            let inputs = normal_inputs(&mut backend, &norm, 3);
            // Image 1, channel 2, row 3, column 1: inside every pool's windows.
            let at = ((c + 2) * h + 3) * w + 1;
            let [mut x, mut other] = [&inputs.x, &inputs.residual].map(channels_last);
            let spoilt = (w + 1) * c + (h * w + 2 * w) * c + 2;
            assert_eq!(channels_last(&inputs.x)[spoilt], inputs.x.data[at] as f32);
            if from_residual {
                other[spoilt] = f32::NAN
            } else {
                x[spoilt] = f32::NAN
            }
            let (x, other) = (tensor(&backend, &x, 0), tensor(&backend, &other, 0));
            let affine = Affine { weight: 0..c, bias: c..2 * c };
            let weights = backend.vector(&[inputs.weight.f32s(), inputs.bias.f32s()].concat()).unwrap();
            let statistics = backend.vector(&inputs.statistics).unwrap();
            let elements = output_shape(&norm).iter().product();
            let mut places = backend.bytes(elements).unwrap();
            backend.reserve(B::norm_scratch(&norm, Work::Train)).unwrap();
            for training in [false, true] {
                let mut y = poisoned(&backend, elements);
                let buffers = NormForward {
                    x: &x,
                    residual: norm.residual.then_some(&other),
                    weights: &weights,
                    affine: &affine,
                    groups: Groups::Batch,
                    statistics: &statistics,
                    at: 0..2 * c,
                    y: &mut y,
                    winners: (training && norm.pool.is_some()).then_some(&mut places),
                };
                backend.norm_forward(&norm, buffers).unwrap();
                let y = channels_first(&backend.read_tensor(&y, elements).unwrap(), output_shape(&norm));
                let [_, _, p, q] = output_shape(&norm);
                for (i, v) in y.data.iter().enumerate() {
                    let (column, row, plane) = (i % q, i / q % p, i / (q * p));
                    let holds = |out: usize, pixel: usize| match norm.pool {
                        None => out == pixel,
                        Some(Pool { size, stride, pad }) => {
                            (out * stride..out * stride + size).contains(&(pixel + pad))
                        }
                    };
                    let expected = plane == c + 2 && holds(row, 3) && holds(column, 1);
                    assert_eq!(v.is_nan(), expected, "{norm:?}, residual {from_residual}, element {i}");
                }
            }
        }
    }
}

fn statistics_by_hand<B: Probe>(mut backend: B) {
    // 1, 2, 3, 6: mean 3, variance 3.5, unbiased 14/3. Running: 0.9 * 2 + 0.3, 0.9 * 5 + 1.4 / 3.
    let x = Tensor::new(&[2, 1, 1, 2], vec![1.0, 2.0, 3.0, 6.0]);
    let (statistics, running) = batch_statistics(&mut backend, &x, &[2.0, 5.0]);
    assert_close(&statistics, &[3.0, 1.0 / 3.50001_f64.sqrt()], 0.0, 2.0 * U, "statistics");
    assert_close(&running, &[2.1, 4.5 + 1.4 / 3.0], 0.0, 2.0 * U, "running statistics");
    // A single value has variance 0 and no unbiased one; 0 is taken.
    let (statistics, running) =
        batch_statistics(&mut backend, &Tensor::new(&[1, 1, 1, 1], vec![4.0]), &[1.0, 1.0]);
    assert_close(&statistics, &[4.0, 1.0 / 1e-5_f64.sqrt()], 0.0, 2.0 * U, "statistics of one value");
    assert_close(&running, &[1.3, 0.9], 0.0, 2.0 * U, "running statistics of one value");
    // Anything not finite stays so.
    for bad in [f64::NAN, f64::INFINITY] {
        let (statistics, running) =
            batch_statistics(&mut backend, &Tensor::new(&[1, 1, 1, 2], vec![bad, 1.0]), &[0.0, 1.0]);
        assert!(!statistics[0].is_finite() && statistics[1].is_nan(), "{statistics:?}");
        assert!(running.iter().all(|v| !v.is_finite()), "{running:?}");
    }
}

/// E(x^2) - E(x)^2 loses mean^2 / variance of its digits: with f64 sums of 480 terms that is at most
/// 480 * 1.1e-16 * (1000 / 0.01)^2 = 5e-4 of the variance, and half of that of 1/sqrt. Equal values have
/// variance 0 and nothing below.
fn large_means<B: Probe>(mut backend: B) {
    let mut x = normals(&[4, 2, 10, 12], 3);
    let plane = 120;
    x.data.iter_mut().enumerate().for_each(|(i, v)| {
        let channel = i / plane % 2;
        *v = if channel == 0 { f64::from((1000.0 + 0.01 * *v) as f32) } else { f64::from(1000.3_f32) };
    });
    let mut tape = Tape::default();
    let leaves = [x.clone(), Tensor::zeros(&[2]), Tensor::zeros(&[2])].map(|t| tape.leaf(&t));
    let found = tape.batch_norm(leaves[0], leaves[1], leaves[2], Statistics::Batch).1;
    let BatchStatistics { mean, variance, .. } = found.unwrap();
    let (statistics, _) = batch_statistics(&mut backend, &x, &[0.0, 0.0, 1.0, 1.0]);
    assert_close(&statistics[..2], &mean.data, 0.0, 2.0 * U, "mean");
    let rstd: Vec<f64> = variance.data.iter().map(|v| 1.0 / (v + 1e-5).sqrt()).collect();
    // The constant channel's 0 may come out as 480 * 1.1e-16 * 1e6 = 5e-8 beside eps = 1e-5.
    assert_close(&statistics[2..], &rstd, 0.0, 3e-3, "1 / sqrt(var + eps)");
}

/// The first sums and gradients that are not finite are noted, with the optimiser's step, until the totals
/// are set.
fn faults_are_noted<B: Probe>(mut backend: B) {
    backend.set_rates(&[0.1; 9], 5).unwrap();
    let norm = Norm { n: 2, h: 3, w: 4, c: 3, relu: true, residual: false, relu_sum: false, pool: None };
    let c = norm.c;
    let inputs = normal_inputs(&mut backend, &norm, 1);
    assert_eq!(backend.fault().unwrap(), None);

    let affine = Affine { weight: 0..c, bias: c..2 * c };
    let weights = backend.vector(&[inputs.weight.f32s(), inputs.bias.f32s()].concat()).unwrap();
    let at = 7..7 + 2 * c;
    let statistics = backend.vector(&[vec![0.0; 7], inputs.statistics].concat()).unwrap();
    let x = tensor(&backend, &channels_last(&inputs.x), 0);
    let mut dx = poisoned(&backend, norm.n * norm.h * norm.w * c);
    let mut gradients = backend.vector(&vec![0.0; 2 * c]).unwrap();
    backend.reserve(B::norm_scratch(&norm, Work::Train)).unwrap();
    let mut backward = |backend: &mut B, dy: &[f32]| {
        let buffers = NormBackward {
            x: &x,
            y: None,
            winners: None,
            weights: &weights,
            affine: &affine,
            statistics: &statistics,
            constant: false,
            at: at.clone(),
            dy: &mut tensor(backend, dy, 0),
            dx: &mut dx,
            residual: ResidualGradient::None,
            into: Out::Gradients(&mut gradients),
        };
        backend.norm_backward(&norm, buffers).unwrap();
    };
    let dy = channels_last(&inputs.dy);
    backward(&mut backend, &dy);
    assert_eq!(backend.fault().unwrap(), None);
    backward(&mut backend, &vec![f32::INFINITY; dy.len()]);
    let expected = Fault { step: 5, place: Place::Backward(7) };
    assert_eq!(backend.fault().unwrap(), Some(expected));

    // A later step's does not replace it.
    backend.set_rates(&[0.1; 9], 6).unwrap();
    let spoilt = Tensor::new(&[1, 1, 1, 2], vec![f64::NAN, 1.0]);
    batch_statistics(&mut backend, &spoilt, &[0.0, 1.0]);
    assert_eq!(backend.fault().unwrap(), Some(expected));
    backend.set_totals(Totals::default()).unwrap();
    assert_eq!(backend.fault().unwrap(), None);
    batch_statistics(&mut backend, &spoilt, &[0.0, 1.0]);
    assert_eq!(backend.fault().unwrap(), Some(Fault { step: 6, place: Place::Forward(3) }));
}

/// The bits of everything the backward pass writes, whatever the host's threads.
fn same_bits<B: Probe>(new: impl Fn() -> B + Sync) {
    let run = || {
        let mut backend = new();
        let pool = Some(Pool { size: 3, stride: 2, pad: 1 });
        [None, pool].map(|pool| {
            let norm = Norm { n: 5, h: 9, w: 8, c: 24, relu: true, residual: true, relu_sum: true, pool };
            let inputs = normal_inputs(&mut backend, &norm, 1);
            let (image, elements) = (norm.h * norm.w * norm.c, output_shape(&norm).iter().product());
            let affine = Affine { weight: 0..norm.c, bias: norm.c..2 * norm.c };
            let weights = backend.vector(&[inputs.weight.f32s(), inputs.bias.f32s()].concat()).unwrap();
            let statistics = backend.vector(&inputs.statistics).unwrap();
            let x = tensor(&backend, &channels_last(&inputs.x), 0);
            let residual = tensor(&backend, &channels_last(&inputs.residual), 0);
            let (mut y, mut winners) = (poisoned(&backend, elements), backend.bytes(elements).unwrap());
            backend.reserve(B::norm_scratch(&norm, Work::Train)).unwrap();
            let at = 0..2 * norm.c;
            let forward = NormForward {
                x: &x,
                residual: Some(&residual),
                weights: &weights,
                affine: &affine,
                groups: Groups::Batch,
                statistics: &statistics,
                at: at.clone(),
                y: &mut y,
                winners: pool.is_some().then_some(&mut winners),
            };
            backend.norm_forward(&norm, forward).unwrap();
            let mut gradients = backend.vector(&vec![0.0; 2 * norm.c]).unwrap();
            let [mut dx, mut to] = [0, 1].map(|_| poisoned(&backend, norm.n * image));
            let backward = NormBackward {
                x: &x,
                y: pool.is_none().then_some(&y),
                winners: pool.is_some().then_some(&winners),
                weights: &weights,
                affine: &affine,
                statistics: &statistics,
                constant: false,
                at,
                dy: &mut tensor(&backend, &channels_last(&inputs.dy), 0),
                dx: &mut dx,
                residual: ResidualGradient::Overwrite(&mut to),
                into: Out::Gradients(&mut gradients),
            };
            backend.norm_backward(&norm, backward).unwrap();
            let all = [
                backend.read_tensor(&dx, norm.n * image).unwrap(),
                backend.read_tensor(&to, norm.n * image).unwrap(),
                backend.read(&gradients).unwrap(),
            ];
            all.concat().into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        })
    };
    let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let one = on(1).install(run);
    assert!(one == on(3).install(run));
}

on_every_device!(
    faults_are_noted,
    integers_exactly,
    normals_against_f64,
    running_against_f64,
    batch_norm_fixture,
    pool_fixtures,
    nan_comes_through,
    statistics_by_hand,
    large_means
);

#[test]
fn same_bits_cpu() {
    same_bits(Cpu::new);
}

#[test]
fn same_bits_emulated() {
    same_bits(emulated);
}

#[test]
fn same_bits_cuda() {
    on_gpu(|cuda| same_bits(cuda));
}

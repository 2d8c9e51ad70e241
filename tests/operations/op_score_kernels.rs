//! Kernels of a convolution's scores, each of them and with the samples in any number of shares, against a
//! direct f64 computation of one sample at a time; and that operations for masks can be recorded.
//!
//! A gradient is a sum of P Q products, off by (P Q + 2) v times their magnitudes' sum, where v = 2^-23 (see
//! `op_conv_kernels.rs`). On small integers everything is exact.

use crate::support::conv::{S1, S2, SHORTCUT, conv};
use crate::support::device::{U, emulated, on_cuda_devices, poisoned, tensor};
use crate::support::gpu::on_gpu;
use crate::support::on_threads;
use crate::support::score::{POWERS, Scores};
use fishmask::device::driver::Driver;
use fishmask::device::{Buffers, Cuda};
use fishmask::ops::conv::cuda::Algorithm::{self, Analytic, Gather, Tensor};
use fishmask::ops::conv::cuda::{Pass, Tile};
use fishmask::ops::{
    Affine, Conv, ConvOps, ConvWgrad, GatherOps, Groups, Linear, LinearBackward, LinearOps, LinearParameters,
    Loss, LossOps, Norm, NormBackward, NormForward, NormOps, Out, Power, ResidualGradient, ScoreGradient,
    ScoredClass, StatisticsOf, TopKOps, Totals, Work,
};
use fishmask::optim::{Moves, RateOps, Sgd, SgdBuffers, SgdOps};
use fishmask::rng::{Purpose, Stream};
use half::f16;

/// Pairwise distinct dimensions; samples of less than a part of 16 pixels, of a whole number of parts and of
/// one more pixel; several tiles both ways with ragged last ones, of which one of the gathering kernel's has
/// K a multiple of 8.
fn cases() -> Vec<Conv> {
    vec![
        conv(5, (5, 7), (3, 10), S1),
        conv(4, (6, 5), (1, 8), S2),
        conv(3, (4, 4), (8, 72), S1),
        conv(7, (2, 2), (24, 16), S1),
        conv(6, (1, 1), (16, 8), S1),
        conv(3, (17, 1), (8, 16), S1),
        conv(2, (9, 6), (40, 24), S2),
        conv(3, (7, 6), (16, 24), SHORTCUT),
        conv(9, (4, 3), (8, 136), SHORTCUT),
        conv(3, (5, 4), (4, 72), S1),
        conv(2, (8, 9), (24, 80), S2),
        conv(2, (10, 9), (8, 24), (5, 3, 2)),
        conv(2, (4, 5), (6, 5), (2, 1, 0)),
        conv(2, (9, 8), (2, 3), (7, 2, 3)),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fill {
    /// -2, -1, 0, 1, 2.
    Integers,
    /// Standard normals.
    Normals,
}

fn fill(fill: Fill, len: usize, index: u32) -> Vec<f32> {
    let mut stream = Stream::new(17, Purpose::Init, 0, index);
    let mut next = || match fill {
        Fill::Integers => stream.below(5) as f32 - 2.0,
        Fill::Normals => f16::from_f32(stream.normal() as f32).to_f32(),
    };
    (0..len).map(|_| next()).collect()
}

/// The filter's gradient [K,C,R,R] by each sample.
fn gradients(g: &Conv, x: &[f32], dy: &[f32], of: fn(f64) -> f64) -> Vec<Vec<f64>> {
    let value = |v: f32| of(f64::from(v));
    let mut all = vec![vec![0.0; g.k * g.c * g.r * g.r]; g.n];
    for (n, gradient) in all.iter_mut().enumerate() {
        for (p, q, tap) in triples(g.p(), g.q(), g.r * g.r) {
            let (h, w) = (p * g.stride + tap / g.r, q * g.stride + tap % g.r);
            if h < g.pad || w < g.pad || h - g.pad >= g.h || w - g.pad >= g.w {
                continue;
            }
            let xs = &x[((n * g.h + h - g.pad) * g.w + w - g.pad) * g.c..][..g.c];
            let dys = &dy[((n * g.p() + p) * g.q() + q) * g.k..][..g.k];
            for (k, &dy) in dys.iter().enumerate() {
                for (c, &x) in xs.iter().enumerate() {
                    gradient[(k * g.c + c) * g.r * g.r + tap] += value(dy) * value(x);
                }
            }
        }
    }
    all
}

/// All triples below the bounds.
fn triples(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |i| (i / (b * c), i / c % b, i % c))
}

/// Elements behind those in use, NaN before and after.
const SPARE: usize = 13;

/// Adds the scores to small integers that lie at 5.. of a longer vector.
fn score<D: Driver>(
    backend: &mut Cuda<D>,
    (algorithm, samples): (Algorithm, Option<usize>),
    (g, power): (&Conv, Power),
    (x, dy): (&[f32], &[f32]),
) -> Vec<f32> {
    let (x, dy) = (tensor(backend, x, SPARE), tensor(backend, dy, SPARE));
    let count = g.k * g.c * g.r * g.r;
    let mut flat = vec![f32::NAN; 5 + count + SPARE];
    flat[5..5 + count].copy_from_slice(&before(count));
    let mut scores = backend.vector(&flat).unwrap();
    let (filter, into) = (5..5 + count, Out::Scores(power, &mut scores));
    backend.conv_wgrad_by(algorithm, samples, g, ConvWgrad { x: &x, dy: &dy, filter, into }).unwrap();
    let all = backend.read(&scores).unwrap();
    let beside = all[..5].iter().chain(&all[5 + count..]);
    assert!(beside.into_iter().all(|v| v.is_nan()), "{algorithm:?} {g:?}: beside the range");
    all[5..5 + count].to_vec()
}

fn before(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i % 5) as f32).collect()
}

fn every_kernel_and_share<D: Driver>(mut backend: Cuda<D>, kind: Fill) {
    for g in cases() {
        // Room for more shares than would be chosen.
        backend.reserve(Cuda::<D>::conv_scratch(&Conv { n: 64, ..g }, Work::Score)).unwrap();
        let (x, dy) = (fill(kind, g.inputs(), 0), fill(kind, g.outputs(), 1));
        let (exact, terms) = (gradients(&g, &x, &dy, |v| v), gradients(&g, &x, &dy, f64::abs));
        let roundoff = (g.p() * g.q() + 2) as f64 * 2.0 * U;
        for power in POWERS {
            let mut expected = Scores::new(power, &before(g.k * g.c * g.r * g.r));
            for (gradient, terms) in exact.iter().zip(&terms) {
                expected.add(gradient, |i| roundoff * terms[i]);
            }
            for algorithm in Pass::Score.algorithms(&g, 5) {
                for samples in [None, Some(1), Some(2), Some(g.n)] {
                    let what = format!("{algorithm:?}, {samples:?} a share, {power:?} of {g:?}");
                    let found = score(&mut backend, (algorithm, samples), (&g, power), (&x, &dy));
                    expected.check(&found, kind == Fill::Integers, &what);
                }
            }
        }
    }
}

/// Every result's bits, of some cases.
fn bits<D: Driver>(mut backend: Cuda<D>) -> Vec<u32> {
    let mut bits = vec![];
    for g in [conv(5, (5, 7), (3, 10), S1), conv(9, (11, 5), (16, 72), S2)] {
        backend.reserve(Cuda::<D>::conv_scratch(&g, Work::Score)).unwrap();
        let (x, dy) = (fill(Fill::Normals, g.inputs(), 0), fill(Fill::Normals, g.outputs(), 1));
        for algorithm in Pass::Score.algorithms(&g, 0) {
            let found = score(&mut backend, (algorithm, None), (&g, Power::Square), (&x, &dy));
            bits.extend(found.iter().map(|v| v.to_bits()));
        }
    }
    bits
}

/// A small step of everything: what it computes when done at once, and when recorded and replayed.
fn recorded<D: Driver>(backend: &dyn Fn() -> Cuda<D>) {
    let (n, c, k, classes) = (3, 8, 16, 10);
    let g = conv(n, (4, 4), (c, k), S1);
    let norm = Norm { n, h: 4, w: 4, c: k, relu: true, residual: false, relu_sum: false, pool: None };
    let linear = Linear { n, c: 16 * k, k: classes, scale: 0.5 };
    let loss = Loss { n, classes, smoothing: 0.0 };
    let count = g.k * g.c * 9;
    let affine = Affine { weight: count..count + k, bias: count + k..count + 2 * k };
    let classifier = affine.bias.end..affine.bias.end + classes * linear.c;
    let all = classifier.end;
    let values = fill(Fill::Normals, all, 7);
    let kept: Vec<u32> = (0..all as u32).step_by(7).collect();
    let run = |record: bool| {
        let b = &mut backend();
        let scratch = Cuda::<D>::conv_scratch(&g, Work::Score);
        b.reserve(scratch.or(Cuda::<D>::norm_scratch(&norm, Work::Score))).unwrap();
        b.set_totals(Totals::default()).unwrap();
        let weights = b.vector(&values).unwrap();
        let [mut strict, mut published] = [(); 2].map(|()| b.upload_weights(&values).unwrap());
        let mut v = b.vector(&vec![0.0; kept.len()]).unwrap();
        let mut dense_v = b.vector(&vec![0.0; all]).unwrap();
        let indices = b.indices(&kept).unwrap();
        let (mut labels, mut mask) = (b.bytes(n).unwrap(), b.bytes(all).unwrap());
        b.write_bytes(&[1, 9, 4], &mut labels).unwrap();
        b.write_bytes(&(0..all).map(|i| u8::from(i % 7 == 0)).collect::<Vec<u8>>(), &mut mask).unwrap();
        let mut scores = b.vector(&vec![f32::NAN; all]).unwrap();
        let x = tensor(b, &fill(Fill::Normals, g.inputs(), 8), 0);
        let z = tensor(b, &fill(Fill::Normals, g.outputs(), 9), 0);
        let logits = tensor(b, &fill(Fill::Normals, n * classes, 10), 0);
        let (mut y, mut dlogits) = (poisoned(b, g.outputs()), poisoned(b, n * classes));
        let (mut dy, mut dz) = (poisoned(b, g.outputs()), poisoned(b, g.outputs()));
        let (mut statistics, at) = (b.vector(&vec![f32::NAN; n * 2 * k]).unwrap(), 0..n * 2 * k);
        b.set_rates(&[0.25, 0.125, f32::NAN], 0).unwrap();
        if record {
            b.record().unwrap();
        }
        b.clear(&mut scores).unwrap();
        let (running, groups) = (&weights, Groups::EachImage);
        let of = StatisticsOf::Running { running, from: 3..3 + 2 * k, groups };
        b.norm_statistics(&norm, of, &mut statistics, at.clone()).unwrap();
        b.norm_statistics(&norm, StatisticsOf::EachImage { x: &z }, &mut statistics, at.clone()).unwrap();
        let forward = NormForward {
            x: &z,
            residual: None,
            weights: &weights,
            affine: &affine,
            groups: Groups::EachImage,
            statistics: &statistics,
            at: at.clone(),
            y: &mut y,
            winners: None,
        };
        b.norm_forward(&norm, forward).unwrap();
        for class in 0..classes {
            let power = Power::Square;
            let gradient = ScoreGradient {
                power,
                class: ScoredClass::Number(class),
                logits: &logits,
                labels: &labels,
                dlogits: &mut dlogits,
            };
            b.score_gradient(&loss, gradient).unwrap();
            let backward = LinearBackward {
                x: &y,
                dy: &dlogits,
                weights: &weights,
                parameters: &LinearParameters { weight: classifier.clone(), bias: None },
                dx: &mut dy,
                into: Out::Scores(power, &mut scores),
            };
            b.linear_backward(&linear, backward).unwrap();
            let backward = NormBackward {
                x: &z,
                y: None,
                winners: None,
                weights: &weights,
                affine: &affine,
                statistics: &statistics,
                constant: false,
                at: at.clone(),
                dy: &mut dy,
                dx: &mut dz,
                residual: ResidualGradient::None,
                into: Out::Scores(power, &mut scores),
            };
            b.norm_backward(&norm, backward).unwrap();
            let into = Out::Scores(power, &mut scores);
            b.conv_wgrad(&g, ConvWgrad { x: &x, dy: &dz, filter: 0..count, into }).unwrap();
        }
        let sgd = Sgd { momentum: 0.9, weight_decay: 0.01 };
        b.sgd(
            &sgd,
            Moves::At(&indices),
            SgdBuffers { gradients: &scores, velocity: &mut v, weights: &mut strict },
        )
        .unwrap();
        b.sgd(
            &sgd,
            Moves::GradientsWhere(&mask),
            SgdBuffers { gradients: &scores, velocity: &mut dense_v, weights: &mut published },
        )
        .unwrap();
        if record {
            let recording = b.recorded().unwrap().unwrap();
            assert!(b.read(&scores).unwrap().iter().all(|v| v.is_nan()), "done, not recorded");
            b.replay(&recording).unwrap();
        }
        let best = b.top_k(&scores, all, 20).unwrap();
        let vectors = [&scores, &strict, &published, &v, &dense_v].map(|v| b.read(v).unwrap());
        let halves = [&strict, &published].map(|w| {
            let halves = w.halves.as_ref().unwrap();
            halves.read(b.driver(), all).unwrap()
        });
        for (halves, values) in halves.iter().zip(&vectors[1..]) {
            let same = halves.iter().zip(values).all(|(half, value)| *half == f16::from_f32(*value));
            assert!(same, "halves are the weights rounded");
        }
        (best, vectors)
    };
    let (best, vectors) = run(false);
    assert!(vectors.iter().flatten().all(|v| v.is_finite()));
    let scores = &vectors[0];
    // A channel whose ReLU is closed to all has none.
    for range in [0..count, affine.weight.clone(), affine.bias.clone(), classifier.clone()] {
        let some = scores[range.clone()].iter().filter(|&&v| v > 0.0).count();
        assert!(2 * some > range.len() && scores.iter().all(|&v| v >= 0.0), "scores of {range:?}");
    }
    assert_eq!(best.len(), 20);
    let least = best.iter().map(|&i| scores[i as usize]).fold(f32::INFINITY, f32::min);
    assert_eq!(scores.iter().filter(|&&v| v > least).count(), 19, "the largest, which are not equal");
    let (replayed_best, replayed) = run(true);
    let bits = |vectors: &[Vec<f32>; 5]| vectors.iter().flatten().map(|v| v.to_bits()).collect::<Vec<u32>>();
    assert!(best == replayed_best && bits(&vectors) == bits(&replayed), "replayed");
}

/// What tensor cores read is cleared with the weights.
fn clears_halves<D: Driver>(mut b: Cuda<D>) {
    let mut weights = b.upload_weights(&[1.0, f32::NAN, -3.0]).unwrap();
    b.clear(&mut weights).unwrap();
    let halves = weights.halves.as_ref().unwrap().read(b.driver(), 3).unwrap();
    assert_eq!(halves.iter().map(|h| h.to_bits()).collect::<Vec<u16>>(), [0; 3]);
    assert_eq!(b.read(&weights).unwrap(), [0.0; 3]);
}

#[test]
fn every_kernel_and_share_on_integers_emulated() {
    every_kernel_and_share(emulated(), Fill::Integers);
}

#[test]
fn every_kernel_and_share_on_integers_cuda() {
    on_gpu(|cuda| every_kernel_and_share(cuda(), Fill::Integers));
}

#[test]
fn every_kernel_and_share_on_normals_emulated() {
    every_kernel_and_share(emulated(), Fill::Normals);
}

#[test]
fn every_kernel_and_share_on_normals_cuda() {
    on_gpu(|cuda| every_kernel_and_share(cuda(), Fill::Normals));
}

#[test]
fn the_same_bits_with_any_number_of_threads_emulated() {
    let run = |threads| on_threads(threads, || bits(emulated()));
    let one = run(1);
    assert_eq!(one, run(1), "two runs on one thread");
    assert_eq!(one, run(2), "one thread and two");
}

#[test]
fn the_same_bits_twice_cuda() {
    on_gpu(|cuda| assert_eq!(bits(cuda()), bits(cuda())));
}

#[test]
fn recorded_emulated() {
    recorded(&emulated);
}

#[test]
fn recorded_cuda() {
    on_gpu(|cuda| recorded(&|| cuda()));
}

on_cuda_devices!(clears_halves);

#[test]
fn layers_run_on_tensor_cores() {
    let algorithm =
        |c, k, size, geometry| Pass::Score.algorithm(&conv(128, (size, size), (c, k), geometry), 3);
    let tensor = Tensor(Tile::T64x64);
    assert_eq!(algorithm(3, 64, 32, S1), Gather);
    assert_eq!(algorithm(64, 128, 16, S2), tensor);
    assert_eq!(algorithm(512, 512, 2, S1), tensor);
    assert_eq!(algorithm(128, 256, 8, SHORTCUT), tensor);
    assert_eq!(algorithm(64, 12, 8, S1), Gather);
    assert_eq!(algorithm(8, 8, 16, (7, 2, 3)), Analytic);
}

//! The fused batch norm with statistics by image, each image's own or the running ones, and scores of scale
//! and shift, against the f64 reference's batches of one.

use crate::support::device::{Probe, Tolerance, U, front, half, on_every_device, poisoned, stored, tensor};
use crate::support::norm::{
    Bounds, FENCE, Inputs, Outputs, combinations, normal_inputs, output_shape, reference, reference_by,
};
use crate::support::reference::Tensor;
use crate::support::score::Scores;
use crate::support::{assert_close, channels_first, channels_last, integers, normals, on_threads};
use fishmask::device::Cpu;

use fishmask::ops::{
    Affine, Groups, Norm, NormBackward, NormForward, Out, Pool, Power, ResidualGradient, StatisticsOf, Work,
};

/// Image `i` of a batch.
fn image(t: &Tensor, i: usize) -> Tensor {
    let size = t.data.len() / t.shape[0];
    Tensor::new(&[&[1], &t.shape[1..]].concat(), t.data[i * size..(i + 1) * size].to_vec())
}

/// Image `i` alone, with its part of statistics [N,2,C].
fn alone(inputs: &Inputs, statistics: &[f32], i: usize) -> Inputs {
    let c = inputs.weight.data.len();
    Inputs {
        x: image(&inputs.x, i),
        residual: image(&inputs.residual, i),
        weight: inputs.weight.clone(),
        bias: inputs.bias.clone(),
        statistics: statistics[i * 2 * c..(i + 1) * 2 * c].to_vec(),
        dy: image(&inputs.dy, i),
        before: image(&inputs.before, i),
    }
}

/// Every combination of parts whose pool's window fits an image.
fn cases(shape: [usize; 4]) -> impl Iterator<Item = (usize, Norm)> {
    let fits = |norm: &Norm| norm.pool.is_none_or(|pool| norm.h.min(norm.w) + 2 * pool.pad >= pool.size);
    combinations(shape).into_iter().filter(fits).enumerate()
}

/// How gradients flow, and where the residual's goes.
#[derive(Clone, Copy, Debug)]
struct Way {
    power: Power,
    through: bool,
    residual: &'static str,
}

/// The ways of every combination: both through and not, the others in turn.
fn ways(norm: &Norm, turn: usize) -> [Way; 2] {
    let residuals: &[&str] = match (norm.residual, norm.pool) {
        (false, _) => &["none"],
        (true, Some(_)) => &["overwrite", "accumulate"],
        (true, None) => &["in place", "overwrite", "accumulate"],
    };
    [false, true].map(|through| {
        let turn = turn + usize::from(through);
        let power = if turn.is_multiple_of(2) { Power::Square } else { Power::Absolute };
        Way { power, through, residual: residuals[turn % residuals.len()] }
    })
}

/// Runs the operations on statistics [N,2,C] in buffers for one more image, and compares each image with what
/// is `expected` of it alone, within its bounds.
fn check_case<B: Probe>(
    backend: &mut B,
    (norm, way): (&Norm, Way),
    inputs: &Inputs,
    by_image: &[f32],
    expected: &[(Outputs, Bounds)],
    exact: bool,
) {
    let what = format!("{way:?}, {norm:?}");
    let Norm { n, c, .. } = *norm;
    let [_, _, p, q] = output_shape(norm);
    let (pixels, size) = (p * q * c, norm.h * norm.w * c);
    let larger = Norm { n: n + 1, ..*norm };
    backend.reserve(B::norm_scratch(&larger, Work::Train)).unwrap();
    backend.reserve(B::norm_scratch(&larger, Work::Score)).unwrap();
    let affine = Affine { weight: c + 3..2 * c + 3, bias: 0..c };
    let mut flat = vec![FENCE; 2 * c + 8];
    flat[affine.weight.clone()].copy_from_slice(&inputs.weight.f32s());
    flat[affine.bias.clone()].copy_from_slice(&inputs.bias.f32s());
    let weights = backend.vector(&flat).unwrap();
    let at = 5..5 + 2 * c * n;
    let statistics = backend.vector(&[&[f32::NAN; 5], by_image, &[f32::NAN; 3]].concat()).unwrap();
    let x = tensor(backend, &channels_last(&inputs.x), size);
    let other = tensor(backend, &channels_last(&inputs.residual), size);
    let mut y = poisoned(backend, (n + 1) * pixels);
    let mut winners = backend.bytes((n + 1) * pixels).unwrap();
    backend.write_bytes(&vec![77; (n + 1) * pixels], &mut winners).unwrap();
    let forward = NormForward {
        x: &x,
        residual: norm.residual.then_some(&other),
        weights: &weights,
        affine: &affine,
        groups: Groups::EachImage,
        statistics: &statistics,
        at: at.clone(),
        y: &mut y,
        winners: norm.pool.is_some().then_some(&mut winners),
    };
    backend.norm_forward(norm, forward).unwrap();

    let mut dy = tensor(backend, &channels_last(&inputs.dy), pixels);
    let mut dx = poisoned(backend, (n + 1) * size);
    let mut to = match way.residual {
        "accumulate" => tensor(backend, &channels_last(&inputs.before), size),
        _ => poisoned(backend, (n + 1) * size),
    };
    let before: Vec<f32> = (0..flat.len()).map(|i| (i % 6) as f32).collect();
    let mut scores = backend.vector(&before).unwrap();
    let backward = NormBackward {
        x: &x,
        y: (norm.relu_sum && norm.pool.is_none()).then_some(&y),
        winners: norm.pool.is_some().then_some(&winners),
        weights: &weights,
        affine: &affine,
        statistics: &statistics,
        constant: !way.through,
        at,
        dy: &mut dy,
        dx: &mut dx,
        residual: match way.residual {
            "in place" => ResidualGradient::InPlace,
            "overwrite" => ResidualGradient::Overwrite(&mut to),
            "accumulate" => ResidualGradient::Accumulate(&mut to),
            _ => ResidualGradient::None,
        },
        into: Out::Scores(way.power, &mut scores),
    };
    backend.norm_backward(norm, backward).unwrap();

    let y = front(backend, &y, n * pixels, (n + 1) * pixels, &what);
    let dx = front(backend, &dx, n * size, (n + 1) * size, &what);
    let dresidual = match way.residual {
        "none" => vec![],
        "in place" => front(backend, &dy, n * size, (n + 1) * size, &what),
        _ => front(backend, &to, n * size, (n + 1) * size, &what),
    };
    let winners = backend.read_bytes(&winners);
    assert!(winners[n * pixels..].iter().all(|&w| w == 77), "{what}: wrote beyond its images");
    let found = backend.read(&scores).unwrap();
    let [weight, bias] = [&affine.weight, &affine.bias];
    let mut weight_scores = Scores::new(way.power, &before[weight.clone()]);
    let mut bias_scores = Scores::new(way.power, &before[bias.clone()]);
    let shape = [1, c, norm.h, norm.w];
    for (i, (expected, bounds)) in expected.iter().enumerate() {
        let what = format!("image {i} of {what}");
        let y = channels_first(&y[i * pixels..(i + 1) * pixels], [1, c, p, q]);
        let Tolerance { storage, tiny } = bounds.y_storage;
        assert_close(&y.data, &expected.y.data, bounds.y + tiny, storage, &format!("y, {what}"));
        if norm.pool.is_some() {
            assert_eq!(winners[i * pixels..(i + 1) * pixels], expected.winners, "winners, {what}");
        }
        let dx = channels_first(&dx[i * size..(i + 1) * size], shape);
        let Tolerance { storage, tiny } = bounds.dx_storage;
        assert_close(&dx.data, &expected.dx.data, bounds.dx + tiny, storage, &format!("dx, {what}"));
        if norm.residual {
            let found = channels_first(&dresidual[i * size..(i + 1) * size], shape);
            let mut sum = expected.dresidual.data.clone();
            if way.residual == "accumulate" {
                sum.iter_mut().zip(&image(&inputs.before, i).data).for_each(|(s, b)| *s += b);
            }
            assert_close(&found.data, &sum, bounds.dresidual, 0.0, &format!("dresidual, {what}"));
        }
        weight_scores.add(&expected.dweight, |k| bounds.dweight + 2.0 * U * expected.dweight[k].abs());
        bias_scores.add(&expected.dbias, |k| bounds.dbias + 2.0 * U * expected.dbias[k].abs());
    }
    weight_scores.check(&found[weight.clone()], exact, &format!("scale, {what}"));
    bias_scores.check(&found[bias.clone()], exact, &format!("shift, {what}"));
    let outside = (0..found.len()).filter(|i| !weight.contains(i) && !bias.contains(i));
    assert!(outside.into_iter().all(|i| found[i] == before[i]), "{what}: wrote outside");
    assert_eq!(backend.read(&weights).unwrap(), flat, "{what}: its inputs changed");
}

/// (N, H, W, C): channels below, at and around a vector's width, windows of every pool with pixels left over.
const SHAPES: [[usize; 4]; 5] = [[3, 5, 7, 16], [2, 9, 6, 3], [4, 8, 4, 5], [2, 4, 5, 67], [3, 6, 10, 24]];

/// Small integers, and statistics whose products are exact. Everything but the division by an image's pixels
/// is exact in f32, and so is that where they are a power of 2.
fn integers_exactly<B: Probe>(mut backend: B) {
    for (seed, shape) in SHAPES.into_iter().chain([[3, 1, 1, 10]]).enumerate() {
        let [n, h, w, c] = shape;
        let seed = 10 * seed as u64;
        for (turn, norm) in cases(shape) {
            let mut weight = integers(&[c], 2, seed + 1);
            weight.data.iter_mut().filter(|v| **v == 0.0).for_each(|v| *v = -1.0);
            let mean = integers(&[n, c], 1, seed + 2).f32s();
            let exponent = integers(&[n, c], 1, seed + 3).f32s();
            let mut statistics = vec![];
            for (mean, exponent) in mean.chunks(c).zip(exponent.chunks(c)) {
                statistics.extend_from_slice(mean);
                statistics.extend(exponent.iter().map(|e| e.exp2()));
            }
            let inputs = Inputs {
                x: integers(&[n, c, h, w], 2, seed + 4),
                residual: integers(&[n, c, h, w], 2, seed + 5),
                weight,
                bias: integers(&[c], 2, seed + 6),
                statistics: vec![],
                dy: integers(&output_shape(&norm), 3, seed + 7),
                before: integers(&[n, c, h, w], 3, seed + 8),
            };
            for way in ways(&norm, turn) {
                let one = Norm { n: 1, ..norm };
                let image = |i| {
                    let inputs = alone(&inputs, &statistics, i);
                    let mut expected = reference_by(&one, &inputs, Some(way.through));
                    let mut bounds = Bounds::EXACT;
                    if !way.through || (h * w).is_power_of_two() {
                        expected.dx = stored::<B>(expected.dx);
                    } else {
                        bounds.dx = Bounds::new(&one, &inputs, B::TOLERANCE).dx;
                        bounds.dx_storage = B::TOLERANCE;
                    }
                    (expected, bounds)
                };
                let expected: Vec<_> = (0..n).map(image).collect();
                check_case(&mut backend, (&norm, way), &inputs, &statistics, &expected, true);
            }
        }
    }
}

/// [N,2,C], after asserting that nothing else was written.
fn image_statistics<B: Probe>(backend: &mut B, norm: &Norm, of: StatisticsOf<B>) -> Vec<f32> {
    let at = 3..3 + norm.n * 2 * norm.c;
    let mut statistics = backend.vector(&vec![FENCE; at.end + 2 * norm.c]).unwrap();
    backend.norm_statistics(norm, of, &mut statistics, at.clone()).unwrap();
    let found = backend.read(&statistics).unwrap();
    assert!((0..found.len()).all(|i| at.contains(&i) || found[i] == FENCE), "{norm:?}: wrote outside");
    found[at].to_vec()
}

/// Each image normalised with its own statistics, through which its gradient flows.
fn own_statistics<B: Probe>(mut backend: B) {
    let more = [[2, 11, 12, 264], [3, 1, 1, 10], [2, 1, 2, 20]];
    for (seed, shape) in SHAPES.into_iter().chain(more).enumerate() {
        let [n, h, w, c] = shape;
        let plane = h * w;
        for (turn, norm) in cases(shape) {
            let inputs = normal_inputs(&mut backend, &norm, 100 * seed as u64);
            let x = tensor(&backend, &channels_last(&inputs.x), plane * c);
            let statistics = image_statistics(&mut backend, &norm, StatisticsOf::EachImage { x: &x });
            let one = Norm { n: 1, ..norm };
            let mut expected = vec![];
            for i in 0..n {
                let inputs = alone(&inputs, &statistics, i);
                for k in 0..c {
                    let x = &inputs.x.data[k * plane..(k + 1) * plane];
                    let mean = x.iter().sum::<f64>() / plane as f64;
                    let variance = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / plane as f64;
                    // Sums of h w terms in f32 or better, each off by u of the partial sum at most; half as
                    // much again is left of a variance's error in 1/sqrt.
                    let terms = (plane + 8) as f64 * U;
                    let size = x.iter().map(|v| v.abs()).sum::<f64>() / plane as f64;
                    let what = format!("channel {k} of image {i} of {norm:?}");
                    assert_close(&inputs.statistics[k..=k], &[mean], terms * size, 0.0, &what);
                    let rstd = 1.0 / (variance + 1e-5).sqrt();
                    assert_close(&inputs.statistics[c + k..=c + k], &[rstd], 0.0, terms, &what);
                }
                // The statistics are as far off as an image's sums are, and everything computed with them is.
                let mut bounds = Bounds::new(&one, &inputs, B::TOLERANCE);
                bounds.y *= (plane + 8) as f64 / 8.0;
                bounds.dx *= (plane + 8) as f64 / 8.0;
                expected.push((reference(&one, &inputs, false), bounds));
            }
            let way = ways(&norm, turn)[1];
            check_case(&mut backend, (&norm, way), &inputs, &statistics, &expected, false);
        }
    }
}

/// Running statistics: the same for every image, and constants to the gradient.
fn running_statistics<B: Probe>(mut backend: B) {
    for (seed, shape) in SHAPES.into_iter().enumerate() {
        let [n, _, _, c] = shape;
        let mean = half(normals(&[c], 7)).f32s();
        let variance: Vec<f32> = (0..c).map(|i| (0.1 + i as f64 / 3.0) as f32).collect();
        let running = [&[FENCE; 4], &mean[..], &variance[..], &[FENCE; 2]].concat();
        let vector = backend.vector(&running).unwrap();
        for (turn, norm) in cases(shape) {
            let inputs = normal_inputs(&mut backend, &norm, 100 * seed as u64 + 50);
            let (running, groups) = (&vector, Groups::EachImage);
            let of = StatisticsOf::Running { running, from: 4..4 + 2 * c, groups };
            let statistics = image_statistics(&mut backend, &norm, of);
            let rstd: Vec<f64> =
                variance.iter().map(|&v| 1.0 / (f64::from(v) + f64::from(Norm::EPS)).sqrt()).collect();
            for statistics in statistics.chunks(2 * c) {
                assert_eq!(statistics[..c], mean);
                // eps, the sum, the root and the quotient are rounded once each.
                assert_close(&statistics[c..], &rstd, 0.0, 4.0 * U, "1 / sqrt(var + eps)");
            }
            let one = Norm { n: 1, ..norm };
            let image = |i| {
                let inputs = alone(&inputs, &statistics, i);
                let bounds = Bounds::new(&one, &inputs, B::TOLERANCE);
                (reference_by(&one, &inputs, Some(false)), bounds)
            };
            let expected: Vec<_> = (0..n).map(image).collect();
            let way = ways(&norm, turn)[0];
            check_case(&mut backend, (&norm, way), &inputs, &statistics, &expected, false);
        }
        assert_eq!(backend.read(&vector).unwrap(), running, "running statistics changed");
    }
}

/// A mean far above the deviation, without cancellation: 256 values of 1000 and 1000.5, of which f16 holds
/// both: mean 1000.25, variance 1/16.
fn large_mean<B: Probe>(mut backend: B) {
    let norm = Norm { n: 2, h: 16, w: 16, c: 8, relu: false, residual: false, relu_sum: false, pool: None };
    backend.reserve(B::norm_scratch(&norm, Work::Score)).unwrap();
    let x: Vec<f32> = (0..2 * 256 * 8).map(|i| 1000.0 + 0.5 * (i / 8 % 2) as f32).collect();
    let x = tensor(&backend, &x, 0);
    let statistics = image_statistics(&mut backend, &norm, StatisticsOf::EachImage { x: &x });
    for statistics in statistics.chunks(16) {
        assert_eq!(statistics[..8], [1000.25; 8]);
        let expected = [1.0 / (0.0625_f64 + 1e-5).sqrt(); 8];
        assert_close(&statistics[8..], &expected, 0.0, 4.0 * U, "1 / sqrt(var + eps)");
    }
}

/// Statistics, y, dx and the residual's gradient of the first image, and scores, for batches of 3 and of 1,
/// without a pool and with one.
fn first_image<B: Probe>(mut backend: B) -> Vec<[[Vec<f32>; 5]; 2]> {
    let mut all = vec![];
    for pool in [None, Some(Pool::square(2))] {
        let norm = Norm { n: 3, h: 6, w: 8, c: 72, relu: true, residual: true, relu_sum: true, pool };
        let inputs = normal_inputs(&mut backend, &norm, 5);
        all.push([3, 1].map(|n| {
            let norm = Norm { n, ..norm };
            backend.reserve(B::norm_scratch(&norm, Work::Train)).unwrap();
            backend.reserve(B::norm_scratch(&norm, Work::Score)).unwrap();
            let x = tensor(&backend, &channels_last(&inputs.x), 0);
            let other = tensor(&backend, &channels_last(&inputs.residual), 0);
            let mut dy = tensor(&backend, &channels_last(&inputs.dy), 0);
            let at = 0..n * 2 * norm.c;
            let mut statistics = backend.vector(&vec![0.0; at.end]).unwrap();
            let of = StatisticsOf::EachImage { x: &x };
            backend.norm_statistics(&norm, of, &mut statistics, at.clone()).unwrap();
            let weights = backend.vector(&[inputs.weight.f32s(), inputs.bias.f32s()].concat()).unwrap();
            let affine = Affine { weight: 0..norm.c, bias: norm.c..2 * norm.c };
            let mut y = backend.tensor(norm.outputs()).unwrap();
            let mut winners = backend.bytes(norm.outputs()).unwrap();
            let forward = NormForward {
                x: &x,
                residual: Some(&other),
                weights: &weights,
                affine: &affine,
                groups: Groups::EachImage,
                statistics: &statistics,
                at: at.clone(),
                y: &mut y,
                winners: pool.is_some().then_some(&mut winners),
            };
            backend.norm_forward(&norm, forward).unwrap();
            let size = norm.h * norm.w * norm.c;
            let (mut dx, mut to) = (backend.tensor(n * size).unwrap(), backend.tensor(n * size).unwrap());
            let mut scores = backend.vector(&vec![0.0; 2 * norm.c]).unwrap();
            let backward = NormBackward {
                x: &x,
                y: pool.is_none().then_some(&y),
                winners: pool.is_some().then_some(&winners),
                weights: &weights,
                affine: &affine,
                statistics: &statistics,
                constant: false,
                at,
                dy: &mut dy,
                dx: &mut dx,
                residual: ResidualGradient::Overwrite(&mut to),
                into: Out::Scores(Power::Square, &mut scores),
            };
            backend.norm_backward(&norm, backward).unwrap();
            let mut statistics = backend.read(&statistics).unwrap();
            statistics.truncate(2 * norm.c);
            let outputs = norm.outputs() / n;
            [
                statistics,
                backend.read_tensor(&y, outputs).unwrap(),
                backend.read_tensor(&dx, size).unwrap(),
                backend.read_tensor(&to, size).unwrap(),
                backend.read(&scores).unwrap(),
            ]
        }));
    }
    all
}

/// An image's statistics and results have the same bits whatever the images beside it.
fn alone_as_in_a_batch<B: Probe>(backend: B) {
    for [three, one] in first_image(backend) {
        assert!(three[..4] == one[..4]);
        assert!(three[4].iter().zip(&one[4]).all(|(three, one)| three >= one));
    }
}

#[test]
fn the_same_bits_with_any_number_of_threads_cpu() {
    let [one, two, three] = [1, 2, 3].map(|threads| on_threads(threads, || first_image(Cpu::new())));
    assert!(one == two && one == three);
}

on_every_device!(integers_exactly, own_statistics, running_statistics, large_mean, alone_as_in_a_batch);

//! One case of the fused batch norm: its inputs, what the reference makes of them, how far a backend may be
//! off, and the run that compares.

use fishmask::ops::{
    Affine, DEAD, Groups, Norm, NormBackward, NormForward, Out, Pool, ResidualGradient, StatisticsOf, Work,
};

use super::device::{Probe, Tolerance, U, front, half, largest, poisoned, tensor};
use super::reference::{Statistics, Tape, Tensor, Var};
use super::{assert_close, channels_first, channels_last, normals};

pub const POOLS: [Option<Pool>; 4] =
    [None, Some(Pool::square(2)), Some(Pool::square(4)), Some(Pool { size: 3, stride: 2, pad: 1 })];

/// What stands around the parts of a flat vector that an operation may write.
pub const FENCE: f32 = 7.5;

pub fn combinations([n, h, w, c]: [usize; 4]) -> Vec<Norm> {
    let mut all = vec![];
    for pool in POOLS {
        for relu in [false, true] {
            for (residual, relu_sum) in [(false, false), (true, false), (true, true)] {
                all.push(Norm { n, h, w, c, relu, residual, relu_sum, pool });
            }
        }
    }
    all
}

/// Inputs of one case, NCHW, and the statistics to normalise with.
pub struct Inputs {
    pub x: Tensor,
    pub residual: Tensor,
    pub weight: Tensor,
    pub bias: Tensor,
    /// Mean, then 1/sqrt(var + eps).
    pub statistics: Vec<f32>,
    pub dy: Tensor,
    /// What the residual's gradient is added to.
    pub before: Tensor,
}

/// What comes out, NCHW.
pub struct Outputs {
    pub y: Tensor,
    pub winners: Vec<u8>,
    pub dx: Tensor,
    pub dresidual: Tensor,
    pub dweight: Vec<f64>,
    pub dbias: Vec<f64>,
}

pub fn output_shape(norm: &Norm) -> [usize; 4] {
    let side = |length| norm.pool.map_or(length, |pool| pool.outputs(length));
    [norm.n, norm.c, side(norm.h), side(norm.w)]
}

/// The parts after the normalisation, on a tape: (value to pool, y).
pub fn rest(norm: &Norm, tape: &mut Tape, z: Var, residual: Var) -> (Var, Var) {
    let mut v = z;
    if norm.relu {
        v = tape.relu(v);
    }
    if norm.residual {
        v = tape.add(residual, v);
    }
    if norm.relu_sum {
        v = tape.relu(v);
    }
    let y = norm.pool.map_or(v, |pool| tape.max_pool(v, pool.size, pool.stride, pool.pad));
    (v, y)
}

/// Place in its window of each pooled value, [N,P,Q,C] order, by its definition.
pub fn winners(norm: &Norm, unpooled: &Tensor) -> Vec<u8> {
    let Some(pool) = norm.pool else { return vec![] };
    let [n, c, p, q] = output_shape(norm);
    let last_relu = norm.relu_sum || (norm.relu && !norm.residual);
    let mut places = vec![];
    for i in 0..n * p * q * c {
        let (channel, column, row, image) = (i % c, i / c % q, i / (c * q) % p, i / (c * q * p));
        let mut best = (f64::NEG_INFINITY, DEAD);
        for place in 0..pool.size * pool.size {
            let y = (row * pool.stride + place / pool.size).checked_sub(pool.pad).filter(|&y| y < norm.h);
            let x = (column * pool.stride + place % pool.size).checked_sub(pool.pad).filter(|&x| x < norm.w);
            if let (Some(y), Some(x)) = (y, x) {
                let value = unpooled.data[((image * c + channel) * norm.h + y) * norm.w + x];
                if value > best.0 {
                    best = (value, place as u8);
                }
            }
        }
        places.push(if last_relu && best.0 <= 0.0 { DEAD } else { best.1 });
    }
    places
}

/// The same through the reference. `given` takes the statistics as they are and the gradient's formula with
/// them; otherwise the tape's own batch statistics.
pub fn reference(norm: &Norm, inputs: &Inputs, given: bool) -> Outputs {
    reference_by(norm, inputs, given.then_some(true))
}

/// The same; `given` takes the statistics as they are, and says whether they depend on x or are constants.
pub fn reference_by(norm: &Norm, inputs: &Inputs, given: Option<bool>) -> Outputs {
    let mut tape = Tape::default();
    let (x, residual) = (tape.leaf(&inputs.x), tape.leaf(&inputs.residual));
    let (weight, bias) = (tape.leaf(&inputs.weight), tape.leaf(&inputs.bias));
    let (c, plane) = (norm.c, norm.h * norm.w);
    let channel = |i: usize| i / plane % c;
    let statistic = |part: usize, i: usize| f64::from(inputs.statistics[part * c + channel(i)]);
    let x_hat = Tensor::from_fn(&inputs.x.shape, |i| (inputs.x.data[i] - statistic(0, i)) * statistic(1, i));
    let z = if given.is_some() {
        let affine = |i: usize| inputs.weight.data[channel(i)] * x_hat.data[i] + inputs.bias.data[channel(i)];
        tape.leaf(&Tensor::from_fn(&inputs.x.shape, affine))
    } else {
        tape.batch_norm(x, weight, bias, Statistics::Batch).0
    };
    let (unpooled, y) = rest(norm, &mut tape, z, residual);
    let gradients = tape.backward(y, &inputs.dy);
    let dresidual =
        if norm.residual { gradients.of(residual).clone() } else { Tensor::zeros(&inputs.x.shape) };
    let (dx, dweight, dbias) = if let Some(through) = given {
        let dz = gradients.of(z);
        let (mut dweight, mut dbias) = (vec![0.0; c], vec![0.0; c]);
        for (i, dz) in dz.data.iter().enumerate() {
            dweight[channel(i)] += dz * x_hat.data[i];
            dbias[channel(i)] += dz;
        }
        let count = (norm.n * plane) as f64;
        let dx = Tensor::from_fn(&inputs.x.shape, |i| {
            let k = channel(i);
            let means = if through { (dbias[k] + x_hat.data[i] * dweight[k]) / count } else { 0.0 };
            inputs.weight.data[k] * statistic(1, i) * (dz.data[i] - means)
        });
        (dx, dweight, dbias)
    } else {
        (gradients.of(x).clone(), gradients.of(weight).data.clone(), gradients.of(bias).data.clone())
    };
    let winners = winners(norm, tape.value(unpooled));
    Outputs { y: tape.value(y).clone(), winners, dx, dresidual, dweight, dbias }
}

/// How far each output may be off.
pub struct Bounds {
    pub y: f64,
    pub dx: f64,
    pub dresidual: f64,
    pub dweight: f64,
    pub dbias: f64,
    /// Of y as it is stored.
    pub y_storage: Tolerance,
    /// Of dx as it is stored.
    pub dx_storage: Tolerance,
}

impl Bounds {
    pub const EXACT: Bounds = Bounds {
        y: 0.0,
        dx: 0.0,
        dresidual: 0.0,
        dweight: 0.0,
        dbias: 0.0,
        y_storage: Tolerance { storage: 0.0, tiny: 0.0 },
        dx_storage: Tolerance { storage: 0.0, tiny: 0.0 },
    };

    /// y is one multiply-add with scale = weight rstd and shift = bias - mean scale. The statistics are
    /// rounded once and scale and shift three times, so 8 u of the terms' magnitudes holds y.
    ///
    /// Sums over pixels are f32 within an image (h w additions, each u of what is summed, at most) and exact
    /// over images, so those of dz and dz xhat are off by (h w + 16) u times the sum of their terms'
    /// magnitudes; dx = scale (dz - mean(dz) - xhat mean(dz xhat)) inherits that over count. Behind a pool,
    /// dz is a sum in f32 of up to four (overlapping windows); the residual's gradient is that and what it is
    /// added to, rounded once more to be stored.
    pub fn new(norm: &Norm, inputs: &Inputs, tolerance: Tolerance) -> Bounds {
        let (c, plane) = (norm.c, norm.h * norm.w);
        let (x, dz) = (largest(&inputs.x.data), 4.0 * largest(&inputs.dy.data));
        let (mut scale, mut x_hat, mut mean) = (0.0_f64, 0.0_f64, 0.0_f64);
        for k in 0..c {
            let (m, rstd) = (f64::from(inputs.statistics[k]), f64::from(inputs.statistics[c + k]));
            mean = mean.max(m.abs());
            scale = scale.max(inputs.weight.data[k].abs() * rstd);
            x_hat = x_hat.max((x + m.abs()) * rstd);
        }
        let (terms, count) = ((plane + 16) as f64 * U, (norm.n * plane) as f64);
        let summed = if norm.pool.is_some() { 4.0 * U * dz } else { 0.0 };
        let (dweight, dbias) =
            (count * dz * x_hat * terms + count * summed * x_hat, count * (dz * terms + summed));
        let part = if norm.residual { largest(&inputs.residual.data) } else { 0.0 };
        Bounds {
            y: 8.0 * U * ((x + mean) * scale + largest(&inputs.bias.data) + part),
            dx: scale * (8.0 * U * dz * (1.0 + x_hat) + summed + (dbias + x_hat * dweight) / count),
            dresidual: (5.0 * U + tolerance.storage) * (dz + largest(&inputs.before.data)),
            dweight,
            dbias,
            y_storage: tolerance,
            dx_storage: tolerance,
        }
    }
}

/// Runs a case on the backend, in buffers for one more image, with every way to write the residual's
/// gradient, and compares everything it may and may not write.
pub fn check_case<B: Probe>(
    backend: &mut B,
    norm: &Norm,
    inputs: &Inputs,
    expected: &Outputs,
    bounds: &Bounds,
) {
    let what = format!("{norm:?}");
    let c = norm.c;
    let [n, _, p, q] = output_shape(norm);
    let (image, pixels) = (norm.h * norm.w * c, p * q * c);
    backend.reserve(B::norm_scratch(&Norm { n: n + 1, ..*norm }, Work::Train)).unwrap();
    // The flat vector: bias, a gap, weight, a gap; the statistics: a gap, 2 C, a gap.
    let affine = Affine { weight: c + 3..2 * c + 3, bias: 0..c };
    let mut flat = vec![FENCE; 2 * c + 8];
    flat[affine.weight.clone()].copy_from_slice(&inputs.weight.f32s());
    flat[affine.bias.clone()].copy_from_slice(&inputs.bias.f32s());
    let weights = backend.vector(&flat).unwrap();
    let at = 5..5 + 2 * c;
    let mut held = vec![FENCE; 2 * c + 9];
    held[at.clone()].copy_from_slice(&inputs.statistics);
    let statistics = backend.vector(&held).unwrap();

    let x = tensor(backend, &channels_last(&inputs.x), image);
    let other = tensor(backend, &channels_last(&inputs.residual), image);
    let mut y = poisoned(backend, (n + 1) * pixels);
    let mut places = backend.bytes((n + 1) * pixels).unwrap();
    backend.write_bytes(&vec![77; (n + 1) * pixels], &mut places).unwrap();
    for training in [false, true] {
        y = poisoned(backend, (n + 1) * pixels);
        let buffers = NormForward {
            x: &x,
            residual: norm.residual.then_some(&other),
            weights: &weights,
            affine: &affine,
            groups: Groups::Batch,
            statistics: &statistics,
            at: at.clone(),
            y: &mut y,
            winners: (training && norm.pool.is_some()).then_some(&mut places),
        };
        backend.norm_forward(norm, buffers).unwrap();
        let y = front(backend, &y, n * pixels, (n + 1) * pixels, &what);
        let y = channels_first(&y, output_shape(norm));
        let Tolerance { storage, tiny } = bounds.y_storage;
        assert_close(&y.data, &expected.y.data, bounds.y + tiny, storage, &format!("y of {what}"));
    }
    if norm.pool.is_some() {
        let found = backend.read_bytes(&places);
        assert_eq!(found[..n * pixels], expected.winners, "winners of {what}");
        assert!(found[n * pixels..].iter().all(|&b| b == 77), "{what}: wrote beyond its images");
    }

    let ways: &[&str] = if !norm.residual {
        &["none"]
    } else if norm.pool.is_some() {
        &["overwrite", "accumulate"]
    } else {
        &["in place", "overwrite", "accumulate"]
    };
    for &way in ways {
        let what = format!("{way}, {what}");
        let mut dy = tensor(backend, &channels_last(&inputs.dy), pixels);
        let mut dx = poisoned(backend, (n + 1) * image);
        let mut to = match way {
            "accumulate" => tensor(backend, &channels_last(&inputs.before), image),
            _ => poisoned(backend, (n + 1) * image),
        };
        let mut gradients = backend.vector(&vec![FENCE; flat.len()]).unwrap();
        let buffers = NormBackward {
            x: &x,
            y: (norm.relu_sum && norm.pool.is_none()).then_some(&y),
            winners: norm.pool.is_some().then_some(&places),
            weights: &weights,
            affine: &affine,
            statistics: &statistics,
            constant: false,
            at: at.clone(),
            dy: &mut dy,
            dx: &mut dx,
            residual: match way {
                "in place" => ResidualGradient::InPlace,
                "overwrite" => ResidualGradient::Overwrite(&mut to),
                "accumulate" => ResidualGradient::Accumulate(&mut to),
                _ => ResidualGradient::None,
            },
            into: Out::Gradients(&mut gradients),
        };
        backend.norm_backward(norm, buffers).unwrap();

        let Tolerance { storage, tiny } = bounds.dx_storage;
        let shape = [n, c, norm.h, norm.w];
        let dx = channels_first(&front(backend, &dx, n * image, (n + 1) * image, &what), shape);
        assert_close(&dx.data, &expected.dx.data, bounds.dx + tiny, storage, &format!("dx, {what}"));
        if way != "none" {
            let found = if way == "in place" { &dy } else { &to };
            let found = channels_first(&front(backend, found, n * image, (n + 1) * image, &what), shape);
            let mut sum = expected.dresidual.data.clone();
            if way == "accumulate" {
                sum.iter_mut().zip(&inputs.before.data).for_each(|(s, b)| *s += b);
            }
            assert_close(&found.data, &sum, bounds.dresidual, 0.0, &format!("dresidual, {what}"));
        }
        let gradients = backend.read(&gradients).unwrap();
        let (dweight, dbias) = (&gradients[affine.weight.clone()], &gradients[affine.bias.clone()]);
        assert_close(dweight, &expected.dweight, bounds.dweight, U, &format!("dweight, {what}"));
        assert_close(dbias, &expected.dbias, bounds.dbias, U, &format!("dbias, {what}"));
        let outside = |i: &usize| !affine.weight.contains(i) && !affine.bias.contains(i);
        assert!((0..gradients.len()).filter(outside).all(|i| gradients[i] == FENCE), "{what}");
    }
    let after = (backend.read(&weights).unwrap(), backend.read(&statistics).unwrap());
    assert_eq!(after, (flat, held), "{what}: its inputs changed");
}

/// Sum and sum of squares by channel, in f64.
pub fn sums(x: &Tensor) -> Vec<f64> {
    let [_, c, h, w] = x.dims();
    let mut sums = vec![0.0; 2 * c];
    for (i, v) in x.data.iter().enumerate() {
        let k = i / (h * w) % c;
        sums[k] += v;
        sums[c + k] += v * v;
    }
    sums
}

/// The backend's statistics of x, and its running statistics after it.
pub fn batch_statistics<B: Probe>(backend: &mut B, x: &Tensor, running: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let [n, c, h, w] = x.dims();
    let fenced = |values: &[f32]| [&[FENCE; 3], values, &[FENCE; 2]].concat();
    let at = 3..3 + 2 * c;
    let mut padded = vec![f64::NAN; 3];
    padded.extend(sums(x));
    padded.extend([f64::NAN; 2]);
    let sums = backend.sums_of(&padded);
    let mut statistics = backend.vector(&fenced(&vec![f32::NAN; 2 * c])).unwrap();
    let mut after = backend.vector(&fenced(running)).unwrap();
    let norm = Norm { n, h, w, c, relu: false, residual: false, relu_sum: false, pool: None };
    let of = StatisticsOf::Batch { sums: &sums, running: &mut after };
    backend.norm_statistics(&norm, of, &mut statistics, at.clone()).unwrap();
    let [statistics, after] = [statistics, after].map(|v| backend.read(&v).unwrap());
    for vector in [&statistics, &after] {
        assert!(vector[..3].iter().chain(&vector[at.end..]).all(|&v| v == FENCE), "wrote outside its range");
    }
    (statistics[at.clone()].to_vec(), after[at].to_vec())
}

pub fn normal_inputs<B: Probe>(backend: &mut B, norm: &Norm, seed: u64) -> Inputs {
    let &Norm { n, h, w, c, .. } = norm;
    let mut x = normals(&[n, c, h, w], seed + 1);
    x.data.iter_mut().for_each(|v| *v = 2.0 * *v + 0.5);
    let x = half(x);
    let (statistics, _) = batch_statistics(backend, &x, &vec![0.0; 2 * c]);
    Inputs {
        x,
        residual: half(normals(&[n, c, h, w], seed + 2)),
        weight: normals(&[c], seed + 3),
        bias: normals(&[c], seed + 4),
        statistics,
        dy: half(normals(&output_shape(norm), seed + 5)),
        before: half(normals(&[n, c, h, w], seed + 6)),
    }
}

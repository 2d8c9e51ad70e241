//! Fused batch norm, every combination of its parts: small integers exactly, then normals against the f64
//! reference, PyTorch's fixtures, statistics, NaNs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::device::{Probe, Tolerance, U, front, half, largest, poisoned, tensor};
use common::fixture::Fixture;
use common::reference::{BatchStatistics, Statistics, Tape, Tensor, Var};
use common::{assert_close, channels_first, channels_last, integers, normals};
use fishmask::backend::cpu::Cpu;
use fishmask::backend::{Affine, DEAD, Norm, NormBackward, NormForward, Pool, ResidualGradient};

/// (N, H, W, C): channels below, at and around a vector's width; windows of every pool with pixels left over.
const SHAPES: [[usize; 4]; 5] = [[3, 8, 12, 1], [2, 9, 6, 3], [3, 5, 7, 16], [2, 6, 10, 20], [2, 4, 5, 67]];

const POOLS: [Option<Pool>; 4] =
    [None, Some(Pool::square(2)), Some(Pool::square(4)), Some(Pool { size: 3, stride: 2, pad: 1 })];

/// What stands around the parts of a flat vector that an operation may write.
const FENCE: f32 = 7.5;

fn combinations([n, h, w, c]: [usize; 4]) -> Vec<Norm> {
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

/// Inputs of one case, NCHW, and the moments to normalise with.
struct Inputs {
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    /// Mean, then 1/sqrt(var + eps).
    moments: Vec<f32>,
    dy: Tensor,
    /// What the residual's gradient is added to.
    before: Tensor,
}

/// What comes out, NCHW.
struct Outputs {
    y: Tensor,
    winners: Vec<u8>,
    dx: Tensor,
    dresidual: Tensor,
    dweight: Vec<f64>,
    dbias: Vec<f64>,
}

fn output_shape(norm: &Norm) -> [usize; 4] {
    let side = |length| norm.pool.map_or(length, |pool| pool.outputs(length));
    [norm.n, norm.c, side(norm.h), side(norm.w)]
}

/// The parts after the normalisation, on a tape: (value to pool, y).
fn rest(norm: &Norm, tape: &mut Tape, z: Var, residual: Var) -> (Var, Var) {
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
fn winners(norm: &Norm, unpooled: &Tensor) -> Vec<u8> {
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

/// The same through the reference. `given` takes the moments as they are and the gradient's formula with them;
/// otherwise the tape's own batch statistics.
fn reference(norm: &Norm, inputs: &Inputs, given: bool) -> Outputs {
    let mut tape = Tape::default();
    let (x, residual) = (tape.leaf(&inputs.x), tape.leaf(&inputs.residual));
    let (weight, bias) = (tape.leaf(&inputs.weight), tape.leaf(&inputs.bias));
    let (c, plane) = (norm.c, norm.h * norm.w);
    let channel = |i: usize| i / plane % c;
    let moment = |part: usize, i: usize| f64::from(inputs.moments[part * c + channel(i)]);
    let x_hat = Tensor::from_fn(&inputs.x.shape, |i| (inputs.x.data[i] - moment(0, i)) * moment(1, i));
    let z = if given {
        let affine = |i: usize| inputs.weight.data[channel(i)] * x_hat.data[i] + inputs.bias.data[channel(i)];
        tape.leaf(&Tensor::from_fn(&inputs.x.shape, affine))
    } else {
        tape.batch_norm(x, weight, bias, Statistics::Batch).0
    };
    let (unpooled, y) = rest(norm, &mut tape, z, residual);
    let gradients = tape.backward(y, &inputs.dy);
    let dresidual =
        if norm.residual { gradients.of(residual).clone() } else { Tensor::zeros(&inputs.x.shape) };
    let (dx, dweight, dbias) = if given {
        let dz = gradients.of(z);
        let (mut dweight, mut dbias) = (vec![0.0; c], vec![0.0; c]);
        for (i, dz) in dz.data.iter().enumerate() {
            dweight[channel(i)] += dz * x_hat.data[i];
            dbias[channel(i)] += dz;
        }
        let count = (norm.n * plane) as f64;
        let dx = Tensor::from_fn(&inputs.x.shape, |i| {
            let k = channel(i);
            let centred = dz.data[i] - dbias[k] / count - x_hat.data[i] * dweight[k] / count;
            inputs.weight.data[k] * moment(1, i) * centred
        });
        (dx, dweight, dbias)
    } else {
        (gradients.of(x).clone(), gradients.of(weight).data.clone(), gradients.of(bias).data.clone())
    };
    let winners = winners(norm, tape.value(unpooled));
    Outputs { y: tape.value(y).clone(), winners, dx, dresidual, dweight, dbias }
}

/// How far each output may be off.
struct Bounds {
    y: f64,
    dx: f64,
    dresidual: f64,
    dweight: f64,
    dbias: f64,
    /// Of each stored value itself.
    storage: Tolerance,
}

impl Bounds {
    const EXACT: Bounds = Bounds {
        y: 0.0,
        dx: 0.0,
        dresidual: 0.0,
        dweight: 0.0,
        dbias: 0.0,
        storage: Tolerance { storage: 0.0, tiny: 0.0 },
    };

    /// y is one multiply-add with scale = weight rstd and shift = bias - mean scale. The moments are rounded once
    /// and scale and shift three times, so 8 u of the terms' magnitudes holds y.
    ///
    /// Sums over pixels are f32 within an image (h w additions, each u of what is summed, at most) and exact over
    /// images, so those of dz and dz xhat are off by (h w + 16) u times the sum of their terms' magnitudes; dx =
    /// scale (dz - mean(dz) - xhat mean(dz xhat)) inherits that over count. In place behind a pool, dz is stored
    /// up to four times (overlapping windows).
    fn new(norm: &Norm, inputs: &Inputs, tolerance: Tolerance) -> Bounds {
        let (c, plane) = (norm.c, norm.h * norm.w);
        let (x, dz) = (largest(&inputs.x.data), 4.0 * largest(&inputs.dy.data));
        let (mut scale, mut x_hat, mut mean) = (0.0_f64, 0.0_f64, 0.0_f64);
        for k in 0..c {
            let (m, rstd) = (f64::from(inputs.moments[k]), f64::from(inputs.moments[c + k]));
            mean = mean.max(m.abs());
            scale = scale.max(inputs.weight.data[k].abs() * rstd);
            x_hat = x_hat.max((x + m.abs()) * rstd);
        }
        let (terms, count) = ((plane + 16) as f64 * U, (norm.n * plane) as f64);
        let stored = if norm.pool.is_some() { 4.0 * tolerance.storage * dz } else { 0.0 };
        let (dweight, dbias) =
            (count * dz * x_hat * terms + count * stored * x_hat, count * (dz * terms + stored));
        let part = if norm.residual { largest(&inputs.residual.data) } else { 0.0 };
        Bounds {
            y: 8.0 * U * ((x + mean) * scale + largest(&inputs.bias.data) + part),
            dx: scale * (8.0 * U * dz * (1.0 + x_hat) + stored + (dbias + x_hat * dweight) / count),
            dresidual: 4.0 * (U + tolerance.storage) * (dz + largest(&inputs.before.data)),
            dweight,
            dbias,
            storage: tolerance,
        }
    }
}

/// Runs a case on the backend, in buffers for one more image, with every way to write the residual's gradient,
/// and compares everything it may and may not write.
fn check_case<B: Probe>(backend: &mut B, norm: &Norm, inputs: &Inputs, expected: &Outputs, bounds: &Bounds) {
    let what = format!("{norm:?}");
    let c = norm.c;
    let [n, _, p, q] = output_shape(norm);
    let (image, pixels) = (norm.h * norm.w * c, p * q * c);
    backend.reserve(&[], &[Norm { n: n + 1, ..*norm }]).unwrap();
    // The flat vector: bias, a gap, weight, a gap; the statistics: a gap, 2 C, a gap.
    let affine = Affine { weight: c + 3..2 * c + 3, bias: 0..c };
    let mut flat = vec![FENCE; 2 * c + 8];
    flat[affine.weight.clone()].copy_from_slice(&inputs.weight.f32s());
    flat[affine.bias.clone()].copy_from_slice(&inputs.bias.f32s());
    let weights = backend.vector(&flat).unwrap();
    let at = 5..5 + 2 * c;
    let mut statistics = vec![FENCE; 2 * c + 9];
    statistics[at.clone()].copy_from_slice(&inputs.moments);
    let moments = backend.vector(&statistics).unwrap();

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
            moments: &moments,
            at: at.clone(),
            y: &mut y,
            winners: (training && norm.pool.is_some()).then_some(&mut places),
        };
        backend.norm_forward(norm, buffers).unwrap();
        let y = front(backend, &y, n * pixels, (n + 1) * pixels, &what);
        let y = channels_first(&y, output_shape(norm));
        let Tolerance { storage, tiny } = bounds.storage;
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
            moments: &moments,
            at: at.clone(),
            dy: &mut dy,
            dx: &mut dx,
            residual: match way {
                "in place" => ResidualGradient::InPlace,
                "overwrite" => ResidualGradient::Overwrite(&mut to),
                "accumulate" => ResidualGradient::Accumulate(&mut to),
                _ => ResidualGradient::None,
            },
            gradients: &mut gradients,
        };
        backend.norm_backward(norm, buffers).unwrap();

        let Tolerance { storage, tiny } = bounds.storage;
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
    let after = (backend.read(&weights).unwrap(), backend.read(&moments).unwrap());
    assert_eq!(after, (flat, statistics), "{what}: its inputs changed");
}

/// Small integers, and moments whose products are exact: everything but the division by the count is exact in
/// f32, and so is that where the count is a power of 2. Windows and ReLUs meet many ties and zeros.
fn integers_exactly<B: Probe>(mut backend: B) {
    for (seed, shape) in SHAPES.into_iter().chain([[2, 8, 4, 5]]).enumerate() {
        let [n, h, w, c] = shape;
        let seed = 10 * seed as u64;
        for norm in combinations(shape) {
            let mut weight = integers(&[c], 2, seed + 1);
            weight.data.iter_mut().filter(|v| **v == 0.0).for_each(|v| *v = -1.0);
            let mut moments = integers(&[c], 1, seed + 2).f32s();
            moments.extend(integers(&[c], 1, seed + 3).f32s().iter().map(|e| e.exp2()));
            let inputs = Inputs {
                x: integers(&[n, c, h, w], 2, seed + 4),
                residual: integers(&[n, c, h, w], 2, seed + 5),
                weight,
                bias: integers(&[c], 2, seed + 6),
                moments,
                dy: integers(&output_shape(&norm), 3, seed + 7),
                before: integers(&[n, c, h, w], 3, seed + 8),
            };
            let expected = reference(&norm, &inputs, true);
            let mut bounds = Bounds::EXACT;
            if !(n * h * w).is_power_of_two() {
                bounds.dx = Bounds::new(&norm, &inputs, B::TOLERANCE).dx;
            }
            check_case(&mut backend, &norm, &inputs, &expected, &bounds);
        }
    }
}

/// Sum and sum of squares by channel, in f64.
fn sums(x: &Tensor) -> Vec<f64> {
    let [_, c, h, w] = x.dims();
    let mut sums = vec![0.0; 2 * c];
    for (i, v) in x.data.iter().enumerate() {
        let k = i / (h * w) % c;
        sums[k] += v;
        sums[c + k] += v * v;
    }
    sums
}

/// The backend's moments of x, and its running statistics after it.
fn statistics<B: Probe>(backend: &mut B, x: &Tensor, running: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let [n, c, h, w] = x.dims();
    let fenced = |values: &[f32]| [&[FENCE; 3], values, &[FENCE; 2]].concat();
    let at = 3..3 + 2 * c;
    let mut padded = vec![f64::NAN; 3];
    padded.extend(sums(x));
    padded.extend([f64::NAN; 2]);
    let sums = backend.sums_of(&padded);
    let mut moments = backend.vector(&fenced(&vec![f32::NAN; 2 * c])).unwrap();
    let mut after = backend.vector(&fenced(running)).unwrap();
    backend.batch_statistics(n * h * w, &sums, &mut moments, &mut after, at.clone()).unwrap();
    let [moments, after] = [moments, after].map(|v| backend.read(&v).unwrap());
    for vector in [&moments, &after] {
        assert!(vector[..3].iter().chain(&vector[at.end..]).all(|&v| v == FENCE), "wrote outside its range");
    }
    (moments[at.clone()].to_vec(), after[at].to_vec())
}

fn normal_inputs<B: Probe>(backend: &mut B, norm: &Norm, seed: u64) -> Inputs {
    let &Norm { n, h, w, c, .. } = norm;
    let mut x = normals(&[n, c, h, w], seed + 1);
    x.data.iter_mut().for_each(|v| *v = 2.0 * *v + 0.5);
    let x = half(x);
    let (moments, _) = statistics(backend, &x, &vec![0.0; 2 * c]);
    Inputs {
        x,
        residual: half(normals(&[n, c, h, w], seed + 2)),
        weight: normals(&[c], seed + 3),
        bias: normals(&[c], seed + 4),
        moments,
        dy: half(normals(&output_shape(norm), seed + 5)),
        before: half(normals(&[n, c, h, w], seed + 6)),
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
        let mut moments = backend.vector(&vec![f32::NAN; 2 * c]).unwrap();
        backend.running_statistics(&running, &mut moments, 0..2 * c).unwrap();
        let found = backend.read(&moments).unwrap();
        assert_eq!(found[..c], mean.f32s());
        let expected: Vec<f64> = var.data.iter().map(|v| 1.0 / (v + 1e-5).sqrt()).collect();
        // eps, the sum, the root and the quotient are rounded once each.
        assert_close(&found[c..], &expected, 0.0, 4.0 * U, "1 / sqrt(var + eps)");
        for norm in combinations(shape) {
            let inputs = Inputs { moments: found.clone(), ..normal_inputs(&mut backend, &norm, seed as u64) };
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
            backend.reserve(&[], &[norm]).unwrap();
            let buffers = NormForward {
                x: &x,
                residual: norm.residual.then_some(&other),
                weights: &weights,
                affine: &affine,
                moments: &moments,
                at: 0..2 * c,
                y: &mut out,
                winners: None,
            };
            backend.norm_forward(&norm, buffers).unwrap();
            let out = backend.read_tensor(&out, elements).unwrap();
            let out = channels_first(&out, output_shape(&norm));
            let Bounds { y: bound, storage, .. } = Bounds::new(&norm, &inputs, B::TOLERANCE);
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
    let (moments, after) = statistics(&mut backend, of("x"), &running);
    let expected = [&of("mean_after").data[..], &of("var_after").data[..]].concat();
    assert_close(&after, &expected, 0.0, 4.0 * U, "running statistics");
    let norm = Norm { n, h, w, c, relu: false, residual: false, relu_sum: false, pool: None };
    let zeros = Tensor::zeros(&[n, c, h, w]);
    let (residual, before) = (zeros.clone(), zeros.clone());
    let [x, weight, bias, dy] = ["x", "w", "b", "dy"].map(|key| of(key).clone());
    let inputs = Inputs { x, residual, weight, bias, moments, dy, before };
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
        let mut moments = vec![0.0; c];
        moments.extend(vec![1.0; c]);
        let inputs = Inputs {
            x: Tensor::zeros(&[n, c, h, w]),
            residual: of("x").clone(),
            weight: ones,
            bias: Tensor::zeros(&[c]),
            moments,
            dy: of("dy").clone(),
            before: Tensor::zeros(&[n, c, h, w]),
        };
        let mut expected = reference(&norm, &inputs, true);
        (expected.y, expected.dresidual) = (of("y").clone(), of("dx").clone());
        let bounds = Bounds::new(&norm, &inputs, B::TOLERANCE);
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
            let at = ((c + 2) * h + 3) * w + 1; // Image 1, channel 2, row 3, column 1: inside every pool's windows.
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
            let moments = backend.vector(&inputs.moments).unwrap();
            let elements = output_shape(&norm).iter().product();
            let mut places = backend.bytes(elements).unwrap();
            backend.reserve(&[], &[norm]).unwrap();
            for training in [false, true] {
                let mut y = poisoned(&backend, elements);
                let buffers = NormForward {
                    x: &x,
                    residual: norm.residual.then_some(&other),
                    weights: &weights,
                    affine: &affine,
                    moments: &moments,
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
    let (moments, running) = statistics(&mut backend, &x, &[2.0, 5.0]);
    assert_close(&moments, &[3.0, 1.0 / 3.50001_f64.sqrt()], 0.0, 2.0 * U, "moments");
    assert_close(&running, &[2.1, 4.5 + 1.4 / 3.0], 0.0, 2.0 * U, "running statistics");
    // A single value has variance 0 and no unbiased one; 0 is taken.
    let (moments, running) = statistics(&mut backend, &Tensor::new(&[1, 1, 1, 1], vec![4.0]), &[1.0, 1.0]);
    assert_close(&moments, &[4.0, 1.0 / 1e-5_f64.sqrt()], 0.0, 2.0 * U, "moments of one value");
    assert_close(&running, &[1.3, 0.9], 0.0, 2.0 * U, "running statistics of one value");
    // Anything not finite stays so.
    for bad in [f64::NAN, f64::INFINITY] {
        let (moments, running) =
            statistics(&mut backend, &Tensor::new(&[1, 1, 1, 2], vec![bad, 1.0]), &[0.0, 1.0]);
        assert!(!moments[0].is_finite() && moments[1].is_nan(), "{moments:?}");
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
    let (moments, _) = statistics(&mut backend, &x, &[0.0, 0.0, 1.0, 1.0]);
    assert_close(&moments[..2], &mean.data, 0.0, 2.0 * U, "mean");
    let rstd: Vec<f64> = variance.data.iter().map(|v| 1.0 / (v + 1e-5).sqrt()).collect();
    // The constant channel's 0 may come out as 480 * 1.1e-16 * 1e6 = 5e-8 beside eps = 1e-5.
    assert_close(&moments[2..], &rstd, 0.0, 3e-3, "1 / sqrt(var + eps)");
}

#[test]
fn integers_exactly_cpu() {
    integers_exactly(Cpu::new());
}

#[test]
fn normals_against_f64_cpu() {
    normals_against_f64(Cpu::new());
}

#[test]
fn running_against_f64_cpu() {
    running_against_f64(Cpu::new());
}

#[test]
fn batch_norm_fixture_cpu() {
    batch_norm_fixture(Cpu::new());
}

#[test]
fn pool_fixtures_cpu() {
    pool_fixtures(Cpu::new());
}

#[test]
fn nan_comes_through_cpu() {
    nan_comes_through(Cpu::new());
}

#[test]
fn statistics_by_hand_cpu() {
    statistics_by_hand(Cpu::new());
}

#[test]
fn large_means_cpu() {
    large_means(Cpu::new());
}

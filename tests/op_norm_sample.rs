//! The fused batch norm with each image's own statistics, against the f64 reference's batches of one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::device::{Tolerance, U, emulated, front, poisoned, tensor};
use common::gpu::on_gpu;
use common::norm::{Bounds, Inputs, combinations, normal_inputs, output_shape, reference};
use common::reference::Tensor;
use common::{assert_close, channels_first, channels_last};
use fishmask::backend::cuda::Cuda;
use fishmask::backend::{Affine, Backend, Norm, NormBackward, NormForward, Pool, ResidualGradient};
use fishmask::driver::Driver;

/// Image `i` of a batch.
fn image(t: &Tensor, i: usize) -> Tensor {
    let [_, c, h, w] = t.dims();
    let size = c * h * w;
    Tensor::new(&[1, c, h, w], t.data[i * size..(i + 1) * size].to_vec())
}

/// Everything the operations write, NHWC.
#[derive(Debug, PartialEq)]
struct Results {
    moments: Vec<f32>,
    y: Vec<f32>,
    winners: Vec<u8>,
    dx: Vec<f32>,
    dresidual: Vec<f32>,
    /// [N,2,C]
    gradients: Vec<f32>,
}

/// The first `n` images, in buffers for one more than there are.
fn run<D: Driver>(backend: &mut Cuda<D>, norm: &Norm, inputs: &Inputs, n: usize) -> Results {
    let (c, image) = (norm.c, norm.h * norm.w * norm.c);
    let [all, _, p, q] = output_shape(norm);
    let pixels = p * q * c;
    backend.reserve(&[], &[*norm]).unwrap();
    let norm = Norm { n, ..*norm };
    let what = format!("{norm:?}");
    let affine = Affine { weight: c..2 * c, bias: 0..c };
    let weights = backend.vector(&[inputs.bias.f32s(), inputs.weight.f32s()].concat()).unwrap();
    let x = tensor(backend, &channels_last(&inputs.x), image);
    let other = tensor(backend, &channels_last(&inputs.residual), image);
    let mut dy = tensor(backend, &channels_last(&inputs.dy), pixels);
    let mut to = tensor(backend, &channels_last(&inputs.before), image);
    let mut moments = backend.vector(&vec![f32::NAN; (all + 1) * 2 * c]).unwrap();
    let mut gradients = backend.vector(&vec![f32::NAN; (all + 1) * 2 * c]).unwrap();
    let mut y = poisoned(backend, (all + 1) * pixels);
    let mut dx = poisoned(backend, (all + 1) * image);
    let mut winners = backend.bytes((all + 1) * pixels).unwrap();
    let at = 0..n * 2 * c;
    backend.sample_statistics(&norm, &x, &mut moments).unwrap();
    let forward = NormForward {
        x: &x,
        residual: norm.residual.then_some(&other),
        weights: &weights,
        affine: &affine,
        moments: &moments,
        at: at.clone(),
        y: &mut y,
        winners: norm.pool.is_some().then_some(&mut winners),
    };
    backend.sample_norm(&norm, forward).unwrap();
    let backward = NormBackward {
        x: &x,
        y: (norm.relu_sum && norm.pool.is_none()).then_some(&y),
        winners: norm.pool.is_some().then_some(&winners),
        weights: &weights,
        affine: &affine,
        moments: &moments,
        at,
        dy: &mut dy,
        dx: &mut dx,
        residual: match norm.residual {
            true => ResidualGradient::Accumulate(&mut to),
            false => ResidualGradient::None,
        },
        gradients: &mut gradients,
    };
    backend.sample_norm_backward(&norm, backward).unwrap();
    let [moments, gradients] = [&moments, &gradients].map(|vector| {
        let mut values = backend.read(vector).unwrap();
        assert!(values[n * 2 * c..].iter().all(|v| v.is_nan()), "{what}: wrote beyond its images");
        values.truncate(n * 2 * c);
        values
    });
    Results {
        moments,
        y: front(backend, &y, n * pixels, (all + 1) * pixels, &what),
        winners: winners.read(backend.driver(), n * pixels).unwrap(),
        dx: front(backend, &dx, n * image, (all + 1) * image, &what),
        dresidual: backend.read_tensor(&to, n * image).unwrap(),
        gradients,
    }
}

/// Each image alone, through the reference.
fn check<D: Driver>(backend: &mut Cuda<D>, norm: &Norm, seed: u64) {
    let inputs = normal_inputs(backend, norm, seed);
    let found = run(backend, norm, &inputs, norm.n);
    let Tolerance { storage, tiny } = Tolerance::F16;
    let c = norm.c;
    for i in 0..norm.n {
        let what = format!("image {i} of {norm:?}");
        let alone = Norm { n: 1, ..*norm };
        let part = |values: &[f32], shape: [usize; 4]| {
            let size = values.len() / norm.n;
            channels_first(&values[i * size..(i + 1) * size], shape)
        };
        let moments = found.moments[i * 2 * c..(i + 1) * 2 * c].to_vec();
        let inputs = Inputs {
            x: image(&inputs.x, i),
            residual: image(&inputs.residual, i),
            weight: inputs.weight.clone(),
            bias: inputs.bias.clone(),
            moments,
            dy: image(&inputs.dy, i),
            before: image(&inputs.before, i),
        };
        let plane = norm.h * norm.w;
        for k in 0..c {
            let x = &inputs.x.data[k * plane..(k + 1) * plane];
            let mean = x.iter().sum::<f64>() / plane as f64;
            let variance = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / plane as f64;
            // f32 sums of h w terms, each off by u of the partial sum at most; half as much again is left of a
            // variance's error in 1/sqrt.
            let (terms, size) =
                ((plane + 8) as f64 * U, x.iter().map(|v| v.abs()).sum::<f64>() / plane as f64);
            assert_close(&inputs.moments[k..=k], &[mean], terms * size, 0.0, &format!("mean, {what}"));
            let rstd = 1.0 / (variance + 1e-5).sqrt();
            assert_close(&inputs.moments[c + k..=c + k], &[rstd], 0.0, terms, &format!("rstd, {what}"));
        }
        let expected = reference(&alone, &inputs, false);
        // The moments are as far off as an image's sums are, and everything computed with them is.
        let mut bounds = Bounds::new(&alone, &inputs, Tolerance::F16);
        bounds.y *= (plane + 8) as f64 / 8.0;
        bounds.dx *= (plane + 8) as f64 / 8.0;
        let shape = [1, c, norm.h, norm.w];
        let y = part(&found.y, output_shape(&alone));
        assert_close(&y.data, &expected.y.data, bounds.y + tiny, storage, &format!("y, {what}"));
        if norm.pool.is_some() {
            let size = found.winners.len() / norm.n;
            assert_eq!(found.winners[i * size..(i + 1) * size], expected.winners, "winners, {what}");
        }
        let dx = part(&found.dx, shape);
        assert_close(&dx.data, &expected.dx.data, bounds.dx + tiny, storage, &format!("dx, {what}"));
        if norm.residual {
            let sum = expected.dresidual.data.iter().zip(&inputs.before.data).map(|(s, b)| s + b);
            let (sum, found) = (sum.collect::<Vec<f64>>(), part(&found.dresidual, shape));
            assert_close(&found.data, &sum, bounds.dresidual, 0.0, &format!("dresidual, {what}"));
        }
        let gradients = &found.gradients[i * 2 * c..(i + 1) * 2 * c];
        assert_close(&gradients[..c], &expected.dweight, bounds.dweight, U, &format!("dweight, {what}"));
        assert_close(&gradients[c..], &expected.dbias, bounds.dbias, U, &format!("dbias, {what}"));
    }
}

/// One channel a thread and eight; an image of several blocks, whose threads take several turns.
fn batches_of_one<D: Driver>(mut backend: Cuda<D>) {
    for (seed, shape) in [[3, 5, 7, 16], [2, 6, 10, 20]].into_iter().enumerate() {
        for norm in combinations(shape) {
            check(&mut backend, &norm, 10 * seed as u64);
        }
    }
    for pool in [None, Some(Pool { size: 3, stride: 2, pad: 1 })] {
        for residual in [false, true] {
            let (relu, relu_sum) = (true, residual);
            check(&mut backend, &Norm { n: 2, h: 11, w: 12, c: 264, relu, residual, relu_sum, pool }, 40);
        }
    }
}

/// An image's results have the same bits whatever the images beside it.
fn alone_as_in_a_batch<D: Driver>(mut backend: Cuda<D>) {
    for pool in [None, Some(Pool::square(2))] {
        let norm = Norm { n: 3, h: 6, w: 8, c: 264, relu: true, residual: true, relu_sum: true, pool };
        let inputs = normal_inputs(&mut backend, &norm, 5);
        let three = run(&mut backend, &norm, &inputs, 3);
        let one = run(&mut backend, &norm, &inputs, 1);
        let part = |values: &[f32]| values[..values.len() / 3].to_vec();
        let first = Results {
            moments: part(&three.moments),
            y: part(&three.y),
            winners: three.winners[..three.winners.len() / 3].to_vec(),
            dx: part(&three.dx),
            dresidual: part(&three.dresidual),
            gradients: part(&three.gradients),
        };
        assert!(one == first, "{norm:?}");
    }
}

/// A mean far above the deviation: the variance is taken about the mean, so nothing cancels. 256 values of 1000 and
/// 1000.5, of which f16 holds both: mean 1000.25, variance 1/16.
fn large_mean<D: Driver>(mut backend: Cuda<D>) {
    let norm = Norm { n: 1, h: 16, w: 16, c: 8, relu: false, residual: false, relu_sum: false, pool: None };
    let x: Vec<f32> = (0..256 * 8).map(|i| 1000.0 + 0.5 * (i / 8 % 2) as f32).collect();
    let x = tensor(&backend, &x, 0);
    let mut moments = backend.vector(&[f32::NAN; 16]).unwrap();
    backend.sample_statistics(&norm, &x, &mut moments).unwrap();
    let moments = backend.read(&moments).unwrap();
    assert_eq!(moments[..8], [1000.25; 8]);
    assert_close(&moments[8..], &[1.0 / (0.0625_f64 + 1e-5).sqrt(); 8], 0.0, 4.0 * U, "1 / sqrt(var + eps)");
}

#[test]
fn batches_of_one_emulated() {
    batches_of_one(emulated());
}

#[test]
fn batches_of_one_cuda() {
    on_gpu(|cuda| batches_of_one(cuda()));
}

#[test]
fn alone_as_in_a_batch_emulated() {
    alone_as_in_a_batch(emulated());
}

#[test]
fn alone_as_in_a_batch_cuda() {
    on_gpu(|cuda| alone_as_in_a_batch(cuda()));
}

#[test]
fn large_mean_emulated() {
    large_mean(emulated());
}

#[test]
fn large_mean_cuda() {
    on_gpu(|cuda| large_mean(cuda()));
}

//! Code that several tests share: the f64 reference, the PyTorch fixtures, fills, layouts and tolerances;
//! runs, chains and data sets that are made up; the programs as a user runs them.
#![allow(dead_code, unused_macros)] // Each program of tests uses a part of it.

pub mod chain;
pub mod cli;
pub mod conv;
pub mod data;
pub mod device;
pub mod finite_difference;
pub mod fixture;
pub mod gpu;
pub mod nets;
pub mod norm;
pub mod reference;
pub mod safetensors;
pub mod score;
pub mod server;
pub mod train;

use fishmask::rng::{Purpose, Stream};
use reference::Tensor;

/// Does `work` on so many threads.
pub fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// Integers in -bound..=bound. Their products and sums are exact in f32 (and f16 while small), so results
/// compare with `==`.
pub fn integers(shape: &[usize], bound: u32, seed: u64) -> Tensor {
    let mut stream = Stream::new(seed, Purpose::Synthetic, u32::MAX, 0);
    Tensor::from_fn(shape, |_| f64::from(stream.below(2 * bound + 1)) - f64::from(bound))
}

/// Standard normal numbers rounded to f32, so that f32 code and the reference start from the same ones.
pub fn normals(shape: &[usize], seed: u64) -> Tensor {
    let mut stream = Stream::new(seed, Purpose::Synthetic, u32::MAX, 1);
    Tensor::from_fn(shape, |_| f64::from(stream.normal() as f32))
}

/// Class numbers in 0..classes.
pub fn labels(count: usize, classes: u32, seed: u64) -> Vec<usize> {
    let mut stream = Stream::new(seed, Purpose::Synthetic, u32::MAX, 2);
    (0..count).map(|_| stream.below(classes) as usize).collect()
}

/// Asserts |actual - expected| <= abs + rel * |expected| for each element (NaN and infinities never pass),
/// and names the worst one: the largest error as a multiple of its bound.
#[track_caller]
pub fn assert_close<A: Copy + Into<f64>>(actual: &[A], expected: &[f64], abs: f64, rel: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}: lengths differ");
    let mut worst = (0.0, 0);
    for (i, (a, &e)) in actual.iter().zip(expected).enumerate() {
        let (error, bound) = ((*a).into() - e, abs + rel * e.abs());
        // An exact hit of a zero bound is 0 / 0; anything else that is not a number is infinitely wrong.
        let ratio = if error == 0.0 { 0.0 } else { (error / bound).abs() };
        let ratio = if ratio.is_nan() { f64::INFINITY } else { ratio };
        if ratio > worst.0 {
            worst = (ratio, i);
        }
    }
    let (ratio, i) = worst;
    if ratio > 1.0 {
        let (a, e): (f64, f64) = (actual[i].into(), expected[i]);
        panic!(
            "{what}: element {i} of {} is {a:e}, expected {e:e}: off by {:e}, {ratio:.3} times the bound",
            actual.len(),
            (a - e).abs()
        );
    }
}

/// (N, C, H, W) to (N, H, W, C); filters (K, C, R, S) to (K, R, S, C) alike.
pub fn channels_last(t: &Tensor) -> Vec<f32> {
    let [n, c, h, w] = t.dims();
    let mut out = vec![0.0; t.data.len()];
    for (i, &v) in t.data.iter().enumerate() {
        let (x, y, ch, b) = (i % w, i / w % h, i / (w * h) % c, i / (w * h * c));
        out[((b * h + y) * w + x) * c + ch] = v as f32;
    }
    debug_assert_eq!(out.len(), n * c * h * w);
    out
}

/// The way back: data in (N, H, W, C) order to a tensor of shape (N, C, H, W); filters alike.
pub fn channels_first(data: &[f32], [n, c, h, w]: [usize; 4]) -> Tensor {
    assert_eq!(data.len(), n * c * h * w);
    Tensor::from_fn(&[n, c, h, w], |i| {
        let (x, y, ch, b) = (i % w, i / w % h, i / (w * h) % c, i / (w * h * c));
        f64::from(data[((b * h + y) * w + x) * c + ch])
    })
}

//! Global average pooling. Max pooling is part of the fused batch norm, in `op_norm.rs`.

use crate::support::device::{Probe, Tolerance, U, front, half, largest, on_every_device, poisoned, tensor};
use crate::support::fixture::Fixture;
use crate::support::reference::{Tape, Tensor};
use crate::support::{assert_close, channels_first, channels_last, integers, normals};
use fishmask::ops::AveragePool;

/// (N, H, W, C)
const SHAPES: [[usize; 4]; 5] = [[3, 4, 2, 1], [2, 1, 1, 3], [3, 5, 7, 16], [1, 4, 4, 20], [2, 3, 2, 67]];

/// Runs x and dy (NCHW) both ways in buffers for one more image and compares with y and dx.
fn check_case<B: Probe>(
    backend: &mut B,
    x: &Tensor,
    dy: &Tensor,
    y: &Tensor,
    dx: &Tensor,
    bound: [f64; 2],
    relative: f64,
) {
    let [n, c, h, w] = x.dims();
    let pool = AveragePool { n, h, w, c };
    let what = format!("{pool:?}");
    let image = h * w * c;
    let input = tensor(backend, &channels_last(x), image);
    let mut output = poisoned(backend, (n + 1) * c);
    backend.average_pool_forward(&pool, &input, &mut output).unwrap();
    let found = front(backend, &output, n * c, (n + 1) * c, &what);
    assert_close(&found, &y.data, bound[0], relative, &format!("y of {what}"));

    let gradient = tensor(backend, &dy.f32s(), c);
    let mut output = poisoned(backend, (n + 1) * image);
    backend.average_pool_backward(&pool, &gradient, &mut output).unwrap();
    let found = front(backend, &output, n * image, (n + 1) * image, &what);
    let found = channels_first(&found, [n, c, h, w]);
    assert_close(&found.data, &dx.data, bound[1], relative, &format!("dx of {what}"));
}

/// h w additions, each off by u of the partial sum, then 1 / (h w) and its product: (h w + 2) u of the
/// largest value holds the mean. The way back rounds twice.
fn bounds<B: Probe>(x: &Tensor, dy: &Tensor) -> ([f64; 2], f64) {
    let [_, _, h, w] = x.dims();
    let Tolerance { storage, tiny } = B::TOLERANCE;
    ([(h * w + 2) as f64 * U * largest(&x.data) + tiny, 2.0 * U * largest(&dy.data) + tiny], storage)
}

fn against_f64<B: Probe>(mut backend: B) {
    for (seed, [n, h, w, c]) in SHAPES.into_iter().enumerate() {
        let seed = seed as u64;
        for exact in [true, false] {
            let (x, dy) = if exact {
                (integers(&[n, c, h, w], 9, seed), integers(&[n, c], 9, seed + 50))
            } else {
                (half(normals(&[n, c, h, w], seed)), half(normals(&[n, c], seed + 50)))
            };
            let mut tape = Tape::default();
            let leaf = tape.leaf(&x);
            let y = tape.average_pool(leaf);
            let gradients = tape.backward(y, &dy);
            // A power of two divides integers exactly.
            let (bound, relative) =
                if exact && (h * w).is_power_of_two() { ([0.0; 2], 0.0) } else { bounds::<B>(&x, &dy) };
            check_case(&mut backend, &x, &dy, tape.value(y), gradients.of(leaf), bound, relative);
        }
    }
}

fn fixture<B: Probe>(mut backend: B) {
    let file = Fixture::open("ops");
    let [x, dy, y, dx] = ["x", "dy", "y", "dx"].map(|key| file.tensor(&format!("average_pool.{key}")));
    let (bound, relative) = bounds::<B>(x, dy);
    // f16 storage rounds this x and dy as well.
    let coarse = (B::TOLERANCE.storage - U) * largest(&x.data);
    check_case(&mut backend, x, dy, y, dx, bound.map(|b| b + coarse), relative);
}

fn nan_comes_through<B: Probe>(mut backend: B) {
    let pool = AveragePool { n: 2, h: 2, w: 3, c: 5 };
    let mut x = vec![1.0; 2 * 6 * 5];
    x[30 + 2 * 5 + 3] = f32::NAN;
    let x = tensor(&backend, &x, 0);
    let mut y = tensor(&backend, &[0.0; 10], 0);
    backend.average_pool_forward(&pool, &x, &mut y).unwrap();
    let y = backend.read_tensor(&y, 10).unwrap();
    assert!(y.iter().enumerate().all(|(i, v)| v.is_nan() == (i == 5 + 3)), "{y:?}");
}

on_every_device!(against_f64, fixture, nan_comes_through);

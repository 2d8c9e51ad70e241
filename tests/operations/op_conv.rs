//! Convolutions against a direct f64 convolution.
//!
//! Tolerances. A sum of n products of f32 in any order is off by at most n u sum |a b| to first order, u =
//! 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). For im2col n is the number of
//! terms and the sum runs over the direct convolution's products. Winograd's terms are those of the
//! transforms written out: the same formula with every matrix, filter and pixel replaced by its absolute
//! value gives sum |a b|, and n is the length of the matrix product plus the roundings before and after it:
//! at most 5 in each of 6 one-dimensional transforms (4 operations and the rounding of a coefficient). `+ 2`
//! covers the second order and the final addition.

use fishmask::device::{Buffers, Cpu};
use fishmask::ops::conv::cpu;
use fishmask::ops::conv::cpu::Algorithm::{self, Im2col, Winograd2, Winograd4};
use fishmask::ops::{Conv, ConvDgrad, ConvFprop, ConvOps, ConvWgrad, In, Out, Work};
use fishmask::rng::{Purpose, Stream};

const U: f64 = 1.0 / 16_777_216.0;

fn conv(
    n: usize,
    (h, w): (usize, usize),
    c: usize,
    k: usize,
    (r, stride, pad): (usize, usize, usize),
) -> Conv {
    Conv { n, h, w, c, k, r, stride, pad }
}

const S1: (usize, usize, usize) = (3, 1, 1);

/// Geometries with pairwise distinct dimensions and ragged tails.
fn shapes() -> Vec<(Algorithm, Conv)> {
    let mut shapes = vec![
        (Im2col, conv(5, (9, 7), 3, 11, S1)),
        (Im2col, conv(4, (9, 7), 3, 16, (3, 2, 1))),
        (Im2col, conv(3, (8, 6), 5, 9, (3, 2, 1))),
        (Im2col, conv(2, (7, 10), 19, 6, (1, 2, 0))),
        (Im2col, conv(2, (5, 4), 18, 7, (1, 1, 0))),
        (Im2col, conv(3, (11, 8), 2, 5, (5, 3, 2))),
        (Im2col, conv(2, (6, 9), 4, 3, (2, 1, 0))),
        (Im2col, conv(1, (1, 1), 3, 2, S1)),
        // Several blocks, chunks and groups, the last of each ragged.
        (Im2col, conv(13, (35, 33), 67, 5, S1)),
        (Im2col, conv(37, (2, 4), 129, 130, (3, 2, 1))),
    ];
    // A large filter and several shared chunks; images of one pixel, for the reference's sake.
    shapes.push((Winograd4, conv(350, (1, 1), 171, 172, S1)));
    for algorithm in [Winograd2, Winograd4] {
        shapes.extend([
            (algorithm, conv(5, (9, 7), 3, 11, S1)),
            (algorithm, conv(3, (8, 12), 16, 32, S1)),
            (algorithm, conv(1, (5, 6), 17, 9, S1)),
            (algorithm, conv(4, (1, 1), 2, 21, S1)),
            (algorithm, conv(6, (2, 3), 20, 13, S1)),
            (algorithm, conv(7, (33, 30), 18, 35, S1)),
            // A filter large enough for the shared chunks.
            (algorithm, conv(3, (5, 4), 260, 270, S1)),
        ]);
    }
    shapes
}

/// How the inputs are filled.
#[derive(Clone, Copy, PartialEq)]
enum Fill {
    /// -2, -1, 0, 1, 2: every product and sum is exact in im2col and, quarters included, in F(2x2,3x3).
    Integers,
    /// Standard normals.
    Normals,
}

fn fill(fill: Fill, len: usize, index: u32) -> Vec<f32> {
    let mut stream = Stream::new(7, Purpose::Init, 0, index);
    let mut next = || match fill {
        Fill::Integers => stream.below(5) as f32 - 2.0,
        Fill::Normals => stream.normal() as f32,
    };
    (0..len).map(|_| next()).collect()
}

struct Inputs {
    x: Vec<f32>,
    filter: Vec<f32>,
    dy: Vec<f32>,
}

impl Inputs {
    fn new(kind: Fill, g: &Conv) -> Self {
        Self {
            x: fill(kind, g.n * g.h * g.w * g.c, 0),
            filter: fill(kind, g.k * g.r * g.r * g.c, 1),
            dy: fill(kind, g.n * g.p() * g.q() * g.k, 2),
        }
    }
}

/// Calls `f` with (index in y, index in filter, index in x) of every product, channels 0, for each `C` and
/// `K` to be added by the caller.
fn products(g: &Conv, mut f: impl FnMut(usize, usize, usize)) {
    for n in 0..g.n {
        for (p, q) in (0..g.p()).flat_map(|p| (0..g.q()).map(move |q| (p, q))) {
            for (r, s) in (0..g.r).flat_map(|r| (0..g.r).map(move |s| (r, s))) {
                let (h, w) = (p * g.stride + r, q * g.stride + s);
                if h >= g.pad && w >= g.pad && h - g.pad < g.h && w - g.pad < g.w {
                    let x = (n * g.h + h - g.pad) * g.w + w - g.pad;
                    f((n * g.p() + p) * g.q() + q, r * g.r + s, x);
                }
            }
        }
    }
}

/// The direct convolution's y, dx and dfilter in f64, of the inputs mapped by `of`.
fn direct(g: &Conv, inputs: &Inputs, of: fn(f64) -> f64) -> [Vec<f64>; 3] {
    let map = |v: &[f32]| v.iter().map(|v| of(f64::from(*v))).collect::<Vec<f64>>();
    let (x, filter, dy) = (map(&inputs.x), map(&inputs.filter), map(&inputs.dy));
    let mut out = [vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; filter.len()]];
    let (c, k, taps) = (g.c, g.k, g.r * g.r);
    products(g, |yi, tap, xi| {
        let [y, dx, dfilter] = &mut out;
        for o in 0..k {
            let f = (o * taps + tap) * c;
            let (yo, mut sum) = (yi * k + o, 0.0);
            for i in 0..c {
                sum += x[xi * c + i] * filter[f + i];
                dx[xi * c + i] += dy[yo] * filter[f + i];
                dfilter[f + i] += dy[yo] * x[xi * c + i];
            }
            y[yo] += sum;
        }
    });
    out
}

/// |B^T|, |G|, |A^T| of F(2,3) and F(4,3) (Lavin and Gray, arXiv 1509.09308).
fn matrices(algorithm: Algorithm) -> [Vec<Vec<f64>>; 3] {
    let rows = |rows: &[&[f64]]| rows.iter().map(|r| r.to_vec()).collect::<Vec<_>>();
    let (a, b, c, d) = (1.0 / 4.0, 1.0 / 6.0, 1.0 / 12.0, 1.0 / 24.0);
    if algorithm == Winograd2 {
        return [
            rows(&[&[1., 0., 1., 0.], &[0., 1., 1., 0.], &[0., 1., 1., 0.], &[0., 1., 0., 1.]]),
            rows(&[&[1., 0., 0.], &[0.5; 3], &[0.5; 3], &[0., 0., 1.]]),
            rows(&[&[1., 1., 1., 0.], &[0., 1., 1., 1.]]),
        ];
    }
    [
        rows(&[
            &[4., 0., 5., 0., 1., 0.],
            &[0., 4., 4., 1., 1., 0.],
            &[0., 4., 4., 1., 1., 0.],
            &[0., 2., 1., 2., 1., 0.],
            &[0., 2., 1., 2., 1., 0.],
            &[0., 4., 0., 5., 0., 1.],
        ]),
        rows(&[&[a, 0., 0.], &[b; 3], &[b; 3], &[d, c, b], &[d, c, b], &[0., 0., 1.]]),
        rows(&[
            &[1., 1., 1., 1., 1., 0.],
            &[0., 1., 1., 2., 2., 0.],
            &[0., 1., 1., 4., 4., 0.],
            &[0., 1., 1., 8., 8., 1.],
        ]),
    ]
}

/// m v m^T of a square matrix v, all flat.
fn sandwich(m: &[Vec<f64>], v: &[f64], transposed: bool) -> Vec<f64> {
    let at = |i: usize, j: usize| if transposed { m[j][i] } else { m[i][j] };
    let (rows, inner) = if transposed { (m[0].len(), m.len()) } else { (m.len(), m[0].len()) };
    let mut half = vec![0.0; rows * inner];
    for (i, j) in (0..rows).flat_map(|i| (0..inner).map(move |j| (i, j))) {
        half[i * inner + j] = (0..inner).map(|l| at(i, l) * v[l * inner + j]).sum();
    }
    let mut out = vec![0.0; rows * rows];
    for (i, j) in (0..rows).flat_map(|i| (0..rows).map(move |j| (i, j))) {
        out[i * rows + j] = (0..inner).map(|l| half[i * inner + l] * at(j, l)).sum();
    }
    out
}

/// Sums of absolute terms of Winograd's y, dx and dfilter.
fn absolute_winograd(algorithm: Algorithm, g: &Conv, inputs: &Inputs) -> [Vec<f64>; 3] {
    let [bt, gm, at] = matrices(algorithm);
    let (m, a) = (at.len(), bt.len());
    let points = a * a;
    let abs = |v: &f32| f64::from(v.abs());
    let (th, tw) = (g.h.div_ceil(m), g.w.div_ceil(m));
    let pixel = |v: &[f32], n: usize, y: isize, x: isize, channels: usize, i: usize| {
        let inside = y >= 0 && x >= 0 && y < g.h as isize && x < g.w as isize;
        if inside { abs(&v[((n * g.h + y as usize) * g.w + x as usize) * channels + i]) } else { 0.0 }
    };
    // An A x A window (from one pixel up and left) or an M x M tile, transformed.
    let window = |v: &[f32], n: usize, ty: usize, tx: usize, channels: usize, i: usize| {
        let d: Vec<f64> = (0..points)
            .map(|l| {
                let (y, x) = ((ty * m + l / a) as isize - 1, (tx * m + l % a) as isize - 1);
                pixel(v, n, y, x, channels, i)
            })
            .collect();
        sandwich(&bt, &d, false)
    };
    let tile = |v: &[f32], n: usize, ty: usize, tx: usize, channels: usize, i: usize| {
        let e: Vec<f64> = (0..m * m)
            .map(|l| pixel(v, n, (ty * m + l / m) as isize, (tx * m + l % m) as isize, channels, i))
            .collect();
        sandwich(&at, &e, true)
    };
    let filters: Vec<Vec<f64>> = (0..g.k * g.c)
        .map(|l| {
            let (o, i) = (l / g.c, l % g.c);
            let taps: Vec<f64> = (0..9).map(|t| abs(&inputs.filter[(o * 9 + t) * g.c + i])).collect();
            sandwich(&gm, &taps, false)
        })
        .collect();
    let rotated: Vec<Vec<f64>> = (0..g.k * g.c)
        .map(|l| {
            let (o, i) = (l / g.c, l % g.c);
            let taps: Vec<f64> = (0..9).map(|t| abs(&inputs.filter[(o * 9 + 8 - t) * g.c + i])).collect();
            sandwich(&gm, &taps, false)
        })
        .collect();
    let mut out = [vec![0.0; inputs.dy.len()], vec![0.0; inputs.x.len()], vec![0.0; inputs.filter.len()]];
    let mut du = vec![vec![0.0; points]; g.k * g.c];
    for n in 0..g.n {
        for (ty, tx) in (0..th).flat_map(|ty| (0..tw).map(move |tx| (ty, tx))) {
            let xs: Vec<_> = (0..g.c).map(|i| window(&inputs.x, n, ty, tx, g.c, i)).collect();
            let dys: Vec<_> = (0..g.k).map(|o| window(&inputs.dy, n, ty, tx, g.k, o)).collect();
            let es: Vec<_> = (0..g.k).map(|o| tile(&inputs.dy, n, ty, tx, g.k, o)).collect();
            let write = |into: &mut Vec<f64>, channels: usize, i: usize, sum: &[f64]| {
                for (l, v) in sandwich(&at, sum, false).into_iter().enumerate() {
                    let (y, x) = (ty * m + l / m, tx * m + l % m);
                    if y < g.h && x < g.w {
                        into[((n * g.h + y) * g.w + x) * channels + i] = v;
                    }
                }
            };
            for o in 0..g.k {
                let mut sum = vec![0.0; points];
                for i in 0..g.c {
                    for l in 0..points {
                        sum[l] += filters[o * g.c + i][l] * xs[i][l];
                        du[o * g.c + i][l] += es[o][l] * xs[i][l];
                    }
                }
                write(&mut out[0], g.k, o, &sum);
            }
            for i in 0..g.c {
                let mut sum = vec![0.0; points];
                for o in 0..g.k {
                    (0..points).for_each(|l| sum[l] += rotated[o * g.c + i][l] * dys[o][l]);
                }
                write(&mut out[1], g.c, i, &sum);
            }
        }
    }
    for (l, u) in du.iter().enumerate() {
        for (t, v) in sandwich(&gm, u, true).into_iter().enumerate() {
            out[2][(l / g.c * 9 + t) * g.c + l % g.c] = v;
        }
    }
    out
}

/// Roundings on the way to an element of y, dx and dfilter: the module's derivation.
fn roundings(algorithm: Algorithm, g: &Conv) -> [f64; 3] {
    let tiles = |m: usize| g.n * g.h.div_ceil(m) * g.w.div_ceil(m);
    let terms = match algorithm {
        Im2col => [g.r * g.r * g.c, g.r * g.r * g.k, g.n * g.p() * g.q()],
        Winograd2 => [g.c + 30, g.k + 30, tiles(2) + 30],
        Winograd4 => [g.c + 30, g.k + 30, tiles(4) + 30],
    };
    terms.map(|n| (n + 2) as f64)
}

/// Sums of absolute terms of y, dx and dfilter.
fn absolute(algorithm: Algorithm, g: &Conv, inputs: &Inputs) -> [Vec<f64>; 3] {
    match algorithm {
        Im2col => direct(g, inputs, f64::abs),
        _ => absolute_winograd(algorithm, g, inputs),
    }
}

#[track_caller]
fn close(what: &str, g: &Conv, got: &[f32], want: &[f64], bound: &[f64]) {
    for (i, ((got, want), bound)) in got.iter().zip(want).zip(bound).enumerate() {
        let error = (f64::from(*got) - want).abs();
        // Not `error > bound`: a NaN must fail.
        assert!(error <= *bound, "{what} of {g:?}: element {i} is {got}, not {want} within {bound:e}");
    }
}

struct Outputs {
    y: Vec<f32>,
    sums: Vec<f64>,
    dx: Vec<f32>,
    dfilter: Vec<f32>,
}

/// The CPU with scratch for a convolution by an algorithm.
fn cpu_for(algorithm: Algorithm, g: &Conv) -> Cpu {
    let mut cpu = Cpu::new();
    cpu.reserve(cpu::scratch(g, algorithm)).unwrap();
    cpu
}

/// All three passes into buffers full of NaN.
fn run(algorithm: Algorithm, g: &Conv, inputs: &Inputs, cpu: &mut Cpu) -> Outputs {
    let mut out = Outputs {
        y: vec![f32::NAN; inputs.dy.len()],
        sums: vec![f64::NAN; 2 * g.k],
        dx: vec![f32::NAN; inputs.x.len()],
        dfilter: vec![f32::NAN; inputs.filter.len()],
    };
    let Inputs { x, filter, dy } = inputs;
    let whole = || In { vector: filter, at: 0..filter.len() };
    let sums = Some((&mut out.sums, 0..2 * g.k));
    cpu.conv_fprop_by(algorithm, g, ConvFprop { x, filter: whole(), y: &mut out.y, sums });
    let dgrad = ConvDgrad { dy, filter: whole(), dx: &mut out.dx, accumulate: false };
    cpu.conv_dgrad_by(algorithm, g, dgrad);
    let into = Out::Gradients(&mut out.dfilter);
    cpu.conv_wgrad_by(algorithm, g, ConvWgrad { x, dy, filter: 0..filter.len(), into });
    out
}

fn compare(kind: Fill) {
    for (algorithm, g) in shapes() {
        let inputs = Inputs::new(kind, &g);
        let want = direct(&g, &inputs, |v| v);
        let exact = kind == Fill::Integers && algorithm != Winograd4;
        let rounding = if exact { [0.0; 3] } else { roundings(algorithm, &g).map(|n| n * U) };
        let absolute = absolute(algorithm, &g, &inputs);
        let bound = [0, 1, 2].map(|i| absolute[i].iter().map(|a| rounding[i] * a).collect::<Vec<_>>());
        let mut cpu = cpu_for(algorithm, &g);
        let got = run(algorithm, &g, &inputs, &mut cpu);
        close(&format!("{algorithm:?} y"), &g, &got.y, &want[0], &bound[0]);
        close(&format!("{algorithm:?} dx"), &g, &got.dx, &want[1], &bound[1]);
        close(&format!("{algorithm:?} dfilter"), &g, &got.dfilter, &want[2], &bound[2]);

        // Accumulated, on top of 1: one term and one rounding more.
        let mut dx = vec![1.0; got.dx.len()];
        let filter = In { vector: &inputs.filter, at: 0..inputs.filter.len() };
        let dgrad = ConvDgrad { dy: &inputs.dy, filter, dx: &mut dx, accumulate: true };
        cpu.conv_dgrad_by(algorithm, &g, dgrad);
        let more: Vec<f64> = want[1].iter().map(|v| v + 1.0).collect();
        let rounding = if exact { 0.0 } else { rounding[1] + U };
        let bound: Vec<f64> = absolute[1].iter().map(|a| rounding * (a + 1.0)).collect();
        close(&format!("{algorithm:?} accumulated dx"), &g, &dx, &more, &bound);

        // The sums are of the y that was written, in f64: exact to the rounding of N*P*Q f64 additions.
        let pixels = (g.n * g.p() * g.q()) as f64;
        for channel in 0..g.k {
            let column = || got.y.iter().skip(channel).step_by(g.k).map(|v| f64::from(*v));
            let (sum, squares) = (column().sum::<f64>(), column().map(|v| v * v).sum::<f64>());
            let absolute = column().map(f64::abs).sum::<f64>();
            let slack = pixels * f64::EPSILON;
            assert!((got.sums[channel] - sum).abs() <= slack * absolute, "{algorithm:?} {g:?} sum");
            assert!(
                (got.sums[g.k + channel] - squares).abs() <= slack * squares,
                "{algorithm:?} {g:?} squares"
            );
        }
    }
}

#[test]
fn small_integers() {
    compare(Fill::Integers);
}

#[test]
fn normals() {
    compare(Fill::Normals);
}

#[test]
fn the_same_bits_with_any_number_of_threads() {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let pools = [1, 2, 3].map(pool);
    for (algorithm, g) in shapes() {
        let inputs = Inputs::new(Fill::Normals, &g);
        let results = pools
            .each_ref()
            .map(|pool| pool.install(|| run(algorithm, &g, &inputs, &mut cpu_for(algorithm, &g))));
        // Scratch of one thread, used by three.
        let mut small = pools[0].install(|| cpu_for(algorithm, &g));
        let shared = pools[2].install(|| run(algorithm, &g, &inputs, &mut small));
        for other in results[1..].iter().chain([&shared]) {
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&results[0].y), bits(&other.y), "{algorithm:?} {g:?} y");
            assert_eq!(bits(&results[0].dx), bits(&other.dx), "{algorithm:?} {g:?} dx");
            assert_eq!(bits(&results[0].dfilter), bits(&other.dfilter), "{algorithm:?} {g:?} dfilter");
            assert_eq!(results[0].sums, other.sums, "{algorithm:?} {g:?} sums");
        }
    }
}

/// resnet9 at width 64 and batch 512 trains in under 2.5 GB; its activations alone take most of that.
#[test]
fn scratch_does_not_grow_with_the_batch() {
    let widest =
        |n| [conv(n, (32, 32), 64, 128, S1), conv(n, (8, 8), 256, 512, S1), conv(n, (4, 4), 512, 512, S1)];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let scratch = |n| widest(n).iter().map(|conv| Cpu::conv_scratch(conv, Work::Train)).collect();
    let bytes = |n| pool.install(|| Cpu::scratch_bytes(scratch(n)));
    assert!(bytes(512) < 128 << 20, "{} bytes", bytes(512));
    // Only the partial sums do: two f64 a channel and image.
    assert!(bytes(512) - bytes(256) <= 256 * 2 * 512 * 8, "{} and {} bytes", bytes(256), bytes(512));
}

#[test]
fn scratch_serves_smaller_batches_and_other_shapes() {
    let all = shapes();
    let larger = all.iter().map(|(algorithm, g)| cpu::scratch(&Conv { n: g.n + 3, ..*g }, *algorithm));
    let mut shared = Cpu::new();
    shared.reserve(larger.collect()).unwrap();
    for (algorithm, g) in all {
        for n in [1, g.n] {
            let g = Conv { n, ..g };
            let inputs = Inputs::new(Fill::Normals, &g);
            let own = run(algorithm, &g, &inputs, &mut cpu_for(algorithm, &g));
            let got = run(algorithm, &g, &inputs, &mut shared);
            assert_eq!(own.y, got.y, "{algorithm:?} {g:?}");
            assert_eq!(own.dx, got.dx, "{algorithm:?} {g:?}");
            assert_eq!(own.dfilter, got.dfilter, "{algorithm:?} {g:?}");
        }
    }
}

/// <conv(x), dy> = <x, dgrad(dy)> = <filter, wgrad(x, dy)>, through the public entry points at the networks'
/// sizes, where the direct reference would be slow.
#[test]
fn adjoint() {
    let networks = [
        conv(4, (32, 32), 3, 64, S1),
        conv(4, (32, 32), 16, 32, S1),
        conv(3, (16, 16), 64, 128, S1),
        conv(5, (8, 8), 128, 256, (3, 2, 1)),
        conv(5, (8, 8), 128, 256, (1, 2, 0)),
        conv(6, (4, 4), 256, 256, S1),
        conv(9, (2, 2), 512, 512, S1),
    ];
    let mut cpu = Cpu::new();
    cpu.reserve(networks.iter().map(|conv| Cpu::conv_scratch(conv, Work::Train)).collect()).unwrap();
    for g in networks {
        let inputs = Inputs::new(Fill::Normals, &g);
        let Inputs { x, filter, dy } = &inputs;
        let (mut y, mut dx, mut dfilter) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; filter.len()]);
        let whole = || In { vector: filter, at: 0..filter.len() };
        cpu.conv_fprop(&g, ConvFprop { x, filter: whole(), y: &mut y, sums: None }).unwrap();
        cpu.conv_dgrad(&g, ConvDgrad { dy, filter: whole(), dx: &mut dx, accumulate: false }).unwrap();
        let into = Out::Gradients(&mut dfilter);
        cpu.conv_wgrad(&g, ConvWgrad { x, dy, filter: 0..filter.len(), into }).unwrap();
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let norm = |a: &[f32]| dot(a, a).sqrt();
        let products = [dot(&y, dy), dot(x, &dx), dot(filter, &dfilter)];
        // By Cauchy and Schwarz a product is off by at most the relative error of a result times the two
        // norms. That error is some tens of u in F(4x4,3x3); 1e-5 is 168 u. A wrong tap or tile is off by
        // more than 1e-3.
        let bound = 1e-5 * (norm(&y) * norm(dy)).max(norm(x) * norm(&dx)).max(norm(filter) * norm(&dfilter));
        assert!((products[0] - products[1]).abs() <= bound, "{g:?}: {products:?}, bound {bound:e}");
        assert!((products[0] - products[2]).abs() <= bound, "{g:?}: {products:?}, bound {bound:e}");
    }
}

//! Convolution kernels of the CUDA backend, each algorithm in each of its tiles, against a direct f64
//! convolution.
//!
//! Tolerances. Products of two f16 are exact in f32. A sum of n of them in f32, in any order, is off by at
//! most (n + 2) v sum |a b|, where v = 2^-23: twice the unit roundoff, because tensor cores may truncate
//! (Fasi, Higham, Mikaitis and Pranesh, "Numerical behavior of NVIDIA tensor cores", 2021). Rounding to f16
//! then adds 2^-11 of the value, or half the least positive f16. Sums of small integers are exact.

use crate::support::conv::{S1, S2, SHORTCUT, conv};
use crate::support::device::{Tolerance, U, emulated, front, on_cuda_devices, poisoned, tensor};
use crate::support::gpu::on_gpu;
use crate::support::on_threads;
use fishmask::device::driver::Driver;
use fishmask::device::{Buffers, Cuda, Vector};
use fishmask::ops::conv::cuda::Algorithm::{self, Analytic, Gather, Tensor};
use fishmask::ops::conv::cuda::{Pass, Tile};
use fishmask::ops::{Conv, ConvDgrad, ConvFprop, ConvOps, ConvWgrad, In, Out, Work};
use fishmask::rng::{Purpose, Stream};
use half::f16;

/// A convolution, and where in the flat vector its filter begins.
#[derive(Clone, Copy, Debug)]
struct Case {
    conv: Conv,
    at: usize,
}

fn case(
    n: usize,
    size: (usize, usize),
    channels: (usize, usize),
    geometry: (usize, usize, usize),
    at: usize,
) -> Case {
    Case { conv: conv(n, size, channels, geometry), at }
}

/// Geometries with pairwise distinct dimensions and ragged tails.
fn cases() -> Vec<Case> {
    vec![
        case(2, (5, 7), (3, 10), S1, 0),
        case(4, (6, 5), (1, 8), S2, 3),
        case(2, (7, 4), (8, 72), S1, 8),
        case(1, (9, 6), (24, 16), S2, 16),
        case(2, (5, 8), (40, 48), S1, 32),
        case(3, (7, 6), (16, 24), SHORTCUT, 0),
        case(2, (8, 6), (24, 40), SHORTCUT, 8),
        // Neither begins at a multiple of 8.
        case(2, (4, 6), (24, 8), S1, 5),
        case(3, (5, 4), (8, 16), S2, 4),
        case(3, (4, 5), (16, 5), S1, 8),
        case(9, (2, 2), (8, 16), S1, 0),
        case(5, (1, 1), (16, 8), S1, 8),
        case(1, (1, 3), (8, 16), S2, 0),
        case(2, (10, 9), (8, 24), (5, 3, 2), 24),
        case(2, (4, 5), (8, 16), (2, 1, 0), 8),
        case(1, (9, 8), (2, 3), (7, 2, 3), 1),
        // Several tiles of every size both ways, the last ones ragged.
        case(3, (11, 10), (16, 136), S1, 8),
        case(2, (13, 12), (136, 24), S1, 16),
        case(4, (12, 14), (3, 72), S1, 27),
        // Many images to a step of 32 pixels, and many steps.
        case(70, (3, 5), (8, 16), S2, 0),
        case(40, (3, 2), (5, 8), S1, 1),
    ]
}

/// Layers of the three networks on small images.
fn layers() -> Vec<Case> {
    vec![
        case(1, (8, 7), (64, 128), S1, 1728),
        case(2, (2, 2), (256, 512), S1, 64),
        case(1, (6, 4), (128, 256), S2, 8),
        case(3, (4, 4), (64, 128), SHORTCUT, 0),
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
    let mut stream = Stream::new(11, Purpose::Init, 0, index);
    let mut next = || match fill {
        Fill::Integers => stream.below(5) as f32 - 2.0,
        Fill::Normals => f16::from_f32(stream.normal() as f32).to_f32(),
    };
    (0..len).map(|_| next()).collect()
}

struct Inputs {
    x: Vec<f32>,
    filter: Vec<f32>,
    dy: Vec<f32>,
    /// What dx holds before it is accumulated into.
    before: Vec<f32>,
}

impl Inputs {
    fn new(kind: Fill, g: &Conv) -> Self {
        Inputs {
            x: fill(kind, g.inputs(), 0),
            filter: fill(kind, g.k * g.r * g.r * g.c, 1),
            dy: fill(kind, g.outputs(), 2),
            before: fill(kind, g.inputs(), 3),
        }
    }
}

/// y, dx and dfilter of the inputs mapped by `of`.
fn direct(g: &Conv, inputs: &Inputs, of: fn(f64) -> f64) -> [Vec<f64>; 3] {
    let map = |v: &[f32]| v.iter().map(|v| of(f64::from(*v))).collect::<Vec<f64>>();
    let (x, filter, dy) = (map(&inputs.x), map(&inputs.filter), map(&inputs.dy));
    let [mut y, mut dx, mut dfilter] = [dy.len(), x.len(), filter.len()].map(|n| vec![0.0; n]);
    for yi in 0..g.n * g.p() * g.q() {
        let (n, p, q) = (yi / (g.p() * g.q()), yi / g.q() % g.p(), yi % g.q());
        for tap in 0..g.r * g.r {
            let (h, w) = (p * g.stride + tap / g.r, q * g.stride + tap % g.r);
            if h < g.pad || w < g.pad || h - g.pad >= g.h || w - g.pad >= g.w {
                continue;
            }
            let xi = ((n * g.h + h - g.pad) * g.w + w - g.pad) * g.c;
            for k in 0..g.k {
                let (f, d) = ((k * g.r * g.r + tap) * g.c, dy[yi * g.k + k]);
                for c in 0..g.c {
                    y[yi * g.k + k] += x[xi + c] * filter[f + c];
                    dx[xi + c] += d * filter[f + c];
                    dfilter[f + c] += d * x[xi + c];
                }
            }
        }
    }
    [y, dx, dfilter]
}

/// Elements behind those in use, NaN before and after.
const SPARE: usize = 11;

/// The flat vector with the filter in its place and NaN around it.
fn flat(case: &Case, filter: &[f32]) -> Vec<f32> {
    let mut flat = vec![f32::NAN; case.at];
    flat.extend(filter);
    flat.extend([f32::NAN; SPARE]);
    flat
}

struct Device<D: Driver> {
    backend: Cuda<D>,
}

impl<D: Driver> Device<D> {
    fn fprop(&mut self, algorithm: Algorithm, case: &Case, inputs: &Inputs) -> (Vec<f32>, Vec<f64>) {
        let (b, g) = (&mut self.backend, &case.conv);
        let x = tensor(b, &inputs.x, SPARE);
        let weights = b.upload_weights(&flat(case, &inputs.filter)).unwrap();
        let range = case.at..case.at + inputs.filter.len();
        let mut y = poisoned(b, g.outputs() + SPARE);
        let mut sums = b.sums(3 + 2 * g.k + 2).unwrap();
        let at = 3..3 + 2 * g.k;
        let filter = || In { vector: &weights, at: range.clone() };
        let fprop = ConvFprop { x: &x, filter: filter(), y: &mut y, sums: Some((&mut sums, at)) };
        b.conv_fprop_by(algorithm, g, fprop).unwrap();
        let with_sums = front(b, &y, g.outputs(), g.outputs() + SPARE, "y");
        let mut y = poisoned(b, g.outputs() + SPARE);
        let fprop = ConvFprop { x: &x, filter: filter(), y: &mut y, sums: None };
        b.conv_fprop_by(algorithm, g, fprop).unwrap();
        let y = front(b, &y, g.outputs(), g.outputs() + SPARE, "y");
        assert_eq!(y, with_sums, "{algorithm:?} {case:?}: y depends on whether sums are wanted");
        let sums = sums.read(b.driver(), 3 + 2 * g.k + 2).unwrap();
        assert_eq!([&sums[..3], &sums[3 + 2 * g.k..]].concat(), [0.0; 5], "sums beside the range");
        (y, sums[3..3 + 2 * g.k].to_vec())
    }

    fn dgrad(&mut self, algorithm: Algorithm, case: &Case, inputs: &Inputs, accumulate: bool) -> Vec<f32> {
        let (b, g) = (&mut self.backend, &case.conv);
        let dy = tensor(b, &inputs.dy, SPARE);
        let weights = b.upload_weights(&flat(case, &inputs.filter)).unwrap();
        let range = case.at..case.at + inputs.filter.len();
        let mut dx = match accumulate {
            true => tensor(b, &inputs.before, SPARE),
            false => poisoned(b, g.inputs() + SPARE),
        };
        let filter = In { vector: &weights, at: range };
        b.conv_dgrad_by(algorithm, g, ConvDgrad { dy: &dy, filter, dx: &mut dx, accumulate }).unwrap();
        front(b, &dx, g.inputs(), g.inputs() + SPARE, "dx")
    }

    fn wgrad(
        &mut self,
        algorithm: Algorithm,
        steps: Option<usize>,
        case: &Case,
        inputs: &Inputs,
    ) -> Vec<f32> {
        let (b, g) = (&mut self.backend, &case.conv);
        let (x, dy) = (tensor(b, &inputs.x, SPARE), tensor(b, &inputs.dy, SPARE));
        let count = inputs.filter.len();
        let mut gradients: Vector<D> = b.vector(&vec![f32::NAN; case.at + count + SPARE]).unwrap();
        let (filter, into) = (case.at..case.at + count, Out::Gradients(&mut gradients));
        b.conv_wgrad_by(algorithm, steps, g, ConvWgrad { x: &x, dy: &dy, filter, into }).unwrap();
        let all = b.read(&gradients).unwrap();
        let (before, after) = (&all[..case.at], &all[case.at + count..]);
        assert!(before.iter().chain(after).all(|v| v.is_nan()), "{algorithm:?} {case:?}: beside the range");
        all[case.at..case.at + count].to_vec()
    }
}

/// Asserts |got - want| <= bound, which NaN never is.
#[track_caller]
fn close(what: &str, case: &Case, got: &[f32], want: &[f64], bound: impl Fn(usize) -> f64) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*got) - want).abs();
        assert!(
            error <= bound(i),
            "{what} of {case:?}: element {i} is {got}, not {want} within {:e}",
            bound(i)
        );
    }
}

/// What an f32 sum of `terms` products may be off by, with `absolute` the sum of their magnitudes; nothing
/// for integers.
fn summing(kind: Fill, terms: usize, absolute: f64) -> f64 {
    if kind == Fill::Integers { 0.0 } else { (terms + 2) as f64 * 2.0 * U * absolute }
}

/// What rounding to f16 adds to that.
fn storing(kind: Fill, want: f64, error: f64) -> f64 {
    let Tolerance { storage, tiny } = Tolerance::F16;
    if kind == Fill::Integers {
        assert!(want.abs() <= 2048.0, "{want} is no exact f16");
        return 0.0;
    }
    error + storage * (want.abs() + error) + tiny
}

fn compare<D: Driver>(
    backend: Cuda<D>,
    kind: Fill,
    cases: &[Case],
    pick: impl Fn(Pass, &Case) -> Vec<Algorithm>,
) {
    let mut device = Device { backend };
    for case in cases {
        let g = &case.conv;
        device.backend.reserve(Cuda::<D>::conv_scratch(g, Work::Train)).unwrap();
        let inputs = Inputs::new(kind, g);
        let [y, dx, dfilter] = direct(g, &inputs, |v| v);
        let [abs_y, abs_dx, abs_dfilter] = direct(g, &inputs, f64::abs);
        let pixels = g.n * g.p() * g.q();

        for algorithm in pick(Pass::Fprop, case) {
            let what = |name: &str| format!("{algorithm:?} {kind:?}: {name}");
            let (got, sums) = device.fprop(algorithm, case, &inputs);
            close(&what("y"), case, &got, &y, |i| {
                storing(kind, y[i], summing(kind, g.r * g.r * g.c, abs_y[i]))
            });
            // Of y as written. A block sums at most 256 rows in f32, and blocks are added in f64.
            for k in 0..g.k {
                let column = || got.iter().skip(k).step_by(g.k).map(|v| f64::from(*v));
                let absolute = column().map(f64::abs).sum::<f64>();
                let squares = column().map(|v| v * v).sum::<f64>();
                let slack = if kind == Fill::Integers { 0.0 } else { (pixels.min(256) + 2) as f64 * U };
                let error = (sums[k] - column().sum::<f64>()).abs();
                assert!(error <= slack * absolute, "{} of {case:?}, channel {k}", what("sum"));
                let error = (sums[g.k + k] - squares).abs();
                assert!(error <= slack * squares, "{} of {case:?}, channel {k}", what("sum of squares"));
            }
        }
        for algorithm in pick(Pass::Dgrad, case) {
            let what = |name: &str| format!("{algorithm:?} {kind:?}: {name}");
            let terms = g.r * g.r * g.k;
            let got = device.dgrad(algorithm, case, &inputs, false);
            close(&what("dx"), case, &got, &dx, |i| storing(kind, dx[i], summing(kind, terms, abs_dx[i])));
            let got = device.dgrad(algorithm, case, &inputs, true);
            let before = |i: usize| f64::from(inputs.before[i]);
            let want: Vec<f64> = dx.iter().enumerate().map(|(i, v)| v + before(i)).collect();
            close(&what("dx accumulated"), case, &got, &want, |i| {
                storing(kind, want[i], summing(kind, terms + 1, abs_dx[i] + before(i).abs()))
            });
        }
        for algorithm in pick(Pass::Wgrad, case) {
            // The number of its choice, some of all, and all, which are not split.
            for steps in [None, Some(3), Some(pixels.div_ceil(32))] {
                let got = device.wgrad(algorithm, steps, case, &inputs);
                close(&format!("{algorithm:?} {steps:?} {kind:?}: dfilter"), case, &got, &dfilter, |i| {
                    summing(kind, pixels, abs_dfilter[i])
                });
            }
        }
    }
}

fn all(pass: Pass, case: &Case) -> Vec<Algorithm> {
    pass.algorithms(&case.conv, case.at)
}

fn chosen(pass: Pass, case: &Case) -> Vec<Algorithm> {
    vec![pass.algorithm(&case.conv, case.at)]
}

/// Through the trait, at fewer images than were reserved for.
fn fewer_images<D: Driver>(mut b: Cuda<D>) {
    let most = case(9, (6, 5), (16, 72), S2, 8);
    b.reserve(Cuda::<D>::conv_scratch(&most.conv, Work::Train)).unwrap();
    for n in [9, 4, 1] {
        let case = Case { conv: Conv { n, ..most.conv }, ..most };
        let g = &case.conv;
        let inputs = Inputs::new(Fill::Integers, g);
        let want = direct(g, &inputs, |v| v);
        let exact = |_: usize| 0.0;
        let room = most.conv.inputs() - g.inputs();
        let (x, dy) =
            (tensor(&b, &inputs.x, room), tensor(&b, &inputs.dy, most.conv.outputs() - g.outputs()));
        let (mut y, mut dx) = (poisoned(&b, most.conv.outputs()), poisoned(&b, most.conv.inputs()));
        let weights = b.upload_weights(&flat(&case, &inputs.filter)).unwrap();
        let mut gradients = b.vector(&flat(&case, &inputs.filter)).unwrap();
        let filter = case.at..case.at + inputs.filter.len();
        let read = || In { vector: &weights, at: filter.clone() };
        b.conv_fprop(g, ConvFprop { x: &x, filter: read(), y: &mut y, sums: None }).unwrap();
        b.conv_dgrad(g, ConvDgrad { dy: &dy, filter: read(), dx: &mut dx, accumulate: false }).unwrap();
        let into = Out::Gradients(&mut gradients);
        b.conv_wgrad(g, ConvWgrad { x: &x, dy: &dy, filter: filter.clone(), into }).unwrap();
        close("y", &case, &front(&b, &y, g.outputs(), most.conv.outputs(), "y"), &want[0], exact);
        close("dx", &case, &front(&b, &dx, g.inputs(), most.conv.inputs(), "dx"), &want[1], exact);
        close("dfilter", &case, &b.read(&gradients).unwrap()[filter], &want[2], exact);
    }
}

/// Every result's bits, of some cases.
fn bits<D: Driver>(backend: Cuda<D>) -> Vec<u32> {
    let mut device = Device { backend };
    let cases = [case(2, (5, 7), (3, 10), S1, 0), case(3, (11, 5), (16, 72), S2, 8)];
    let mut bits = vec![];
    for case in cases {
        device.backend.reserve(Cuda::<D>::conv_scratch(&case.conv, Work::Train)).unwrap();
        let inputs = Inputs::new(Fill::Normals, &case.conv);
        for algorithm in all(Pass::Fprop, &case) {
            let (y, sums) = device.fprop(algorithm, &case, &inputs);
            bits.extend(y.iter().map(|v| v.to_bits()));
            bits.extend(sums.iter().flat_map(|v| [v.to_bits() as u32, (v.to_bits() >> 32) as u32]));
        }
        for algorithm in all(Pass::Dgrad, &case) {
            bits.extend(device.dgrad(algorithm, &case, &inputs, true).iter().map(|v| v.to_bits()));
        }
        for algorithm in all(Pass::Wgrad, &case) {
            bits.extend(device.wgrad(algorithm, None, &case, &inputs).iter().map(|v| v.to_bits()));
        }
    }
    bits
}

#[test]
fn small_integers_emulated() {
    compare(emulated(), Fill::Integers, &cases(), all);
}

#[test]
fn small_integers_cuda() {
    on_gpu(|cuda| compare(cuda(), Fill::Integers, &cases(), all));
}

#[test]
fn normals_emulated() {
    compare(emulated(), Fill::Normals, &cases(), all);
}

#[test]
fn normals_cuda() {
    on_gpu(|cuda| compare(cuda(), Fill::Normals, &cases(), all));
}

#[test]
fn layers_of_the_networks_emulated() {
    compare(emulated(), Fill::Integers, &layers(), chosen);
}

#[test]
fn layers_of_the_networks_cuda() {
    on_gpu(|cuda| compare(cuda(), Fill::Integers, &layers(), chosen));
}

/// A layer of 2^31 activations is refused, and one of an image less is not.
fn too_many_to_count<D: Driver>(mut b: Cuda<D>) {
    let most = case(1 << 15, (32, 32), (8, 64), S1, 0).conv;
    let fewer = Conv { n: most.n - 1, ..most };
    let scratch = |conv, work| Cuda::<D>::conv_scratch(&conv, work);
    let both = scratch(fewer, Work::Train).or(scratch(most, Work::Train));
    let refused = [b.reserve(both), b.reserve(scratch(most, Work::Score))];
    for error in refused.map(|result| result.unwrap_err().to_string()) {
        assert!(error.contains("has 2147483648 activations, and the kernels count 2147483647"), "{error}");
    }
    b.reserve(Cuda::<D>::conv_scratch(&fewer, Work::Train)).unwrap();
}

on_cuda_devices!(too_many_to_count);

#[test]
fn fewer_images_than_reserved_emulated() {
    fewer_images(emulated());
}

#[test]
fn fewer_images_than_reserved_cuda() {
    on_gpu(|cuda| fewer_images(cuda()));
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
fn layers_get_the_tile_that_fills_a_device() {
    let algorithms = |c, k, size, geometry| {
        let conv = case(512, (size, size), (c, k), geometry, 0).conv;
        [Pass::Fprop, Pass::Dgrad, Pass::Wgrad].map(|pass| pass.algorithm(&conv, 0))
    };
    let [large, square, tall, small] =
        [Tile::T256x128, Tile::T128x128, Tile::T256x64, Tile::T64x64].map(Tensor);
    let few = Tensor(Tile::T64x128);
    assert_eq!(algorithms(3, 64, 32, S1), [Gather, Analytic, Gather]);
    assert_eq!(algorithms(64, 128, 32, S1), [square, tall, square]);
    assert_eq!(algorithms(128, 128, 16, S1), [large, large, square]);
    assert_eq!(algorithms(256, 512, 8, S1), [large, large, large]);
    assert_eq!(algorithms(512, 512, 4, S1), [large, large, large]);
    assert_eq!(algorithms(64, 64, 16, S1), [tall, tall, few]);
    assert_eq!(algorithms(64, 128, 16, S2), [square, tall, square]);
    assert_eq!(algorithms(256, 256, 4, S1), [square, square, large]);
    assert_eq!(algorithms(512, 512, 2, S1), [small, small, large]);
    assert_eq!(algorithms(128, 256, 8, SHORTCUT), [square, square, large]);
    // A filter that does not begin at a multiple of 8, and channels that are none.
    let conv = case(512, (16, 16), (64, 64), S1, 0).conv;
    assert_eq!(
        [Pass::Fprop, Pass::Dgrad, Pass::Wgrad].map(|p| p.algorithm(&conv, 4)),
        [Gather, Analytic, few]
    );
    let odd = Conv { c: 12, ..conv };
    assert_eq!(
        [Pass::Fprop, Pass::Dgrad, Pass::Wgrad].map(|p| p.algorithm(&odd, 0)),
        [Gather, Analytic, Gather]
    );
}

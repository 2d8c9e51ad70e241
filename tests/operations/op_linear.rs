//! The linear layer with its constant, forward and backward.

use crate::support::device::{Probe, Tolerance, U, front, half, largest, on_every_device, poisoned, tensor};
use crate::support::fixture::Fixture;
use crate::support::reference::{Tape, Tensor};
use crate::support::{assert_close, integers, normals};
use fishmask::ops::{Linear, LinearBackward, LinearForward, LinearParameters, Out};

/// What stands around the parts of a flat vector that an operation may write.
const FENCE: f32 = 7.5;

/// (N, C, K): small, ragged, and the networks' own.
const SHAPES: [[usize; 3]; 5] = [[3, 7, 10], [1, 16, 3], [5, 67, 1], [33, 20, 13], [17, 512, 10]];

struct Case {
    linear: Linear,
    x: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    dy: Tensor,
}

struct Outputs {
    y: Tensor,
    dx: Tensor,
    dweight: Tensor,
    dbias: Option<Tensor>,
}

fn reference(case: &Case) -> Outputs {
    let mut tape = Tape::default();
    let (x, weight) = (tape.leaf(&case.x), tape.leaf(&case.weight));
    let bias = case.bias.as_ref().map(|b| tape.leaf(b));
    let y = tape.linear(x, weight, bias);
    let y = tape.scale(y, f64::from(case.linear.scale));
    let gradients = tape.backward(y, &case.dy);
    let [dx, dweight] = [x, weight].map(|v| gradients.of(v).clone());
    Outputs { y: tape.value(y).clone(), dx, dweight, dbias: bias.map(|b| gradients.of(b).clone()) }
}

/// Bounds of y, dx, dweight and dbias: a sum of m products is off by at most (m + 2) u times m times the
/// largest product, however it is ordered.
fn bounds(case: &Case) -> [f64; 4] {
    let Linear { n, c, k, scale } = case.linear;
    let [x, weight, dy] = [&case.x, &case.weight, &case.dy].map(|t| largest(&t.data));
    let bias = case.bias.as_ref().map_or(0.0, |b| largest(&b.data));
    let sum = |m: usize, term: f64| f64::from(scale) * (m + 2) as f64 * U * (m as f64 * term);
    [sum(c, x * weight + bias), sum(k, dy * weight), sum(n, dy * x), sum(n, dy)]
}

/// Runs the case in buffers for one more image, its parameters inside a longer flat vector.
fn check_case<B: Probe>(
    backend: &mut B,
    case: &Case,
    expected: &Outputs,
    bound: [f64; 4],
    storage: Tolerance,
) {
    let linear = case.linear;
    let Linear { n, c, k, .. } = linear;
    let what = format!("{linear:?}, bias {}", case.bias.is_some());
    let weight = 3..3 + k * c;
    let bias = case.bias.is_some().then(|| weight.end + 2..weight.end + 2 + k);
    let mut flat = vec![FENCE; weight.end + k + 5];
    flat[weight.clone()].copy_from_slice(&case.weight.f32s());
    if let (Some(at), Some(values)) = (&bias, &case.bias) {
        flat[at.clone()].copy_from_slice(&values.f32s());
    }
    let weights = backend.vector(&flat).unwrap();
    let x = tensor(backend, &case.x.f32s(), c);
    let mut y = poisoned(backend, (n + 1) * k);
    let parameters = LinearParameters { weight: weight.clone(), bias: bias.clone() };
    let buffers = LinearForward { x: &x, weights: &weights, parameters: &parameters, y: &mut y };
    backend.linear_forward(&linear, buffers).unwrap();
    let y = front(backend, &y, n * k, (n + 1) * k, &what);
    let close = |found: &[f32], expected: &Tensor, bound: f64, stored: bool, name: &str| {
        let (abs, rel) = if stored { (bound + storage.tiny, storage.storage) } else { (bound, 0.0) };
        assert_close(found, &expected.data, abs, rel, &format!("{name}, {what}"));
    };
    close(&y, &expected.y, bound[0], true, "y");

    let dy = tensor(backend, &case.dy.f32s(), k);
    let mut dx = poisoned(backend, (n + 1) * c);
    let mut gradients = backend.vector(&vec![FENCE; flat.len()]).unwrap();
    let buffers = LinearBackward {
        x: &x,
        dy: &dy,
        weights: &weights,
        parameters: &parameters,
        dx: &mut dx,
        into: Out::Gradients(&mut gradients),
    };
    backend.linear_backward(&linear, buffers).unwrap();
    close(&front(backend, &dx, n * c, (n + 1) * c, &what), &expected.dx, bound[1], true, "dx");
    let gradients = backend.read(&gradients).unwrap();
    close(&gradients[weight.clone()], &expected.dweight, bound[2], false, "dweight");
    if let (Some(at), Some(dbias)) = (&bias, &expected.dbias) {
        close(&gradients[at.clone()], dbias, bound[3], false, "dbias");
    }
    let written = |i: usize| weight.contains(&i) || bias.as_ref().is_some_and(|b| b.contains(&i));
    assert!((0..flat.len()).all(|i| written(i) || gradients[i] == FENCE), "{what}: wrote outside its ranges");
    assert_eq!(backend.read(&weights).unwrap(), flat, "{what}: its weights changed");
}

fn cases(fill: impl Fn(&[usize], u64) -> Tensor) -> Vec<Case> {
    let mut cases = vec![];
    for [n, c, k] in SHAPES {
        for (scale, with_bias) in [(1.0, true), (1.0, false), (0.125, false), (0.125, true)] {
            let bias = with_bias.then(|| fill(&[k], 3));
            let (x, weight, dy) = (fill(&[n, c], 1), fill(&[k, c], 2), fill(&[n, k], 4));
            cases.push(Case { linear: Linear { n, c, k, scale }, x, weight, bias, dy });
        }
    }
    cases
}

/// Sums of 512 products up to 9 and an eighth of them are exact in f32.
fn integers_exactly<B: Probe>(mut backend: B) {
    let storage =
        if B::TOLERANCE.storage == U { Tolerance { storage: 0.0, tiny: 0.0 } } else { B::TOLERANCE };
    for case in cases(|shape, seed| integers(shape, 3, seed)) {
        check_case(&mut backend, &case, &reference(&case), [0.0; 4], storage);
    }
}

fn normals_against_f64<B: Probe>(mut backend: B) {
    for case in cases(|shape, seed| half(normals(shape, seed))) {
        check_case(&mut backend, &case, &reference(&case), bounds(&case), B::TOLERANCE);
    }
}

fn fixture<B: Probe>(mut backend: B) {
    let file = Fixture::open("ops");
    let of = |key: &str| file.tensor(&format!("linear.{key}")).clone();
    let ([n, c], [k, _]) = (of("x").dims(), of("w").dims());
    let linear = Linear { n, c, k, scale: 1.0 };
    let case = Case { linear, x: of("x"), weight: of("w"), bias: Some(of("b")), dy: of("dy") };
    let expected = Outputs { y: of("y"), dx: of("dx"), dweight: of("dw"), dbias: Some(of("db")) };
    // The file's x and dy are f32: f16 storage rounds each of the terms once more.
    let coarse = B::TOLERANCE.storage / U;
    check_case(&mut backend, &case, &expected, bounds(&case).map(|b| b * coarse), B::TOLERANCE);
}

on_every_device!(integers_exactly, normals_against_f64, fixture);

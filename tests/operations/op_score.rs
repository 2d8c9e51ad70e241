//! Scores of convolutions and of the linear layer, and the gradients of each image's own loss, against the
//! f64 reference, one sample at a time.

use crate::support::conv::{S1, S2, SHORTCUT, conv};
use crate::support::device::{Probe, Tolerance, U, front, half, largest, on_every_device, poisoned, tensor};
use crate::support::norm::FENCE;
use crate::support::reference::{Tape, Tensor};
use crate::support::score::{POWERS, Scores};
use crate::support::{assert_close, channels_last, integers, labels, normals, on_threads};
use fishmask::device::{Buffers, Cpu};

use fishmask::ops::{
    Conv, ConvOps, ConvWgrad, Linear, LinearBackward, LinearOps, LinearParameters, Loss, Out, Power,
    ScoreGradient, ScoredClass, Totals, Work,
};

/// Pairwise distinct dimensions, ragged channels on both sides, images of one pixel and of 32 columns, and
/// every kind of layer of the networks.
fn convs() -> Vec<Conv> {
    vec![
        conv(3, (5, 7), (6, 9), S1),
        conv(2, (8, 6), (5, 11), S2),
        conv(4, (9, 7), (19, 6), SHORTCUT),
        conv(3, (8, 10), (24, 40), SHORTCUT),
        conv(2, (11, 13), (3, 10), S1),
        conv(7, (1, 1), (18, 5), S1),
        conv(5, (2, 3), (33, 7), S1),
        conv(9, (2, 2), (130, 68), S1),
        conv(3, (4, 4), (64, 72), S1),
        conv(2, (4, 6), (48, 32), S2),
        conv(1, (32, 32), (3, 16), S1),
        conv(2, (16, 32), (16, 24), S1),
        conv(2, (5, 6), (4, 48), S1),
        conv(2, (7, 5), (4, 13), (1, 1, 0)),
        conv(1, (9, 8), (2, 3), (5, 3, 2)),
    ]
}

/// Image `i` of a batch.
fn image(t: &Tensor, i: usize) -> Tensor {
    let size = t.data.len() / t.shape[0];
    Tensor::new(&[&[1], &t.shape[1..]].concat(), t.data[i * size..(i + 1) * size].to_vec())
}

/// The filter's gradient [K,C,R,R] by one sample.
fn filter_gradient(conv: &Conv, x: &Tensor, dy: &Tensor) -> Tensor {
    let mut tape = Tape::default();
    let filter = Tensor::zeros(&[conv.k, conv.c, conv.r, conv.r]);
    let (x, filter) = (tape.leaf(x), tape.leaf(&filter));
    let y = tape.conv2d(x, filter, conv.stride, conv.pad);
    tape.backward(y, dy).of(filter).clone()
}

fn absolute(t: &Tensor) -> Tensor {
    Tensor { data: t.data.iter().map(|v| v.abs()).collect(), shape: t.shape.clone() }
}

/// Scores of all images and then of all but the last, in buffers for one more, into a part of a longer vector
/// that is not zero before.
///
/// A gradient is a sum of P Q products, off by (P Q + 2) v times their magnitudes' sum; v = 2 u on tensor
/// cores, which may truncate (see `op_conv_kernels.rs`).
fn check_conv<B: Probe>(backend: &mut B, conv: &Conv, x: &Tensor, dy: &Tensor, exact: bool) {
    let n = conv.n;
    let (input, output) = (conv.inputs() / n, conv.outputs() / n);
    let (xs, dys) = (tensor(backend, &channels_last(x), input), tensor(backend, &channels_last(dy), output));
    let at = 5..5 + conv.k * conv.c * conv.r * conv.r;
    let roundoff = if B::TOLERANCE.storage == U { U } else { 2.0 * U };
    let roundoff = (conv.p() * conv.q() + 2) as f64 * roundoff;
    let gradients: Vec<_> = (0..n)
        .map(|i| {
            let (x, dy) = (image(x, i), image(dy, i));
            (filter_gradient(conv, &x, &dy), filter_gradient(conv, &absolute(&x), &absolute(&dy)))
        })
        .collect();
    backend.reserve(B::conv_scratch(&Conv { n: n + 1, ..*conv }, Work::Score)).unwrap();
    for power in POWERS {
        let mut flat = vec![FENCE; at.end + 3];
        for (i, v) in flat[at.clone()].iter_mut().enumerate() {
            *v = (i % 5) as f32;
        }
        let mut expected = Scores::new(power, &flat[at.clone()]);
        let mut scores = backend.vector(&flat).unwrap();
        for images in [n, n - 1] {
            if images == 0 {
                continue;
            }
            let conv = Conv { n: images, ..*conv };
            let (filter, into) = (at.clone(), Out::Scores(power, &mut scores));
            backend.conv_wgrad(&conv, ConvWgrad { x: &xs, dy: &dys, filter, into }).unwrap();
            for (gradient, terms) in &gradients[..images] {
                expected.add(&gradient.data, |i| roundoff * terms.data[i]);
            }
            let what = format!("{power:?} of {conv:?}");
            let found = backend.read(&scores).unwrap();
            expected.check(&found[at.clone()], exact, &what);
            assert!((0..found.len()).all(|i| at.contains(&i) || found[i] == FENCE), "{what}: wrote outside");
        }
    }
}

/// A gradient of up to 1,024 products up to 4 in magnitude, its square, and the sum of those are exact.
fn convs_on_integers<B: Probe>(mut backend: B) {
    for (seed, conv) in convs().into_iter().enumerate() {
        let Conv { n, h, w, c, k, .. } = conv;
        let x = integers(&[n, c, h, w], 2, seed as u64);
        let dy = integers(&[n, k, conv.p(), conv.q()], 2, seed as u64 + 50);
        check_conv(&mut backend, &conv, &x, &dy, true);
    }
}

fn convs_on_normals<B: Probe>(mut backend: B) {
    for (seed, conv) in convs().into_iter().enumerate() {
        let Conv { n, h, w, c, k, .. } = conv;
        let x = half(normals(&[n, c, h, w], seed as u64));
        let dy = half(normals(&[n, k, conv.p(), conv.q()], seed as u64 + 50));
        check_conv(&mut backend, &conv, &x, &dy, false);
    }
}

/// Not one of the images' sum: a sample and its opposite do not cancel.
fn opposites_by_hand<B: Probe>(mut backend: B) {
    let conv = conv(2, (1, 1), (1, 1), (1, 1, 0));
    let (x, dy) = (tensor(&backend, &[3.0, 3.0], 0), tensor(&backend, &[2.0, -2.0], 0));
    backend.reserve(B::conv_scratch(&conv, Work::Score)).unwrap();
    for (power, expected) in [(Power::Square, 73.0), (Power::Absolute, 13.0)] {
        let mut scores = backend.vector(&[1.0]).unwrap();
        let into = Out::Scores(power, &mut scores);
        backend.conv_wgrad(&conv, ConvWgrad { x: &x, dy: &dy, filter: 0..1, into }).unwrap();
        assert_eq!(backend.read(&scores).unwrap(), [expected], "{power:?}");
    }
}

/// (N, C, K), with and without a bias: dx as linear_backward's, and scores of both. A gradient is two
/// products: 3 u off.
fn check_linear<B: Probe>(
    backend: &mut B,
    linear: Linear,
    [x, weight, dy]: [&Tensor; 3],
    with_bias: bool,
    exact: bool,
) {
    let Linear { n, c, k, scale } = linear;
    let at = 3..3 + k * c;
    let bias = with_bias.then(|| at.end + 2..at.end + 2 + k);
    let mut flat = vec![FENCE; at.end + k + 5];
    flat[at.clone()].copy_from_slice(&weight.f32s());
    let weights = backend.vector(&flat).unwrap();
    let (xs, dys) = (tensor(backend, &x.f32s(), c), tensor(backend, &dy.f32s(), k));
    for power in POWERS {
        let what = format!("{power:?} of {linear:?}, bias {with_bias}");
        let before: Vec<f32> = (0..flat.len()).map(|i| (i % 7) as f32).collect();
        let mut scores = backend.vector(&before).unwrap();
        let mut dx = poisoned(backend, (n + 1) * c);
        let buffers = LinearBackward {
            x: &xs,
            dy: &dys,
            weights: &weights,
            parameters: &LinearParameters { weight: at.clone(), bias: bias.clone() },
            dx: &mut dx,
            into: Out::Scores(power, &mut scores),
        };
        backend.linear_backward(&linear, buffers).unwrap();
        let dx = front(backend, &dx, n * c, (n + 1) * c, &what);
        let found = backend.read(&scores).unwrap();
        let mut expected = Scores::new(power, &before[at.clone()]);
        let mut expected_bias = Scores::new(power, bias.as_ref().map_or(&[], |at| &before[at.clone()]));
        let mut expected_dx = vec![];
        for i in 0..n {
            let mut tape = Tape::default();
            let [x, weight] = [&image(x, i), weight].map(|t| tape.leaf(t));
            let bias = tape.leaf(&Tensor::zeros(&[k]));
            let y = tape.linear(x, weight, Some(bias));
            let y = tape.scale(y, f64::from(scale));
            let gradients = tape.backward(y, &image(dy, i));
            expected_dx.extend(&gradients.of(x).data);
            let gradient = &gradients.of(weight).data;
            expected.add(gradient, |i| 3.0 * U * gradient[i].abs());
            if with_bias {
                let gradient = &gradients.of(bias).data;
                expected_bias.add(gradient, |i| 3.0 * U * gradient[i].abs());
            }
        }
        expected.check(&found[at.clone()], exact, &format!("weight, {what}"));
        if let Some(at) = &bias {
            expected_bias.check(&found[at.clone()], exact, &format!("bias, {what}"));
        }
        let written = |i: &usize| at.contains(i) || bias.as_ref().is_some_and(|b| b.contains(i));
        let outside = (0..flat.len()).filter(|i| !written(i));
        assert!(outside.into_iter().all(|i| found[i] == before[i]), "{what}: wrote outside");
        // As op_linear.rs derives it.
        let terms = k as f64 * largest(&weight.data) * largest(&dy.data);
        let sum = f64::from(scale.abs()) * (k + 2) as f64 * U * terms;
        let Tolerance { storage, tiny } = B::TOLERANCE;
        let (abs, rel) = if exact && storage == U { (0.0, 0.0) } else { (sum + tiny, storage) };
        assert_close(&dx, &expected_dx, abs, rel, &format!("dx, {what}"));
    }
}

fn linears<B: Probe>(mut backend: B) {
    for (seed, [n, c, k]) in [[3, 7, 10], [1, 16, 3], [5, 67, 1], [17, 512, 10]].into_iter().enumerate() {
        for (scale, with_bias) in [(1.0, true), (0.125, false), (-0.125, true)] {
            let linear = Linear { n, c, k, scale };
            let seed = 10 * seed as u64;
            let fill = |shape: &[usize], i: u64| integers(shape, 3, seed + i);
            let [x, weight, dy] = [fill(&[n, c], 1), fill(&[k, c], 2), fill(&[n, k], 3)];
            check_linear(&mut backend, linear, [&x, &weight, &dy], with_bias, true);
            let fill = |shape: &[usize], i: u64| half(normals(shape, seed + i));
            let [x, weight, dy] = [fill(&[n, c], 1), fill(&[k, c], 2), fill(&[n, k], 3)];
            check_linear(&mut backend, linear, [&x, &weight, &dy], with_bias, false);
        }
    }
}

/// softmax - target, times the probability's root or the probability itself where the target is a class;
/// every probability is known to 16 u of the largest logit (see `op_loss.rs`). Totals stay.
fn loss_gradients<B: Probe>(mut backend: B) {
    for (seed, (n, classes)) in [(1, 10), (7, 10), (5, 3), (66, 10), (3, 33)].into_iter().enumerate() {
        let seed = seed as u64;
        let labels = labels(n, classes as u32, seed);
        let bytes: Vec<u8> = labels.iter().map(|&l| l as u8).chain([255]).collect();
        let mut on_device = backend.bytes(n + 1).unwrap();
        backend.write_bytes(&bytes, &mut on_device).unwrap();
        let before = Totals { loss: 3.5, correct: 2, images: 9 };
        backend.set_totals(before).unwrap();
        for (spread, smoothing) in [(1.0, 0.0), (6.0, 0.0), (1.0, 0.2_f32)] {
            let mut logits = normals(&[n, classes], seed + 9);
            logits.data.iter_mut().for_each(|v| *v *= spread);
            let logits = half(logits);
            let x = tensor(&backend, &logits.f32s(), classes);
            let loss = Loss { n, classes, smoothing };
            let last = classes - 1;
            for target in [
                ScoredClass::Label,
                ScoredClass::Number(0),
                ScoredClass::Number(1),
                ScoredClass::Number(last),
            ] {
                for power in POWERS {
                    let what = format!("{target:?}, {power:?}, {loss:?}");
                    let mut dx = poisoned(&backend, (n + 1) * classes);
                    let buffers = ScoreGradient {
                        power,
                        class: target,
                        logits: &x,
                        labels: &on_device,
                        dlogits: &mut dx,
                    };
                    backend.score_gradient(&loss, buffers).unwrap();
                    let dx = front(&backend, &dx, n * classes, (n + 1) * classes, &what);
                    let mut expected = vec![];
                    for (row, &label) in logits.data.chunks(classes).zip(&labels) {
                        let class = if let ScoredClass::Number(class) = target { class } else { label };
                        let sum: f64 = row.iter().map(|v| v.exp()).sum();
                        let factor = match (target, power) {
                            (ScoredClass::Label, _) => 1.0,
                            (_, Power::Square) => (row[class].exp() / sum).sqrt(),
                            (_, Power::Absolute) => row[class].exp() / sum,
                        };
                        let smoothing = f64::from(smoothing);
                        let on = |i: usize| if i == class { 1.0 - smoothing } else { 0.0 };
                        let wanted = |i: usize| smoothing / classes as f64 + on(i);
                        let gradient = |(i, v): (usize, &f64)| factor * (v.exp() / sum - wanted(i));
                        expected.extend(row.iter().enumerate().map(gradient));
                    }
                    let Tolerance { storage, tiny } = B::TOLERANCE;
                    let bound = 16.0 * U * (1.0 + largest(&logits.data)) + tiny;
                    assert_close(&dx, &expected, bound, storage, &what);
                }
            }
        }
        assert_eq!(backend.totals().unwrap(), before, "totals changed");
        assert_eq!(backend.fault().unwrap(), None);
    }
}

/// Ten classes' gradients, weighted, are what `expect` sums: of two equal logits each counts half.
fn expectation_by_hand<B: Probe>(mut backend: B) {
    let loss = Loss { n: 1, classes: 2, smoothing: 0.0 };
    let (x, label) = (tensor(&backend, &[0.0, 0.0], 0), backend.bytes(1).unwrap());
    let mut dx = poisoned(&backend, 2);
    for (class, sign) in [(0, -1.0), (1, 1.0)] {
        for (power, factor) in [(Power::Square, 0.5_f64.sqrt()), (Power::Absolute, 0.5)] {
            let (logits, labels, dlogits) = (&x, &label, &mut dx);
            let class = ScoredClass::Number(class);
            backend.score_gradient(&loss, ScoreGradient { power, class, logits, labels, dlogits }).unwrap();
            let found = backend.read_tensor(&dx, 2).unwrap();
            let expected = [sign * 0.5 * factor, -sign * 0.5 * factor];
            assert_close(&found, &expected, 0.0, 2.0 * U + B::TOLERANCE.storage, "by hand");
        }
    }
}

fn clears<B: Probe>(mut backend: B) {
    let mut vector = backend.vector(&[1.0, f32::NAN, -3.0, f32::INFINITY, 5.0]).unwrap();
    backend.clear(&mut vector).unwrap();
    let bits: Vec<u32> = backend.read(&vector).unwrap().iter().map(|v| v.to_bits()).collect();
    assert_eq!(bits, [0; 5]);
}

/// More images than are packed at a time.
#[test]
fn many_images_cpu() {
    let conv = conv(60, (32, 31), (3, 5), S1);
    let (x, dy) = (integers(&[60, 3, 32, 31], 2, 1), integers(&[60, 5, 32, 31], 2, 2));
    check_conv(&mut Cpu::new(), &conv, &x, &dy, true);
}

/// Scores of every convolution after two batches, and of a linear layer.
fn some_scores() -> Vec<Vec<f32>> {
    let mut cpu = Cpu::new();
    let mut all = vec![];
    for (seed, conv) in convs().into_iter().chain([conv(100, (9, 8), (40, 20), S1)]).enumerate() {
        let Conv { n, h, w, c, k, .. } = conv;
        let x = channels_last(&normals(&[n, c, h, w], seed as u64));
        let dy = channels_last(&normals(&[n, k, conv.p(), conv.q()], seed as u64 + 50));
        let mut scores = vec![0.0; k * c * conv.r * conv.r];
        cpu.reserve(Cpu::conv_scratch(&conv, Work::Score)).unwrap();
        for _ in 0..2 {
            let all = 0..scores.len();
            let into = Out::Scores(Power::Square, &mut scores);
            cpu.conv_wgrad(&conv, ConvWgrad { x: &x, dy: &dy, filter: all, into }).unwrap();
        }
        all.push(scores);
    }
    let linear = Linear { n: 20, c: 300, k: 13, scale: 0.5 };
    let (x, dy) = (normals(&[20, 300], 1).f32s(), normals(&[20, 13], 2).f32s());
    let weights = normals(&[13, 301], 3).f32s();
    let (mut dx, mut scores) = (vec![0.0; 20 * 300], vec![0.0; 13 * 301]);
    let buffers = LinearBackward {
        x: &x,
        dy: &dy,
        weights: &weights,
        parameters: &LinearParameters { weight: 0..13 * 300, bias: Some(13 * 300..13 * 301) },
        dx: &mut dx,
        into: Out::Scores(Power::Absolute, &mut scores),
    };
    cpu.linear_backward(&linear, buffers).unwrap();
    all.extend([dx, scores]);
    all
}

#[test]
fn the_same_bits_with_any_number_of_threads_cpu() {
    let [one, two, three] = [1, 2, 3].map(|threads| on_threads(threads, some_scores));
    assert!(one == two && one == three && one.iter().flatten().all(|v| v.is_finite()));
}

/// As much as the widest networks' batches need stays small beside their activations.
#[test]
fn scratch_does_not_grow_with_the_batch_cpu() {
    let widest = |n| {
        [(32, 64, 128), (8, 256, 512), (4, 512, 512)].map(|(side, c, k)| conv(n, (side, side), (c, k), S1))
    };
    let scratch = |n| widest(n).iter().map(|conv| Cpu::conv_scratch(conv, Work::Score)).collect();
    let bytes = |n| Cpu::scratch_bytes(scratch(n));
    assert!(bytes(512) < 128 << 20, "{} bytes", bytes(512));
    // Only the forward pass's partial sums do: two f64 a channel and image.
    assert!(bytes(1024) - bytes(512) <= 512 * 2 * 512 * 8, "{} and {} bytes", bytes(512), bytes(1024));
}

on_every_device!(
    convs_on_integers,
    convs_on_normals,
    opposites_by_hand,
    linears,
    loss_gradients,
    expectation_by_hand,
    clears
);

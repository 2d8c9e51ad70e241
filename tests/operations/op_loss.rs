//! Softmax cross-entropy: loss, gradient, accuracy, totals.

use crate::support::device::{Probe, Tolerance, U, front, half, largest, on_every_device, poisoned, tensor};
use crate::support::fixture::Fixture;
use crate::support::reference::{Tape, Tensor};
use crate::support::{assert_close, integers, labels, normals};
use fishmask::device::{Fault, Place};
use fishmask::ops::{Loss, Totals};

/// Bytes holding labels and, behind them, one that no class has.
fn label_bytes<B: Probe>(backend: &B, labels: &[usize]) -> B::Bytes {
    let values: Vec<u8> = labels.iter().map(|&l| l as u8).chain([255]).collect();
    let mut bytes = backend.bytes(values.len()).unwrap();
    backend.write_bytes(&values, &mut bytes).unwrap();
    bytes
}

/// What one batch adds to cleared totals, and its gradient.
fn run<B: Probe>(backend: &mut B, logits: &Tensor, labels: &[usize], smoothing: f32) -> (Totals, Vec<f32>) {
    let [n, classes] = logits.dims();
    let loss = Loss { n, classes, smoothing };
    let what = format!("{loss:?}");
    let x = tensor(backend, &logits.f32s(), classes);
    let y = label_bytes(backend, labels);
    let mut dx = poisoned(backend, (n + 1) * classes);
    backend.set_totals(Totals::default()).unwrap();
    backend.softmax_cross_entropy(&loss, &x, &y, None).unwrap();
    let alone = backend.totals().unwrap();
    backend.set_totals(Totals::default()).unwrap();
    backend.softmax_cross_entropy(&loss, &x, &y, Some(&mut dx)).unwrap();
    let totals = backend.totals().unwrap();
    // Bits, so that NaN equals NaN.
    let key = |t: Totals| (t.loss.to_bits(), t.correct, t.images);
    assert_eq!(key(alone), key(totals), "{what}: the gradient changes the totals");
    (totals, front(backend, &dx, n * classes, (n + 1) * classes, &what))
}

/// The loss of one image is a logarithm of a sum and a few products, in f32 or better: 16 u (|loss| + largest
/// logit). A probability is the exponential of a difference known to 4 u of the largest logit.
fn check<B: Probe>(
    backend: &mut B,
    logits: &Tensor,
    labels: &[usize],
    smoothing: f32,
    expected: (f64, usize, &Tensor),
    coarse: f64,
) {
    let what = format!("{:?}, smoothing {smoothing}", logits.shape);
    let (totals, dx) = run(backend, logits, labels, smoothing);
    let (loss, correct, gradient) = expected;
    let size = 1.0 + largest(&logits.data);
    let bound = 16.0 * coarse * (loss.abs() + labels.len() as f64 * size);
    assert_close(&[totals.loss], &[loss], bound, 0.0, &format!("loss of {what}"));
    assert_eq!((totals.correct, totals.images), (correct as u64, labels.len() as u64), "{what}");
    let Tolerance { storage, tiny } = B::TOLERANCE;
    let bound = 16.0 * coarse * size + tiny;
    assert_close(&dx, &gradient.data, bound, storage, &format!("gradient of {what}"));
}

fn against_f64<B: Probe>(mut backend: B) {
    for (seed, (n, classes)) in
        [(1, 10), (7, 10), (64, 10), (5, 3), (6, 67), (1100, 2), (3, 1)].into_iter().enumerate()
    {
        let seed = seed as u64;
        let labels = labels(n, classes as u32, seed);
        for spread in [1.0, 8.0] {
            let mut logits = normals(&[n, classes], seed + 9);
            logits.data.iter_mut().for_each(|v| *v *= spread);
            // Integers too: equal largest logits, of which the first one counts.
            for logits in [half(logits), integers(&[n, classes], 1, seed)] {
                for smoothing in [0.0, 0.2_f32, 1.0] {
                    let mut tape = Tape::default();
                    let leaf = tape.leaf(&logits);
                    let (loss, correct) = tape.cross_entropy(leaf, &labels, f64::from(smoothing));
                    let gradients = tape.backward(loss, &Tensor::new(&[1], vec![1.0]));
                    let expected = (tape.value(loss).data[0], correct, gradients.of(leaf));
                    check(&mut backend, &logits, &labels, smoothing, expected, U);
                }
            }
        }
    }
}

fn fixtures<B: Probe>(mut backend: B) {
    let file = Fixture::open("ops");
    for (case, smoothing) in [("cross_entropy", 0.0), ("cross_entropy_smoothed", 0.2)] {
        let of = |key: &str| format!("{case}.{key}");
        let (x, labels) = (file.tensor(&of("x")), file.labels(&of("labels")));
        let correct = file.scalar(&of("correct")) as usize;
        let expected = (file.scalar(&of("loss")), correct, file.tensor(&of("dx")));
        check(&mut backend, x, &labels, smoothing, expected, B::TOLERANCE.storage);
    }
}

fn totals_add_up<B: Probe>(mut backend: B) {
    // ln 2 for each image of two equal logits; the first of them is the answer.
    let loss = Loss { n: 3, classes: 2, smoothing: 0.0 };
    let x = tensor(&backend, &[0.0; 6], 2);
    let y = label_bytes(&backend, &[0, 1, 0]);
    backend.set_totals(Totals::default()).unwrap();
    for batch in 1..=4 {
        backend.softmax_cross_entropy(&loss, &x, &y, None).unwrap();
        let totals = backend.totals().unwrap();
        let expected = 3.0 * f64::from(batch) * 2_f64.ln();
        assert_close(&[totals.loss], &[expected], 0.0, 4.0 * U, "loss so far");
        assert_eq!((totals.correct, totals.images), (2 * batch as u64, 3 * batch as u64));
    }
    // Fewer images than the buffers hold.
    backend.softmax_cross_entropy(&Loss { n: 1, ..loss }, &x, &y, None).unwrap();
    assert_eq!(backend.totals().unwrap().images, 13);
    let held = Totals { loss: 1234.5, correct: 50_000, images: 1 << 40 };
    backend.set_totals(held).unwrap();
    assert_eq!(backend.totals().unwrap(), held);
    backend.softmax_cross_entropy(&loss, &x, &y, None).unwrap();
    let totals = backend.totals().unwrap();
    assert_eq!((totals.correct, totals.images), (50_002, (1 << 40) + 3));
    assert_close(&[totals.loss], &[1234.5 + 3.0 * 2_f64.ln()], 0.0, 4.0 * U, "loss on top");
}

/// exp(1e4) is beyond f64, and so is its inverse.
fn huge_logits<B: Probe>(mut backend: B) {
    let x = Tensor::new(&[3, 3], vec![1e4, 0.0, -1e4, 1e4, 0.0, -1e4, -1e4, -1e4, -1e4]);
    let (totals, dx) = run(&mut backend, &x, &[0, 2, 1], 0.0);
    assert_close(&[totals.loss], &[2e4 + 3_f64.ln()], 0.0, 4.0 * U, "loss");
    assert_eq!((totals.correct, totals.images), (1, 3));
    let third = 1.0 / 3.0;
    let expected = [0.0, 0.0, 0.0, 1.0, 0.0, -1.0, third, third - 1.0, third];
    assert_close(&dx, &expected, 0.0, 4.0 * B::TOLERANCE.storage, "gradient");
}

/// A run that has diverged must show it in the loss, wherever the bad logit is and whatever the label.
fn bad_logits_show<B: Probe>(mut backend: B) {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for place in 0..3 {
            for (label, smoothing) in [(0, 0.0), (1, 0.0), (2, 0.2)] {
                let mut row = vec![0.5, 0.25, -1.0];
                row[place] = bad;
                let x = Tensor::new(&[2, 3], [vec![0.0; 3], row].concat());
                let (totals, _) = run(&mut backend, &x, &[0, label], smoothing);
                assert!(!totals.loss.is_finite(), "{bad} at {place}, label {label}: {}", totals.loss);
                assert_eq!(totals.images, 2);
            }
        }
    }
}

/// The step in which it first happened, until the totals are set again.
fn first_fault_stays<B: Probe>(mut backend: B) {
    let loss = Loss { n: 2, classes: 2, smoothing: 0.0 };
    let y = label_bytes(&backend, &[0, 1]);
    let good = tensor(&backend, &[1.0, 2.0, 3.0, 4.0], 2);
    let bad = tensor(&backend, &[1.0, 2.0, f32::NAN, 4.0], 2);
    backend.set_totals(Totals::default()).unwrap();
    for (step, logits, fault) in
        [(0, &good, None), (7, &bad, Some(7)), (8, &bad, Some(7)), (9, &good, Some(7))]
    {
        backend.set_rates(&[0.1; 10], step).unwrap();
        backend.softmax_cross_entropy(&loss, logits, &y, None).unwrap();
        let expected = fault.map(|step| Fault { step, place: Place::Logits });
        assert_eq!(backend.fault().unwrap(), expected, "step {step}");
    }
    backend.set_totals(Totals::default()).unwrap();
    assert_eq!(backend.fault().unwrap(), None);
}

on_every_device!(against_f64, fixtures, totals_add_up, huge_logits, bad_logits_show, first_fault_stays);

//! The f64 reference itself, before anything is measured with it: against PyTorch's fixtures and against
//! central differences.

use crate::support::finite_difference::assert_gradient;
use crate::support::fixture::Fixture;
use crate::support::nets::{Mode, Net, schedule, sgd};
use crate::support::reference::{Named, Statistics, Tape, Tensor, Var};
use crate::support::{assert_close, channels_first, channels_last, integers, labels, normals};
use fishmask::rng::{Purpose, Stream};

/// Fixtures in f64 differ from us by the order of their sums alone: some 1e2..1e5 terms of order 1, so 1e-15
/// times that at the very worst.
const F64: f64 = 1e-10;
/// Rounding to f32, to nearest.
const F32: f64 = 1.0 / (1 << 24) as f64;

const NETS: [Net; 3] = [
    Net { name: "resnet9", width: 4 },
    Net { name: "resnet18", width: 2 },
    Net { name: "resnet34", width: 2 },
];

fn same(actual: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!(actual.shape, expected.shape, "{what}: shape");
    assert_close(&actual.data, &expected.data, F64, F64, what);
}

/// Runs one operation on fixture `case` and compares y and the gradient of each input.
fn matches_torch(case: &str, inputs: &[&str], op: impl Fn(&mut Tape, &[Var]) -> Var) {
    let file = Fixture::open("ops");
    let of = |key: &str| file.tensor(&format!("{case}.{key}"));
    let mut tape = Tape::default();
    let vars: Vec<Var> = inputs.iter().map(|key| tape.leaf(of(key))).collect();
    let y = op(&mut tape, &vars);
    same(tape.value(y), of("y"), &format!("{case}.y"));
    let gradients = tape.backward(y, of("dy"));
    for (key, var) in inputs.iter().zip(vars) {
        same(gradients.of(var), of(&format!("d{key}")), &format!("{case}.d{key}"));
    }
}

/// Central differences of sum(dy * op(inputs)), dy random, by every element of every input.
fn matches_differences(what: &str, inputs: &[Tensor], op: impl Fn(&mut Tape, &[Var]) -> Var) {
    let run = |inputs: &[Tensor]| {
        let mut tape = Tape::default();
        let vars: Vec<Var> = inputs.iter().map(|t| tape.leaf(t)).collect();
        let y = op(&mut tape, &vars);
        (tape, vars, y)
    };
    let (tape, vars, y) = run(inputs);
    let dy = normals(&tape.value(y).shape, 99);
    let gradients = tape.backward(y, &dy);
    for (i, var) in vars.into_iter().enumerate() {
        let mut moved = inputs.to_vec();
        let f = |x: &Tensor| {
            moved[i] = x.clone();
            let (tape, _, y) = run(&moved);
            tape.value(y).data.iter().zip(&dy.data).map(|(a, b)| a * b).sum()
        };
        let all = 0..inputs[i].data.len();
        assert_gradient(f, &inputs[i], gradients.of(var), all, &format!("{what}, input {i}"));
    }
}

#[test]
fn conv_matches_torch_and_differences() {
    for (kernel, stride) in [(3, 1), (3, 2), (1, 2)] {
        let case = format!("conv_{kernel}x{kernel}_s{stride}");
        matches_torch(&case, &["x", "w"], |t, v| t.conv2d(v[0], v[1], stride, kernel / 2));
    }
    for (r, s, stride, pad) in [(3, 3, 1, 1), (3, 3, 2, 1), (1, 1, 2, 0), (2, 3, 1, 0), (3, 2, 3, 2)] {
        let inputs = [normals(&[2, 3, 6, 5], 1), normals(&[4, 3, r, s], 2)];
        let what = format!("conv {r}x{s} stride {stride} pad {pad}");
        matches_differences(&what, &inputs, |t, v| t.conv2d(v[0], v[1], stride, pad));
    }
}

#[test]
fn batch_norm_matches_torch_and_differences() {
    let file = Fixture::open("ops");
    let keys = ["x", "w", "b"];
    matches_torch("bn_batch", &keys, |t, v| {
        let (y, found) = t.batch_norm(v[0], v[1], v[2], Statistics::Batch);
        let (mut mean, mut var) = (file.tensor("bn_batch.mean").clone(), file.tensor("bn_batch.var").clone());
        found.unwrap().update(&mut mean, &mut var);
        same(&mean, file.tensor("bn_batch.mean_after"), "running mean");
        same(&var, file.tensor("bn_batch.var_after"), "running variance");
        y
    });
    let (mean, var) = (file.tensor("bn_running.mean"), file.tensor("bn_running.var"));
    matches_torch("bn_running", &keys, |t, v| {
        t.batch_norm(v[0], v[1], v[2], Statistics::Running(mean, var)).0
    });
    matches_torch("bn_sample", &keys, |t, v| t.batch_norm(v[0], v[1], v[2], Statistics::Sample).0);

    let inputs = [normals(&[2, 3, 4, 5], 1), normals(&[3], 2), normals(&[3], 3)];
    for by in [Statistics::Batch, Statistics::Running(mean, var), Statistics::Sample] {
        matches_differences(&format!("{by:?}"), &inputs, |t, v| t.batch_norm(v[0], v[1], v[2], by).0);
    }
}

#[test]
fn relu_and_pools_match_torch_and_differences() {
    matches_torch("relu", &["x"], |t, v| t.relu(v[0]));
    matches_torch("average_pool", &["x"], |t, v| t.average_pool(v[0]));
    let inputs = [normals(&[2, 3, 8, 12], 1)];
    matches_differences("relu", &inputs, |t, v| t.relu(v[0]));
    matches_differences("average pool", &inputs, |t, v| t.average_pool(v[0]));
    for (k, stride, pad) in [(2, 2, 0), (4, 4, 0), (3, 2, 1)] {
        // Its x are small integers: equal maxima in most windows.
        matches_torch(&format!("max_pool_{k}s{stride}p{pad}"), &["x"], |t, v| {
            t.max_pool(v[0], k, stride, pad)
        });
        matches_differences("max pool", &inputs, |t, v| t.max_pool(v[0], k, stride, pad));
    }
}

#[test]
fn add_scale_reshape_linear_match_torch_and_differences() {
    matches_torch("linear", &["x", "w", "b"], |t, v| t.linear(v[0], v[1], Some(v[2])));
    let inputs = [normals(&[3, 7], 1), normals(&[5, 7], 2), normals(&[5], 3)];
    matches_differences("linear", &inputs, |t, v| t.linear(v[0], v[1], Some(v[2])));
    matches_differences("linear without bias", &inputs[..2], |t, v| t.linear(v[0], v[1], None));
    // x + relu(2.5 x): a value with two uses gets both gradients.
    matches_differences("add, scale, reshape", &inputs[..1], |t, v| {
        let y = t.scale(v[0], 2.5);
        let y = t.relu(y);
        let y = t.add(v[0], y);
        t.reshape(y, &[7, 3])
    });
}

#[test]
fn cross_entropy_matches_torch_and_differences() {
    let file = Fixture::open("ops");
    for (case, smoothing) in [("cross_entropy", 0.0), ("cross_entropy_smoothed", 0.2)] {
        let of = |key: &str| format!("{case}.{key}");
        let (x, labels) = (file.tensor(&of("x")), file.labels(&of("labels")));
        let mut tape = Tape::default();
        let logits = tape.leaf(x);
        let (loss, correct) = tape.cross_entropy(logits, &labels, smoothing);
        same(tape.value(loss), file.tensor(&of("loss")), case);
        assert_eq!(correct as f64, file.scalar(&of("correct")), "{case}: correct");
        let gradients = tape.backward(loss, &Tensor::new(&[1], vec![1.0]));
        same(gradients.of(logits), file.tensor(&of("dx")), case);
        matches_differences(case, std::slice::from_ref(x), |t, v| {
            t.cross_entropy(v[0], &labels, smoothing).0
        });
    }
}

/// The first of equal logits is the prediction, and large logits do not overflow.
#[test]
fn cross_entropy_ties_and_large_logits() {
    let mut tape = Tape::default();
    let logits = tape.leaf(&Tensor::new(&[3, 2], vec![1.0, 1.0, 1.0, 1.0, 1000.0, 0.0]));
    let (loss, correct) = tape.cross_entropy(logits, &[0, 1, 1], 0.0);
    assert_eq!(correct, 1);
    assert_close(&tape.value(loss).data, &[2.0 * 2f64.ln() + 1000.0], 0.0, 1e-15, "loss");
}

#[test]
fn nets_have_the_specified_parameters() {
    for (name, expected) in [("resnet9", 6_573_120), ("resnet18", 11_173_962), ("resnet34", 21_282_122)] {
        let shapes = Net { name, width: 64 }.parameters();
        assert_eq!(
            shapes.iter().map(|(_, s)| s.iter().product::<usize>()).sum::<usize>(),
            expected,
            "{name}"
        );
    }
}

#[test]
fn nets_match_torch() {
    for net in NETS {
        let what = |s: &str| format!("{} {s}", net.name);
        let file = Fixture::open(&format!("{}_w{}", net.name, net.width));
        let (images, labels, before) = (file.tensor("images"), file.labels("labels"), file.named("before."));
        let names: Vec<String> = before.keys().filter(|k| !k.contains("running")).cloned().collect();
        let mut listed: Vec<String> = net.parameters().into_iter().map(|(name, _)| name).collect();
        listed.sort();
        assert_eq!(listed, names, "{}", what("parameter names"));
        for (name, shape) in net.parameters() {
            assert_eq!(before[&name].shape, shape, "{}", what(&name));
        }

        let eval = net.forward(&before, images, &labels, Mode::Eval);
        same(&eval.logits, file.tensor("eval.logits"), &what("evaluation logits"));
        assert_close(&[eval.loss], &[file.scalar("eval.loss")], F64, F64, &what("evaluation loss"));
        assert!(eval.running.is_empty());

        let train = net.forward(&before, images, &labels, Mode::Train);
        same(&train.logits, file.tensor("train.logits"), &what("training logits"));
        assert_close(&[train.loss], &[file.scalar("train.loss")], F64, F64, &what("training loss"));
        let running = file.named("running.");
        assert!(train.running.keys().eq(running.keys()), "{}", what("names of running statistics"));
        for (name, expected) in &running {
            same(&train.running[name], expected, &what(name));
        }
        let (gradients, expected) = (train.gradients(), file.named("gradient."));
        assert!(gradients.keys().eq(expected.keys()), "{}", what("names of gradients"));
        for (name, e) in &expected {
            assert_eq!(gradients[name].shape, e.shape, "{}", what(name));
            assert_close(&gradients[name].data, &e.data, F64, F32, &what(name));
        }
    }
}

/// Three optimiser steps as in `scripts/make_fixtures.py`: batch 3, two steps an epoch.
#[test]
fn training_steps_match_torch() {
    for net in NETS {
        let what = |s: &str| format!("{} after three steps: {s}", net.name);
        let file = Fixture::open(&format!("{}_w{}", net.name, net.width));
        let (images, labels, before) = (file.tensor("images"), file.labels("labels"), file.named("before."));
        let (mut state, mut velocity, mut losses) = (before.clone(), Named::new(), Vec::new());
        for step in 1..=4 {
            let pass = net.forward(&state, images, &labels, Mode::Train);
            losses.push(pass.loss);
            if step == 4 {
                break;
            }
            state.extend(pass.running.clone());
            let lr = schedule(f64::from(step) / 2.0, 0.4, 5.0, 24.0) / 3.0;
            sgd(&mut state, &mut velocity, &pass.gradients(), lr, 5e-4 * 3.0, 0.9);
        }
        assert_close(&losses, &file.tensor("steps.losses").data, F64, F64, &what("losses"));
        let projections: Vec<f64> = net
            .parameters()
            .iter()
            .map(|(name, _)| {
                let moved = state[name].data.iter().zip(&before[name].data);
                moved.enumerate().map(|(i, (a, b))| (a - b) * (1.0 + i as f64).cos()).sum()
            })
            .collect();
        assert_close(&projections, &file.tensor("steps.projection").data, F64, F64, &what("projection"));
        for (name, expected) in file.named("steps.").iter().filter(|(k, _)| state.contains_key(*k)) {
            same(&state[name], expected, &what(name));
        }
    }
}

/// A random state for a net: parameters and running statistics.
fn random_state(net: Net) -> Named {
    let mut state = Named::new();
    for (seed, (name, shape)) in net.parameters().into_iter().enumerate() {
        let mut t = normals(&shape, 1000 + seed as u64);
        let fan_in: usize = shape[1..].iter().product();
        t.data.iter_mut().for_each(|v| *v /= (fan_in as f64).sqrt());
        if let (Some(bn), [channels]) = (name.strip_suffix(".bias"), &shape[..]) {
            state.insert(format!("{bn}.running_mean"), normals(&[*channels], 2000 + seed as u64));
            state.insert(format!("{bn}.running_var"), Tensor::from_fn(&[*channels], |i| 0.5 + i as f64));
        }
        state.insert(name, t);
    }
    state
}

#[test]
fn tiny_resnet9_matches_differences() {
    let net = Net { name: "resnet9", width: 2 };
    let (state, images, labels) = (random_state(net), normals(&[2, 3, 32, 32], 5), labels(2, 10, 6));
    let mut choice = Stream::new(7, Purpose::Synthetic, 0, 0);
    for mode in [Mode::Train, Mode::Eval, Mode::Sample] {
        let gradients = net.forward(&state, &images, &labels, mode).gradients();
        let mut moved = state.clone();
        for (name, gradient) in &gradients {
            let f = |x: &Tensor| {
                moved.insert(name.clone(), x.clone());
                net.forward(&moved, &images, &labels, mode).loss
            };
            let at = [choice.below(gradient.data.len() as u32) as usize];
            assert_gradient(f, &state[name], gradient, at, &format!("{mode:?} {name}"));
            moved.insert(name.clone(), state[name].clone());
        }
    }
}

/// A batch with each sample's own statistics is so many batches of one.
#[test]
fn per_sample_statistics_are_batches_of_one() {
    let net = Net { name: "resnet18", width: 2 };
    let (state, images, labels) = (random_state(net), normals(&[2, 3, 32, 32], 5), labels(2, 10, 6));
    let together = net.forward(&state, &images, &labels, Mode::Sample);
    let mut sum = Named::new();
    for (n, image) in images.data.chunks(3 * 32 * 32).enumerate() {
        let image = Tensor::new(&[1, 3, 32, 32], image.to_vec());
        let alone = net.forward(&state, &image, &labels[n..=n], Mode::Train);
        assert_close(&alone.logits.data, &together.logits.data[n * 10..][..10], F64, F64, "logits");
        for (name, g) in alone.gradients() {
            let total = sum.entry(name).or_insert_with(|| Tensor::zeros(&g.shape));
            total.data.iter_mut().zip(&g.data).for_each(|(t, g)| *t += g);
        }
    }
    for (name, g) in together.gradients() {
        same(&g, &sum[&name], &name);
    }
}

#[test]
fn optimiser_and_schedule_match_hand_values() {
    let one = |v: f64| Named::from([("w".to_owned(), Tensor::new(&[1], vec![v]))]);
    let (mut state, mut velocity) = (one(2.0), Named::new());
    // g + wd w = 3 + 0.5 * 2 = 4, d = -0.4 = v, w = 2 - 0.4 - 0.36.
    sgd(&mut state, &mut velocity, &one(3.0), 0.1, 0.5, 0.9);
    assert_close(&state["w"].data, &[1.24], 1e-15, 0.0, "first step");
    // g + wd w = 1.62, d = -0.324, v = -0.36 - 0.324, w = 1.24 - 0.324 - 0.6156.
    sgd(&mut state, &mut velocity, &one(1.0), 0.2, 0.5, 0.9);
    assert_close(&velocity["w"].data, &[-0.684], 1e-15, 0.0, "velocity");
    assert_close(&state["w"].data, &[0.3004], 1e-15, 0.0, "second step");
    let rates = [0.0, 2.5, 5.0, 14.5, 24.0].map(|epoch| schedule(epoch, 0.4, 5.0, 24.0));
    assert_close(&rates, &[0.0, 0.2, 0.4, 0.2, 0.0], 1e-15, 0.0, "schedule");
}

#[test]
fn layouts_by_hand_and_back() {
    // One image of two channels, 1 x 3 pixels.
    let t = Tensor::new(&[1, 2, 1, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(channels_last(&t), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    let t = integers(&[2, 3, 4, 5], 9, 1);
    assert_eq!(channels_first(&channels_last(&t), [2, 3, 4, 5]), t);
}

#[test]
fn assert_close_passes_only_what_is_close() {
    let fails = |actual: &[f32], expected: &[f64]| {
        let call = || assert_close(actual, expected, 0.25, 0.5, "x");
        let message = std::panic::catch_unwind(call).err()?;
        Some(message.downcast_ref::<String>()?.clone())
    };
    // The bound at 2 is 0.25 + 0.5 * 2.
    assert_eq!(fails(&[3.25, 0.75, -0.25], &[2.0, 2.0, 0.0]), None);
    let message = fails(&[1.0, 3.3, 0.5], &[1.0, 2.0, 1.0]).unwrap();
    assert!(
        message.starts_with("x: element 1 of 3 is 3.29") && message.contains("expected 2e0"),
        "{message}"
    );
    for (actual, expected) in [(f32::NAN, 1.0), (f32::INFINITY, 1.0), (1.0, f64::NAN), (1.0, f64::INFINITY)] {
        assert!(fails(&[0.0, actual], &[0.0, expected]).unwrap().contains("element 1"));
    }
    assert!(fails(&[f32::INFINITY], &[f64::INFINITY]).is_some());
    assert!(fails(&[1.0], &[]).unwrap().contains("lengths differ"));
    assert_close(&[1.0f32], &[1.0], 0.0, 0.0, "exactly equal at a bound of 0");
}

//! Whole networks on the CPU backend: against the f64 reference and PyTorch's fixtures.

use crate::support::fixture::Fixture;
use crate::support::nets::{Mode, Net};
use crate::support::reference::{Named, Tensor};
use crate::support::{channels_last, labels, normals};
use fishmask::device::Cpu;
use fishmask::graph::network::{Batches, plans};
use fishmask::graph::{Graph, Model, Network, Phase};

const NETS: [(Model, &str); 3] =
    [(Model::Resnet9, "resnet9"), (Model::Resnet18, "resnet18"), (Model::Resnet34, "resnet34")];

/// Weights (memory order) and statistics from named tensors.
fn flat(graph: &Graph, state: &Named) -> (Vec<f32>, Vec<f32>) {
    let canonical: Vec<f32> = graph.layout.parameters.iter().flat_map(|p| state[&p.name].f32s()).collect();
    let names = graph.layout.statistics.iter().flat_map(|s| s.tensors().map(|(name, _)| name));
    (graph.layout.to_memory(&canonical), names.flat_map(|name| state[&name].f32s()).collect())
}

fn network(graph: Graph, batch: usize, state: &Named) -> Network<Cpu> {
    let (weights, running) = flat(&graph, state);
    let plans = plans(&graph, Batches { training: Some(batch), inference: batch }).unwrap();
    Network::new(graph, plans, Cpu::new(), &weights, &running).unwrap()
}

/// Asserts that `actual` differs from `expected` by at most `bound` of the latter's length.
#[track_caller]
fn assert_near(actual: &[f32], expected: &[f64], bound: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let square = |v: f64| v * v;
    let error: f64 = actual.iter().zip(expected).map(|(&a, &e)| square(f64::from(a) - e)).sum();
    let length: f64 = expected.iter().map(|&e| square(e)).sum();
    let ratio = (error / length).sqrt();
    assert!(ratio <= bound, "{what}: {ratio:e} of its length away, more than {bound:e}");
}

/// Every layer rounds its sums to f32 (2^-24 = 6e-8 of their length, times about the square root of the
/// number of terms, at most 7 for these widths), batch norm divides by a deviation known as well, and 20 to
/// 70 such layers follow each other forward and backward: 70 * 7 * 6e-8 = 3e-5. Small batches in deep nets
/// make single batch norms up to ten times more sensitive (they divide by small deviations).
const BOUND: f64 = 3e-4;

fn state(net: &Net, graph: &Graph) -> Named {
    let weights = graph.layout.to_canonical(&graph.layout.initial_weights(11));
    let mut state = Named::new();
    for p in &graph.layout.parameters {
        let mut values: Vec<f64> = weights[p.range()].iter().map(|&v| f64::from(v)).collect();
        if p.shape.len() == 1 {
            // Scales and shifts away from 1 and 0, or their gradients and uses could be swapped unseen.
            let noise = normals(&p.shape, p.offset as u64);
            values.iter_mut().zip(&noise.data).for_each(|(v, n)| *v = f64::from((*v + 0.2 * n) as f32));
        }
        state.insert(p.name.clone(), Tensor::new(&p.shape, values));
    }
    for s in &graph.layout.statistics {
        for (i, (name, _)) in s.tensors().into_iter().enumerate() {
            let noise = normals(&[s.channels], s.offset as u64);
            let value = |n: f64| f64::from(if i == 0 { 0.1 * n } else { 0.5 + n * n } as f32);
            state.insert(name, Tensor::from_fn(&[s.channels], |j| value(noise.data[j])));
        }
    }
    assert_eq!(
        net.parameters(),
        graph.layout.parameters.iter().map(|p| (p.name.clone(), p.shape.clone())).collect::<Vec<_>>()
    );
    state
}

#[test]
fn parameter_counts_at_width_64() {
    let count = |model: Model| model.graph(64).unwrap().layout.weight_count();
    assert_eq!(count(Model::Resnet9), 6_573_120);
    assert_eq!(count(Model::Resnet18), 11_173_962);
    assert_eq!(count(Model::Resnet34), 21_282_122);
}

/// The images' seed is one of those (three in four) where no ReLU and no pool is so near its branch that f32
/// takes the other one, which would move whole gradients.
#[test]
fn gradients_agree_with_f64() {
    for ((model, name), n) in NETS.into_iter().zip([5, 6, 7]) {
        for smoothing in [0.0, 0.2] {
            let net = Net { name, width: 3 };
            let graph = model.graph(3).unwrap();
            let state = state(&net, &graph);
            let (images, labels) = (normals(&[n, 3, 32, 32], 15), labels(n, 10, 6));
            let expected = net.forward_smoothed(&state, &images, &labels, Mode::Train, smoothing);
            let gradients = expected.gradients();

            let layout = graph.layout.clone();
            // A plan for more images than there are: the rest of each buffer must stay out of every sum.
            let mut network = network(graph, n + 1, &state);
            let bytes: Vec<u8> = labels.iter().map(|&l| l as u8).collect();
            network.set_batch(Phase::Training, &channels_last(&images), &bytes).unwrap();
            network.forward(Phase::Training, n, smoothing as f32).unwrap();
            assert_near(&network.logits(Phase::Training, n).unwrap(), &expected.logits.data, BOUND, name);
            let totals = fishmask::ops::LossOps::totals(network.backend()).unwrap();
            assert!((totals.loss - expected.loss).abs() < BOUND * expected.loss, "{name} loss");
            assert_eq!((totals.correct, totals.images), (expected.correct as u64, n as u64), "{name}");
            network.backward(n).unwrap();
            let actual = layout.to_canonical(&network.read_gradients().unwrap());
            for p in &layout.parameters {
                assert_near(&actual[p.range()], &gradients[&p.name].data, BOUND, &p.name);
            }
            let running = network.read_running().unwrap();
            for (name, range) in layout.statistics.iter().flat_map(|s| s.tensors()) {
                assert_near(&running[range], &expected.running[&name].data, BOUND, &name);
            }
        }
    }
}

#[test]
fn inference_agrees_with_f64_and_changes_nothing() {
    for (model, name) in NETS {
        let net = Net { name, width: 3 };
        let graph = model.graph(3).unwrap();
        let state = state(&net, &graph);
        let (images, labels) = (normals(&[4, 3, 32, 32], 8), labels(4, 10, 9));
        let expected = net.forward(&state, &images, &labels, Mode::Eval);
        let mut network = network(graph, 4, &state);
        let before = (network.read_weights().unwrap(), network.read_running().unwrap());
        let bytes: Vec<u8> = labels.iter().map(|&l| l as u8).collect();
        network.set_batch(Phase::Inference, &channels_last(&images), &bytes).unwrap();
        network.forward(Phase::Inference, 4, 0.0).unwrap();
        assert_near(&network.logits(Phase::Inference, 4).unwrap(), &expected.logits.data, BOUND, name);
        assert_eq!(before, (network.read_weights().unwrap(), network.read_running().unwrap()));
    }
}

#[test]
fn agrees_with_pytorch() {
    for (model, file, width) in [
        (Model::Resnet9, "resnet9_w4", 4),
        (Model::Resnet18, "resnet18_w2", 2),
        (Model::Resnet34, "resnet34_w2", 2),
    ] {
        let fixture = Fixture::open(file);
        let graph = model.graph(width).unwrap();
        let layout = graph.layout.clone();
        let images = fixture.tensor("images");
        let labels: Vec<u8> = fixture.labels("labels").iter().map(|&l| l as u8).collect();
        let n = labels.len();
        let mut network = network(graph, n, &fixture.named("before."));
        network.set_batch(Phase::Inference, &channels_last(images), &labels).unwrap();
        network.forward(Phase::Inference, n, 0.0).unwrap();
        assert_near(
            &network.logits(Phase::Inference, n).unwrap(),
            &fixture.tensor("eval.logits").data,
            BOUND,
            file,
        );
        network.set_batch(Phase::Training, &channels_last(images), &labels).unwrap();
        network.forward(Phase::Training, n, 0.0).unwrap();
        assert_near(
            &network.logits(Phase::Training, n).unwrap(),
            &fixture.tensor("train.logits").data,
            BOUND,
            file,
        );
        network.backward(n).unwrap();
        let actual = layout.to_canonical(&network.read_gradients().unwrap());
        let gradients = fixture.named("gradient.");
        for p in &layout.parameters {
            assert_near(&actual[p.range()], &gradients[&p.name].data, BOUND, &p.name);
        }
    }
}

/// What is trained has the gradient that it has when all is, bit for bit; filters that are not keep their old
/// one, and so does all below the lowest that is.
#[test]
fn trained_alone_a_parameter_has_the_same_gradient() {
    for (model, name) in NETS {
        let (net, graph) = (Net { name, width: 2 }, model.graph(2).unwrap());
        let (state, layout) = (state(&net, &graph), graph.layout.clone());
        let mut network = network(graph, 3, &state);
        let mut gradients = |trained: &dyn Fn(usize) -> bool, seed: u64| {
            let labels: Vec<u8> = labels(3, 10, seed).iter().map(|&l| l as u8).collect();
            network
                .set_batch(Phase::Training, &channels_last(&normals(&[3, 3, 32, 32], seed)), &labels)
                .unwrap();
            network.train_only(|range| trained(range.start));
            network.forward(Phase::Training, 3, 0.0).unwrap();
            network.backward(3).unwrap();
            network.read_gradients().unwrap()
        };
        let expected = gradients(&|_| true, 2);
        for (i, p) in layout.parameters.iter().enumerate() {
            let old = gradients(&|_| true, 1);
            let found = gradients(&|start| start == p.offset, 2);
            assert!(found[p.range()] == expected[p.range()], "{name} {}", p.name);
            assert!(found[p.range()] != old[p.range()], "{name} {}", p.name);
            // Parameters before a convolution are those of layers below it, but for a shortcut's.
            let below = if p.shape.len() == 4 && !p.name.contains("downsample") { i } else { 0 };
            let filters =
                layout.parameters.iter().filter(|other| other.shape.len() == 4 && other.offset != p.offset);
            for idle in filters.chain(&layout.parameters[..below]) {
                assert!(found[idle.range()] == old[idle.range()], "{name} {}: {}", p.name, idle.name);
            }
        }
        assert!(gradients(&|_| true, 2) == expected, "{name}: all again");
        assert!(gradients(&|_| false, 1) == expected, "{name}: nothing trained, nothing computed");
    }
}

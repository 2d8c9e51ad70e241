//! Training on a device whose activations are f16, against the CPU backend in f32.

use crate::support::device::emulated;
use crate::support::gpu::on_gpu;
use fishmask::data::{Split, synthetic};
use fishmask::device::Cuda;
use fishmask::device::driver::Driver;
use fishmask::device::emulated::Emulated;
use fishmask::device::{Buffers, Cpu};
use fishmask::graph::network::{Batches, plans};
use fishmask::graph::{Model, Network, Phase};
use fishmask::ops::{LossOps, Position, Totals};
use fishmask::optim::{Moves, PiecewiseLinear, Sgd, SgdBuffers, TrainingBackend};
use fishmask::train::evaluate;
use std::sync::Arc;

const BATCH: usize = 50;

/// The emulated device without its checks, for long runs.
fn fast() -> Cuda<Emulated> {
    Cuda::new(Emulated::new()).unwrap()
}

/// A network with its optimiser's state and a data set.
struct Training<B: TrainingBackend> {
    network: Network<B>,
    velocity: B::Vector,
    data: B::Data,
    recording: Option<B::Recording>,
}

impl<B: TrainingBackend> Training<B> {
    fn new(mut backend: B, model: Model, split: &Arc<Split>) -> Self {
        let graph = model.graph(8).unwrap();
        let plans = plans(&graph, Batches { training: Some(BATCH), inference: BATCH }).unwrap();
        let (weights, running) = (graph.layout.initial_weights(2), graph.layout.initial_statistics());
        let velocity = backend.vector(&vec![0.0; weights.len()]).unwrap();
        let data = backend.data(split, Some((BATCH, 7))).unwrap();
        let network = Network::new(graph, plans, backend, &weights, &running).unwrap();
        Training { network, velocity, data, recording: None }
    }

    /// Goes to a place of the first epoch, with rates for the mean loss that rise to 0.1 and fall to 0.
    fn seek(&mut self, batch: usize, steps: usize) {
        let backend = self.network.backend();
        let schedule =
            PiecewiseLinear::triangle((steps as f64 / 5.0, 0.1 / BATCH as f64), (steps as f64, 0.0));
        let rates: Vec<f32> = (1..=steps).map(|i| schedule.at(i as f64) as f32).collect();
        backend.set_totals(Totals::default()).unwrap();
        backend.set_rates(&rates, batch).unwrap();
        backend.seek(&mut self.data, Position { epoch: 0, image: batch * BATCH }).unwrap();
    }

    fn step(&mut self, recorded: bool) {
        let Training { network, velocity, data, recording } = self;
        let mut work = |network: &mut Network<B>| {
            network.draw_batch(Phase::Training, data, BATCH)?;
            network.forward(Phase::Training, BATCH, 0.0)?;
            network.backward(BATCH)?;
            let (backend, gradients, weights) = network.parameters();
            let sgd = Sgd { momentum: 0.9, weight_decay: 5e-4 * BATCH as f32 };
            backend.sgd(&sgd, Moves::All, SgdBuffers { gradients, velocity, weights })
        };
        match recorded {
            true => network.replay(recording, work).unwrap(),
            false => work(network).unwrap(),
        }
    }
}

/// |actual - expected| / |expected|, of vectors.
fn distance(actual: &[f32], expected: &[f32]) -> f64 {
    let square = |v: f32| f64::from(v) * f64::from(v);
    let error: f64 = actual.iter().zip(expected).map(|(a, e)| square(a - e)).sum();
    (error / expected.iter().map(|&e| square(e)).sum::<f64>()).sqrt()
}

/// One step's loss and gradients.
///
/// After l layers of f16 an activation, about normal, is known to e = 2^-11 sqrt(2 l) of its deviation: each
/// layer rounds what it reads and what it writes. A ReLU's input is within e of 0, and takes the other
/// branch, in a share 2 e / sqrt(2 pi) = 0.8 e of all units. A share s of gradients gone or come is sqrt(s)
/// of their length, and layers add up: sqrt(sum of 0.8 e), 0.10 for 8 ReLUs and 0.27 for 33. One parameter
/// may be twice as far as all. The last layer's gradient passes no ReLU and is known to 2 e: e of its input,
/// and e of the probabilities it is multiplied by.
fn one_step<D: Driver>(device: Cuda<D>, model: Model) {
    let split = Arc::new(synthetic::dataset(2 * BATCH, 1, 0).train);
    let mut cpu = Training::new(Cpu::new(), model, &split);
    let mut gpu = Training::new(device, model, &split);
    cpu.seek(0, 2);
    gpu.seek(0, 2);
    cpu.step(false);
    gpu.step(false);
    let losses = [cpu.network.backend().totals().unwrap(), gpu.network.backend().totals().unwrap()];
    assert_eq!((losses[1].images, gpu.network.backend().fault().unwrap()), (BATCH as u64, None));
    let away = (losses[1].loss - losses[0].loss).abs() / losses[0].loss;
    let (expected, actual) = (cpu.network.read_gradients().unwrap(), gpu.network.read_gradients().unwrap());
    let parameters = &cpu.network.graph().layout.parameters;
    let relus = parameters.iter().filter(|p| p.shape.len() == 4 && !p.name.contains("downsample")).count();
    let error = |layer: usize| (2.0 * layer as f64).sqrt() / 2048.0;
    let flipped = (1..=relus).map(|layer| 0.8 * error(layer)).sum::<f64>().sqrt();
    assert!(away < error(relus), "{model}: the loss is {away:e} away");
    let all = distance(&actual, &expected);
    println!(
        "{model}: loss {away:e}, gradients {all:e} (bound {flipped:e}); linear bound {:e}",
        error(relus)
    );
    assert!(all < flipped, "{model}: gradients {all:e} away, more than {flipped:e}");
    for p in parameters {
        let linear = p.name.starts_with("linear") || p.name.starts_with("fc");
        let bound = 2.0 * if linear { error(relus) } else { flipped };
        let found = distance(&actual[p.range()], &expected[p.range()]);
        assert!(found < bound, "{model} {}: {found:e} away, more than {bound:e}", p.name);
    }
}

#[test]
fn one_step_of_resnet9_emulated() {
    one_step(emulated(), Model::Resnet9);
}

#[test]
fn one_step_of_resnet9_cuda() {
    on_gpu(|cuda| one_step(cuda(), Model::Resnet9));
}

#[test]
fn one_step_of_resnet34_emulated() {
    one_step(emulated(), Model::Resnet34);
}

#[test]
fn one_step_of_resnet34_cuda() {
    on_gpu(|cuda| one_step(cuda(), Model::Resnet34));
}

/// Mean training loss of one epoch of 2,000 images, and mean test loss after it.
fn epoch<B: TrainingBackend>(backend: B) -> [f64; 2] {
    let data = synthetic::dataset(2000, 4 * BATCH + 7, 0);
    let split = Arc::new(data.train);
    let steps = split.len() / BATCH;
    let mut training = Training::new(backend, Model::Resnet9, &split);
    training.seek(0, steps);
    (0..steps).for_each(|_| training.step(true));
    let network = &mut training.network;
    let train = network.backend().totals().unwrap();
    assert_eq!(train.images, 2000);
    let count = data.test.len();
    let mut test = network.backend().data(&Arc::new(data.test), None).unwrap();
    let test = evaluate(network, &mut test, 0..count, &mut None, |_, _| Ok(true)).unwrap().unwrap();
    assert_eq!(test.images, count as u64);
    [train, test].map(|totals| totals.loss / totals.images as f64)
}

fn an_epoch_ends_within_a_percent_of_the_cpu<D: Driver>(device: Cuda<D>) {
    let (expected, actual) = (epoch(Cpu::new()), epoch(device));
    println!("{expected:?} {actual:?}");
    for (a, e) in actual.iter().zip(expected) {
        assert!((a / e - 1.0).abs() < 0.01, "{actual:?}, not {expected:?}");
    }
}

#[test]
fn an_epoch_ends_within_a_percent_of_the_cpu_emulated() {
    an_epoch_ends_within_a_percent_of_the_cpu(fast());
}

#[test]
fn an_epoch_ends_within_a_percent_of_the_cpu_cuda() {
    on_gpu(|cuda| an_epoch_ends_within_a_percent_of_the_cpu(cuda()));
}

/// A recording, replayed, does what the operations do one by one: each step's batch and learning rate move
/// on.
fn replays_are_steps<D: Driver>(make: impl Fn() -> Cuda<D>) {
    let split = Arc::new(synthetic::dataset(4 * BATCH, 1, 0).train);
    let [direct, recorded] = [false, true].map(|recorded| {
        let mut training = Training::new(make(), Model::Resnet9, &split);
        // From the second step of four.
        training.seek(1, 4);
        (0..3).for_each(|_| training.step(recorded));
        assert_eq!(training.recording.is_some(), recorded);
        (training.network.read_weights().unwrap(), training.network.backend().totals().unwrap())
    });
    assert!(direct == recorded);
}

#[test]
fn replays_are_steps_emulated() {
    replays_are_steps(fast);
}

#[test]
fn replays_are_steps_cuda() {
    on_gpu(|cuda| replays_are_steps(cuda));
}

//! Our code allocates nothing while stepping.
//!
//! What remains is not ours, and its alignment tells it apart from our vectors of f32 (4), f64, pointers (8):
//! * the `gemm` crate packs an operand into a vector-aligned buffer of its own where its kernel wants that,
//!   and keeps a flag (align 1) for each block of rows packed; both are freed before the product returns, and
//!   packing goes by cache-sized blocks, so their size stays below a batch's however large that is;
//! * rayon's queue for work that comes from outside its threads grows by a block of 63 entries for every
//!   63th.

use std::alloc::Layout;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fishmask::data::{IMAGE, Split};
use fishmask::device::Cpu;
use fishmask::graph::network::{Batches, plans};
use fishmask::graph::{Model, Network, Phase};
use fishmask::ops::{AugmentOps, Position};
use fishmask::optim::{Moves, RateOps, Sgd, SgdBuffers, SgdOps};

/// Allocations of one kind.
#[derive(Debug)]
struct Kind {
    count: AtomicUsize,
    bytes: AtomicUsize,
    largest: AtomicUsize,
}

impl Kind {
    const fn new() -> Kind {
        Kind { count: AtomicUsize::new(0), bytes: AtomicUsize::new(0), largest: AtomicUsize::new(0) }
    }
}

/// Alignment 1; up to 16; above.
static KINDS: [Kind; 3] = [Kind::new(), Kind::new(), Kind::new()];

/// Counts an allocation of so many bytes.
pub fn count(layout: Layout, bytes: usize) {
    let kind = &KINDS[match layout.align() {
        1 => 0,
        2..=16 => 1,
        _ => 2,
    }];
    kind.count.fetch_add(1, Relaxed);
    kind.bytes.fetch_add(bytes, Relaxed);
    kind.largest.fetch_max(bytes, Relaxed);
}

/// Runs `f`; (count, bytes, bytes of the largest) of what it allocates, for each kind.
fn during(f: impl FnOnce()) -> [[usize; 3]; 3] {
    let all = || KINDS.iter().flat_map(|kind| [&kind.count, &kind.bytes, &kind.largest]);
    all().for_each(|counter| counter.store(0, Relaxed));
    f();
    [0, 1, 2].map(|kind| [0, 1, 2].map(|i| all().nth(3 * kind + i).unwrap().load(Relaxed)))
}

const BATCH: usize = 48;
const STEPS: u32 = 8;

pub fn steps_allocate_nothing() {
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| measure(threads));
    }
}

fn measure(threads: usize) {
    for model in [Model::Resnet9, Model::Resnet18] {
        let images = 30 * BATCH;
        let pixel = |i: usize| (i * 31 % 251) as u8;
        let split = Arc::new(Split {
            set: &fishmask::data::synthetic::SET,
            images: (0..images * IMAGE).map(pixel).collect(),
            labels: (0..images).map(|i| (i % 10) as u8).collect(),
        });
        let graph = model.graph(8).unwrap();
        let plans = plans(&graph, Batches { training: Some(BATCH), inference: BATCH }).unwrap();
        let (weights, running) = (graph.layout.initial_weights(1), graph.layout.initial_statistics());
        let mut velocity = vec![0.0; weights.len()];
        let mut network = Network::new(graph, plans, Cpu::new(), &weights, &running).unwrap();
        let mut training = network.backend().data(&split, Some((BATCH, 1))).unwrap();
        let mut test = network.backend().data(&split, None).unwrap();
        network.backend().set_rates(&[0.01 / BATCH as f32; 30], 0).unwrap();
        let sgd = Sgd { momentum: 0.9, weight_decay: 5e-4 * BATCH as f32 };

        let mut train = |network: &mut Network<Cpu>| {
            network.draw_batch(Phase::Training, &mut training, BATCH).unwrap();
            network.forward(Phase::Training, BATCH, 0.1).unwrap();
            network.backward(BATCH).unwrap();
            let (backend, gradients, weights) = network.parameters();
            backend
                .sgd(&sgd, Moves::All, SgdBuffers { gradients, velocity: &mut velocity, weights })
                .unwrap();
        };
        let mut evaluate = |network: &mut Network<Cpu>, batch: u32| {
            // The last, smaller batch as well.
            let n = if batch.is_multiple_of(2) { BATCH } else { BATCH - 5 };
            let image = batch as usize * BATCH;
            network.backend().seek(&mut test, Position { epoch: 0, image }).unwrap();
            network.draw_batch(Phase::Inference, &mut test, n).unwrap();
            network.forward(Phase::Inference, n, 0.0).unwrap();
        };
        for batch in 0..2 {
            train(&mut network);
            evaluate(&mut network, batch);
        }
        let trained = during(|| (2..2 + STEPS).for_each(|_| train(&mut network)));
        let evaluated = during(|| (2..2 + STEPS).for_each(|batch| evaluate(&mut network, batch)));
        println!(
            "{model}, {threads} threads: {STEPS} training steps {trained:?}, evaluation batches {evaluated:?}"
        );
        for [flags, ours, packed] in [trained, evaluated] {
            assert!(flags[2] <= 4096, "bytes: {flags:?}");
            // The steps run inside the pool; only the thread that reads ahead calls rayon from outside, once
            // a step, so that one block lasts longer than this.
            assert!(ours[0] <= 1 && ours[2] <= 2048, "ours, or rayon's: {ours:?}");
            // gemm's scratch for each thread is made when that one first needs it, which only a lone thread
            // is sure to have done by now.
            assert!(threads > 1 || packed[2] < 4 * IMAGE * BATCH, "gemm's, or ours: {packed:?}");
        }
    }
}

//! The k largest of a flat vector, against a stable sort.

use crate::support::device::{emulated, on_cuda_devices, on_every_device};
use crate::support::gpu::on_gpu;
use crate::support::on_threads;
use fishmask::device::Cpu;
use fishmask::device::driver::{Driver, Launch};
use fishmask::device::{Array, Cuda};
use fishmask::ops::TopKOps;
use fishmask::ops::top_k::args::{self as top_k, NARROW, TOP_K_PLACE, TopKArgs, WIDE};
use fishmask::ops::top_k::{TopK as Buffers, TopKScratch};
use fishmask::rng::{Purpose, Stream};
use proptest::prelude::*;

/// Scores of a kernel's block.
const TILE: usize = top_k::TILE as usize;

/// The best by value, of equal ones the first; then by index.
fn reference(scores: &[f32], k: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
    order.truncate(k);
    order.sort_unstable();
    order
}

/// What is behind the scores and the result holds values that would show.
trait TopK {
    /// The indices of the k largest, for each k.
    fn largest(&mut self, scores: &[f32], ks: &[usize]) -> Vec<Vec<u32>>;
}

impl<D: Driver> TopK for Cuda<D> {
    fn largest(&mut self, scores: &[f32], ks: &[usize]) -> Vec<Vec<u32>> {
        let n = scores.len();
        let padded = [scores, &[f32::INFINITY; 5]].concat();
        let on_device = Array::of(self.driver(), &padded).unwrap();
        let mut scratch = TopKScratch::new(self.driver(), n).unwrap();
        let mut largest = |&k: &usize| {
            let mut indices = Array::of(self.driver(), &vec![u32::MAX; k + 3]).unwrap();
            let (scores, scratch) = (&on_device, &mut scratch);
            self.top_k_by(n, k, Buffers { scores, indices: &mut indices, scratch }).unwrap();
            let mut found = indices.read(self.driver(), k + 3).unwrap();
            assert_eq!(found.split_off(k), [u32::MAX; 3], "n {n}, k {k}: wrote beyond the result");
            found
        };
        ks.iter().map(&mut largest).collect()
    }
}

impl TopK for Cpu {
    fn largest(&mut self, scores: &[f32], ks: &[usize]) -> Vec<Vec<u32>> {
        let padded = [scores, &[f32::INFINITY; 5]].concat();
        ks.iter().map(|&k| self.top_k(&padded, scores.len(), k).unwrap()).collect()
    }
}

fn check(backend: &mut impl TopK, scores: &[f32], ks: &[usize], what: &str) {
    let n = scores.len();
    for (found, &k) in backend.largest(scores, ks).into_iter().zip(ks) {
        let expected = reference(scores, k);
        if found != expected {
            let at = (0..k.min(found.len())).find(|&i| found[i] != expected[i]);
            panic!("{what}, n {n}, k {k}: {} indices, wrong from place {at:?}", found.len());
        }
    }
}

/// 0, 1, all but one, all, and some between.
fn some(n: usize) -> Vec<usize> {
    let mut ks = vec![0, 1, n / 200, n / 7, n / 2, n.saturating_sub(1), n];
    ks.retain(|&k| k <= n);
    ks.sort_unstable();
    ks.dedup();
    ks
}

fn numbers(n: usize, seed: u64, mut of: impl FnMut(&mut Stream) -> f32) -> Vec<f32> {
    let mut stream = Stream::new(seed, Purpose::Synthetic, 0, 0);
    (0..n).map(|_| of(&mut stream)).collect()
}

/// Squares of normal numbers, as Fisher's scores are, over lengths around a thread's, a warp's and a tile's
/// share.
fn scores(mut backend: impl TopK) {
    let tiles = [TILE - 1, TILE, TILE + 1, 3 * TILE - 3, 2 * TILE + 1029];
    for n in [0, 1, 2, 3, 4, 5, 31, 33, 1000, 1023, 1025].into_iter().chain(tiles) {
        let scores = numbers(n, n as u64, |s| (s.normal() * s.normal()).powi(2) as f32);
        check(&mut backend, &scores, &some(n), "squares");
    }
}

fn ties(mut backend: impl TopK) {
    let n = 2 * TILE + 77;
    for value in [0.0, 3.5, f32::NAN] {
        check(&mut backend, &vec![value; n], &[1, TILE + 1, n], "all equal");
    }
    // Mostly zero; a few values; neighbours in the last digit alone, and in the last two.
    let zeros = numbers(n, 1, |s| if s.below(10) == 0 { s.uniform() } else { 0.0 });
    let few = numbers(n, 2, |s| s.below(3) as f32);
    let near = numbers(n, 3, |s| f32::from_bits(1.0_f32.to_bits() + s.below(3)));
    let next = numbers(n, 4, |s| f32::from_bits(1.0_f32.to_bits() + s.below(1000)));
    for (scores, what) in
        [(zeros, "zeros"), (few, "few values"), (near, "neighbours"), (next, "near neighbours")]
    {
        check(&mut backend, &scores, &[100, n / 10, n / 2], what);
    }
}

/// Every kind of number, in `total_cmp`'s order.
fn any_bits(mut backend: impl TopK) {
    let n = TILE + 1234;
    check(&mut backend, &numbers(n, 5, |s| f32::from_bits(s.word())), &some(n), "any bits");
    check(&mut backend, &numbers(n, 6, |s| s.normal() as f32), &some(n), "both signs");
    let kinds = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        -f32::NAN,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        f32::from_bits(1),
        f32::from_bits(u32::MAX),
        f32::from_bits(i32::MAX as u32),
    ];
    let mixed = numbers(n, 7, |s| kinds[s.below(kinds.len() as u32) as usize]);
    let ks: Vec<usize> = (0..8).map(|i| i * n / 8 + 1).collect();
    check(&mut backend, &mixed, &ks, "special values");
}

/// A tile full of the best between tiles without any, and the best at both ends.
fn clumps(mut backend: impl TopK) -> Vec<f32> {
    let n = 4 * TILE + 9;
    let place = |i: usize| i / TILE == 2 || i == 0 || i == n - 1;
    let scores: Vec<f32> =
        (0..n).map(|i| if place(i) { 100.0 + (i % 7) as f32 } else { (i % 11) as f32 }).collect();
    check(&mut backend, &scores, &[500, TILE, TILE + 2, TILE + 3], "clumps");
    scores
}

fn again<D: Driver>(mut backend: Cuda<D>, scores: &[f32]) {
    let n = scores.len();
    // One scratch for shorter and longer vectors; the same bits twice, recorded as well.
    let on_device = Array::of(backend.driver(), scores).unwrap();
    let mut scratch = TopKScratch::new(backend.driver(), n).unwrap();
    for (n, k) in [(n, 1000), (100, 9), (n, 1000), (TILE + 1, 2)] {
        let mut indices = Array::new(backend.driver(), k).unwrap();
        let buffers = Buffers { scores: &on_device, indices: &mut indices, scratch: &mut scratch };
        backend.top_k_by(n, k, buffers).unwrap();
        let once = indices.read(backend.driver(), k).unwrap();
        assert_eq!(once, reference(&scores[..n], k));
        backend.driver().begin_recording().unwrap();
        let mut again = Array::new(backend.driver(), k).unwrap();
        let buffers = Buffers { scores: &on_device, indices: &mut again, scratch: &mut scratch };
        backend.top_k_by(n, k, buffers).unwrap();
        let graph = backend.driver().end_recording().unwrap();
        for _ in 0..2 {
            again.write(backend.driver(), &vec![0; k]).unwrap();
            backend.driver().replay(&graph).unwrap();
            assert_eq!(again.read(backend.driver(), k).unwrap(), once, "replayed");
        }
    }
}

/// More tiles than the block that places them has threads, which 8.4 million scores would have, in a smaller
/// block.
fn places_in_turns<D: Driver>(backend: Cuda<D>) {
    let (tiles, digits, last, begins) = (75, NARROW as usize, 20, 0x1234);
    let mut stream = Stream::new(8, Purpose::Synthetic, 0, 0);
    let above: Vec<u32> = (0..tiles).map(|_| stream.below(40)).collect();
    let by_digit: Vec<Vec<u32>> =
        (0..tiles).map(|_| (0..digits).map(|_| stream.below(3)).collect()).collect();
    // At least digit d, for each d, and above them all.
    let at_least = |tile: usize, d: usize| above[tile] + by_digit[tile][d..].iter().sum::<u32>();
    let counts: Vec<u32> =
        (0..tiles * (digits + 1)).map(|i| at_least(i / (digits + 1), i % (digits + 1))).collect();
    let total = |d: usize| by_digit.iter().map(|tile| tile[d]).sum::<u32>();
    let equal = total(last) / 2;
    let wanted = (last + 1..digits).map(total).sum::<u32>() + equal;
    let mut histograms = vec![0; 2 * WIDE as usize];
    histograms.extend((0..digits).map(total));

    let of = |values: &[u32]| Array::of(backend.driver(), values).unwrap();
    let (mut threshold, mut histograms, mut counts) = (of(&[begins, wanted]), of(&histograms), of(&counts));
    let mut places = of(&vec![u32::MAX; 3 * tiles]);
    let args = TopKArgs {
        scores: std::ptr::null(),
        indices: std::ptr::null_mut(),
        threshold: threshold.pointer_mut(),
        histograms: histograms.pointer_mut(),
        counts: counts.pointer_mut(),
        places: places.pointer_mut(),
        n: (tiles * TILE) as u32,
        k: 0,
        tiles: tiles as u32,
        digit: 0,
    };
    backend.driver().launch(&TOP_K_PLACE, Launch::new(1, 32), args).unwrap();
    assert_eq!(threshold.read(backend.driver(), 1).unwrap(), [begins * NARROW + last as u32]);
    let found = places.read(backend.driver(), 3 * tiles).unwrap();
    let (mut place, mut left) = (0, equal);
    for tile in 0..tiles {
        let takes = by_digit[tile][last].min(left);
        let all = above[tile] + by_digit[tile][last + 1..].iter().sum::<u32>() + takes;
        assert_eq!([0, 1, 2].map(|row| found[row * tiles + tile]), [place, all, takes], "tile {tile}");
        place += all;
        left -= takes;
    }
    assert_eq!(left, 0);
}

on_every_device!(scores, ties, any_bits);
on_cuda_devices!(places_in_turns);

/// On a device so small that a block takes more tiles than one.
#[test]
fn clumps_emulated() {
    on_threads(1, || again(emulated(), &clumps(emulated())));
}

#[test]
fn clumps_cuda() {
    on_gpu(|cuda| again(cuda(), &clumps(cuda())));
}

#[test]
fn clumps_cpu() {
    clumps(Cpu::new());
}

/// More scores than a task takes, with one thread and with three.
#[test]
fn many_scores_cpu() {
    let scores = numbers(300_007, 9, |s| (s.normal() * s.normal()).powi(2) as f32);
    let few = numbers(300_007, 10, |s| s.below(4) as f32);
    for threads in [1, 3] {
        on_threads(threads, || {
            check(&mut Cpu::new(), &scores, &[1, 6_000, 100_001, 300_007], "squares");
            check(&mut Cpu::new(), &few, &[10, 80_000, 150_000, 299_999], "few values");
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// Numbers drawn from a few, so that they tie, or from all.
    #[test]
    fn any_vector_emulated(
        scores in prop::collection::vec(
            prop_oneof![any::<u32>().prop_map(f32::from_bits), (0..4_u8).prop_map(f32::from)],
            0..TILE + 2000,
        ),
        share in 0.0..=1.0_f64,
    ) {
        let k = (share * scores.len() as f64) as usize;
        check(&mut emulated(), &scores, &[k], "any vector");
    }

    #[test]
    fn any_vector_cpu(
        scores in prop::collection::vec(
            prop_oneof![any::<u32>().prop_map(f32::from_bits), (0..4_u8).prop_map(f32::from)],
            0..20_000,
        ),
        share in 0.0..=1.0_f64,
    ) {
        let k = (share * scores.len() as f64) as usize;
        check(&mut Cpu::new(), &scores, &[k], "any vector");
    }
}

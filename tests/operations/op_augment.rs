//! Batches drawn on a device.

use std::sync::Arc;

use crate::support::device::{Probe, Tolerance, front, on_cuda_devices, on_every_device, poisoned};
use fishmask::data::augment::{Choice, normalise};
use fishmask::data::prefetch::make;
use fishmask::data::{self, IMAGE, Pixels, Set, Split};
use fishmask::device::{Cpu, Error};
use fishmask::mask::{Order, Samples};
use fishmask::ops::{AugmentOps, Backend, Position};
use fishmask::rng::{Purpose, Stream, permutation};
use half::f16;

const SEED: u64 = 0x1234_5678_9abc;

/// Not CIFAR-10's mean and standard deviation: a device takes those of the images' own set.
static SET: Set = Set {
    name: "made up",
    remark: None,
    classes: &["any"],
    images: [47, 11],
    pixels: Pixels::new([100.5, 90.25, 81.0], [50.0, 61.5, 70.25]),
};

fn split(count: usize) -> Arc<Split> {
    let mut stream = Stream::new(5, Purpose::Synthetic, 0, 0);
    let images = (0..count * IMAGE).map(|_| stream.below(256) as u8).collect();
    // Labels that tell which image it was.
    Arc::new(Split { set: &SET, images, labels: (0..count).map(|i| 200 - i as u8).collect() })
}

/// As a backend stores it.
fn stored<B: Probe>(values: &[f32]) -> Vec<u32> {
    let round = |&v: &f32| match B::TOLERANCE.storage == Tolerance::F16.storage {
        true => f32::from(f16::from_f32(v)).to_bits(),
        false => v.to_bits(),
    };
    values.iter().map(round).collect()
}

/// Room for a batch and one more image.
struct Room<B: Backend> {
    images: B::Tensor,
    labels: B::Bytes,
    n: usize,
}

impl<B: Probe> Room<B> {
    fn new(backend: &B, n: usize) -> Self {
        let mut labels = backend.bytes(n + 1).unwrap();
        backend.write_bytes(&vec![99; n + 1], &mut labels).unwrap();
        Room { images: poisoned(backend, (n + 1) * IMAGE), labels, n }
    }

    fn draw(&mut self, backend: &mut B, data: &mut B::Data) -> Result<(), Error> {
        backend.next_batch(data, self.n, &mut self.images, &mut self.labels)
    }

    /// Asserts that it holds these, bit for bit, and nothing more.
    #[track_caller]
    fn assert_holds(&self, backend: &B, images: &[f32], labels: &[u8], what: &str) {
        let found = front(backend, &self.images, self.n * IMAGE, (self.n + 1) * IMAGE, what);
        let expected = stored::<B>(images);
        let wrong = found.iter().zip(&expected).position(|(f, &e)| f.to_bits() != e);
        if let Some(i) = wrong {
            let [image, y, x, c] = [i / IMAGE, i % IMAGE / 96, i % 96 / 3, i % 3];
            panic!(
                "{what}: image {image} ({y}, {x}, {c}) is {}, not {}",
                found[i],
                f32::from_bits(expected[i])
            );
        }
        assert_eq!(backend.read_bytes(&self.labels), [labels, &[99]].concat(), "{what}");
    }
}

/// What the CPU's own code makes of a batch.
fn expected(split: &Split, batch: usize, epoch: u32, position: usize) -> (Vec<f32>, Vec<u8>) {
    let order = permutation(split.len() as u32, SEED, Purpose::Shuffle, epoch);
    let (mut images, mut labels) = (vec![0.0; batch * IMAGE], vec![0; batch]);
    make(split, &order[position * batch..][..batch], SEED, epoch, &mut images, &mut labels);
    (images, labels)
}

/// What is scored is what an epoch of training draws, from its beginning or later.
#[test]
fn samples_are_the_images_of_an_epoch_cpu() {
    let (split, mut cpu) = (split(47), Cpu::new());
    let mut data = cpu.data(&split, Some((4, SEED))).unwrap();
    let mut room = Room::new(&cpu, 4);
    for (epoch, first) in [(0, 0), (3, 0), (3, 8)] {
        cpu.seek(&mut data, Position { epoch, image: first }).unwrap();
        let order = Order::Shuffled;
        let samples = Samples { first, count: 12, order, augment: true, seed: SEED, epoch };
        let mut batches = 0;
        let drawn = samples.each(&split, 4, |images, labels| {
            room.draw(&mut cpu, &mut data)?;
            room.assert_holds(&cpu, images, labels, &format!("epoch {epoch}, from {first}"));
            batches += 1;
            Ok::<_, Error>(())
        });
        drawn.unwrap();
        assert_eq!(batches, 3);
    }
}

fn epochs<B: Probe>(mut backend: B) {
    let (count, batch) = (47, 15);
    let split = split(count);
    let mut data = backend.data(&split, Some((batch, SEED))).unwrap();
    let mut room = Room::new(&backend, batch);
    let mut check = |backend: &mut B, data: &mut B::Data, epoch, position| {
        room.draw(backend, data).unwrap();
        let (images, labels) = expected(&split, batch, epoch, position);
        room.assert_holds(backend, &images, &labels, &format!("epoch {epoch}, batch {position}"));
    };
    // New data begin at the first batch of epoch 0.
    check(&mut backend, &mut data, 0, 0);
    // Whole epochs; a resumed run, in the middle; back.
    for (epoch, from) in [(0, 0), (1, 0), (2, 0), (7, 2), (7, 0), (u32::MAX, 1), (0, 2)] {
        backend.seek(&mut data, Position { epoch, image: from * batch }).unwrap();
        for position in from..count / batch {
            check(&mut backend, &mut data, epoch, position);
        }
    }
    // The crops and cutouts of these epochs touch each border, flipped and not.
    let all = [0, 1, 2].into_iter().flat_map(|epoch| (0..47).map(move |i| Choice::draw(SEED, epoch, i)));
    let all: Vec<Choice> = all.collect();
    for place in [0, 4, 8] {
        assert!(all.iter().any(|c| c.dy == place) && all.iter().any(|c| c.dx == place));
        assert!(all.iter().any(|c| c.dx == place && c.flip) && all.iter().any(|c| c.dx == place && !c.flip));
    }
    for place in [0, 24] {
        assert!(all.iter().any(|c| c.cut_y == place) && all.iter().any(|c| c.cut_x == place));
    }
}

fn as_they_lie<B: Probe>(mut backend: B) {
    let split = split(11);
    let mut data = backend.data(&split, None).unwrap();
    for start in [0, 3] {
        backend.seek(&mut data, Position { epoch: 5, image: start }).unwrap();
        // A shorter last batch.
        let mut at = start;
        for n in [4, 3, 1] {
            let mut room = Room::new(&backend, n);
            room.draw(&mut backend, &mut data).unwrap();
            let mut images = vec![0.0; n * IMAGE];
            normalise(&SET.pixels, &split.images[at * IMAGE..][..n * IMAGE], &mut images);
            room.assert_holds(&backend, &images, &split.labels[at..at + n], &format!("{n} from {at}"));
            at += n;
        }
    }
}

fn refuses<B: Probe>(mut backend: B) {
    let split = split(10);
    for batch in [0, 11] {
        let error = backend.data(&split, Some((batch, SEED))).map(|_| ()).unwrap_err();
        let Error::Data(data::Error::BatchSize { batch: found, images: 10 }) = error else {
            panic!("{error}")
        };
        assert_eq!(found, batch);
    }
    let mut data = backend.data(&split, Some((4, SEED))).unwrap();
    let error = Room::new(&backend, 3).draw(&mut backend, &mut data).unwrap_err();
    assert!(matches!(error, Error::Batch { expected: 4, found: 3 }), "{error}");
    let mut data = backend.data(&split, None).unwrap();
    let error = Room::new(&backend, 11).draw(&mut backend, &mut data).unwrap_err();
    assert!(matches!(error, Error::Images { last: 11, images: 10 }), "{error}");
}

/// Each replay of a recording draws the batch that is next, in the epoch that was sought.
fn replays<B: Probe>(mut backend: B) {
    let (count, batch) = (23, 5);
    let split = split(count);
    let mut data = backend.data(&split, Some((batch, SEED))).unwrap();
    let mut room = Room::new(&backend, batch);
    backend.record().unwrap();
    room.draw(&mut backend, &mut data).unwrap();
    let recording = backend.recorded().unwrap().expect("this device records");
    for (epoch, from) in [(0, 0), (3, 1)] {
        backend.seek(&mut data, Position { epoch, image: from * batch }).unwrap();
        for position in from..count / batch {
            backend.replay(&recording).unwrap();
            let (images, labels) = expected(&split, batch, epoch, position);
            room.assert_holds(&backend, &images, &labels, &format!("epoch {epoch}, batch {position}"));
        }
    }
    // Three images are left and two more are not there: the last one stands in, without a read beyond the
    // order.
    backend.replay(&recording).unwrap();
    let order = permutation(count as u32, SEED, Purpose::Shuffle, 3);
    let indices = [20, 21, 22, 22, 22].map(|i| order[i]);
    let (mut images, mut labels) = (vec![0.0; batch * IMAGE], vec![0; batch]);
    make(&split, &indices, SEED, 3, &mut images, &mut labels);
    room.assert_holds(&backend, &images, &labels, "beyond the end");
}

on_every_device!(epochs, as_they_lie, refuses);
on_cuda_devices!(replays);

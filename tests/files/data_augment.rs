//! Normalisation, augmentation and the batches made from them.

use std::sync::Arc;

use fishmask::data::augment::{Choice, augment, normalise};
use fishmask::data::prefetch::make;
use fishmask::data::sets::cifar10::SET;
use fishmask::data::{Error, IMAGE, Prefetcher, Split};
use fishmask::rng::{Purpose, Stream, permutation, philox};

/// CIFAR-10's, by which its pixels are normalised.
const MEAN: [f32; 3] = [125.31, 122.95, 113.87];
const STD: [f32; 3] = [62.99, 62.09, 66.70];

const SEED: u64 = 0x1234_5678_9abc;

fn split(count: usize) -> Split {
    let mut stream = Stream::new(5, Purpose::Synthetic, 0, 0);
    let images = (0..count * IMAGE).map(|_| stream.below(256) as u8).collect();
    // Labels that tell which image it was, as long as there are no more than 256.
    Split { set: &SET, images, labels: (0..count).map(|i| i as u8).collect() }
}

/// The augmentation of docs/METHOD.md ("Data"), step by step, on whole pictures, in f64.
fn reference(image: &[u8], choice: &Choice) -> Vec<f64> {
    let mirror = |i: usize| match i as i32 - 4 {
        before if before < 0 => -before,
        after if after > 31 => 62 - after,
        inside => inside,
    } as usize;
    let padded: Vec<Vec<[u8; 3]>> = (0..40)
        .map(|y| {
            let pixel = |x: usize| std::array::from_fn(|c| image[(mirror(y) * 32 + mirror(x)) * 3 + c]);
            (0..40).map(pixel).collect()
        })
        .collect();
    let mut rows: Vec<Vec<[f64; 3]>> = padded[choice.dy as usize..][..32]
        .iter()
        .map(|row| {
            let crop = &row[choice.dx as usize..][..32];
            let normal = |p: &[u8; 3]| {
                std::array::from_fn(|c| (f64::from(p[c]) - f64::from(MEAN[c])) / f64::from(STD[c]))
            };
            crop.iter().map(normal).collect()
        })
        .collect();
    if choice.flip {
        rows.iter_mut().for_each(|row| row.reverse());
    }
    for row in &mut rows[choice.cut_y as usize..][..8] {
        row[choice.cut_x as usize..][..8].fill([0.0; 3]);
    }
    rows.concat().concat()
}

/// The subtraction is exact to half an ulp of a value below 256 and the product adds two more relative
/// roundings: 2^-17 / 62 + 2 * 2^-24 * 2.1, below 4e-7.
const TOLERANCE: f64 = 4e-7;

#[test]
fn augmentation_is_pad_crop_flip_normalise_cut() {
    let image = split(1).images;
    let corners = [0, 1, 4, 7, 8];
    for (dy, dx) in corners.iter().flat_map(|&y| corners.map(|x| (y, x))) {
        for (flip, cut_y, cut_x) in [(false, 0, 24), (true, 24, 3), (true, 11, 0)] {
            let choice = Choice { dy, dx, flip, cut_y, cut_x };
            let mut out = vec![f32::NAN; IMAGE];
            choice.apply(&SET.pixels, &image, &mut out);
            for (i, (found, expected)) in out.iter().zip(reference(&image, &choice)).enumerate() {
                assert!(
                    (f64::from(*found) - expected).abs() < TOLERANCE,
                    "{choice:?} at {i}: {found} {expected}"
                );
            }
        }
    }
}

#[test]
fn centre_crop_is_the_normalised_image_outside_the_cut() {
    let image = split(1).images;
    let (mut plain, mut out) = (vec![0.0; IMAGE], vec![0.0; IMAGE]);
    normalise(&SET.pixels, &image, &mut plain);
    Choice { dy: 4, dx: 4, flip: false, cut_y: 24, cut_x: 24 }.apply(&SET.pixels, &image, &mut out);
    assert_eq!(plain[..24 * 96], out[..24 * 96]);
    assert_eq!(out.iter().filter(|&&v| v == 0.0).count(), 8 * 8 * 3);
}

/// The expression that every device must reproduce, and its distance from the exact one.
#[test]
fn normalisation_is_one_subtraction_and_one_product() {
    let values: Vec<u8> = (0..3 * 256 * 4).map(|i| (i / 3 % 256) as u8).collect();
    let mut out = vec![0.0; values.len()];
    normalise(&SET.pixels, &values, &mut out);
    for (i, (&v, &found)) in values.iter().zip(&out).enumerate() {
        let c = i % 3;
        let inverse: f32 = 1.0 / STD[c];
        assert_eq!(found.to_bits(), ((f32::from(v) - MEAN[c]) * inverse).to_bits());
        let exact = (f64::from(v) - f64::from(MEAN[c])) / f64::from(STD[c]);
        assert!((f64::from(found) - exact).abs() < TOLERANCE);
    }
}

/// A kernel draws the same from one Philox block; this is its definition, apart from the library's stream.
#[test]
fn choice_comes_from_one_block() {
    for index in 0..2000 {
        let (epoch, seed) = (index % 7, SEED + u64::from(index % 3) * 0x1_0000_0000);
        let words = philox([0, index, epoch, 2], [seed as u32, (seed >> 32) as u32]);
        let scaled = |word: u32, n: u64| ((u64::from(word) * n) >> 32) as u32;
        let (crop, cut) = (scaled(words[0], 81), scaled(words[1], 625));
        let expected = Choice {
            dy: crop / 9,
            dx: crop % 9,
            flip: words[2] & 0x8000_0000 != 0,
            cut_y: cut / 25,
            cut_x: cut % 25,
        };
        assert_eq!(Choice::draw(seed, epoch, index), expected);
    }
}

/// Pearson's statistic of counts that should be equal, in standard deviations from its mean: it has k - 1
/// degrees of freedom, so mean k - 1 and variance 2 (k - 1).
fn chi_square(counts: &[u32]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    let statistic: f64 = counts.iter().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
    let freedom = counts.len() as f64 - 1.0;
    (statistic - freedom) / (2.0 * freedom).sqrt()
}

#[test]
fn choices_are_uniform_and_independent() {
    let (mut crops, mut cuts, mut flips) = ([0; 81], [0; 625], [0; 2]);
    let (mut crop_and_flip, mut next_epoch) = ([0; 162], [0; 81]);
    for (epoch, index) in (0..4).flat_map(|epoch| (0..50_000).map(move |index| (epoch, index))) {
        let choice = Choice::draw(SEED, epoch, index);
        let crop = (choice.dy * 9 + choice.dx) as usize;
        crops[crop] += 1;
        cuts[(choice.cut_y * 25 + choice.cut_x) as usize] += 1;
        flips[usize::from(choice.flip)] += 1;
        crop_and_flip[2 * crop + usize::from(choice.flip)] += 1;
        let next = Choice::draw(SEED, epoch + 1, index);
        next_epoch[((choice.dy + next.dy) % 9 * 9 + (choice.dx + next.dx) % 9) as usize] += 1;
    }
    // With this fixed seed; five deviations would be exceeded by chance less than once in 10,000.
    for (what, counts) in [
        ("crops", &crops[..]),
        ("cuts", &cuts),
        ("flips", &flips),
        ("crop and flip", &crop_and_flip),
        ("epochs", &next_epoch),
    ] {
        assert!(chi_square(counts).abs() < 5.0, "{what}: {}", chi_square(counts));
    }
    // The statistic does notice a fault: two crops that never come.
    crops[0] = 0;
    crops[80] = 0;
    assert!(chi_square(&crops) > 100.0);
}

fn batch_of(split: &Split, indices: &[u32], epoch: u32) -> (Vec<u32>, Vec<u8>) {
    let (mut images, mut labels) = (vec![0.0; indices.len() * IMAGE], vec![0; indices.len()]);
    make(split, indices, SEED, epoch, &mut images, &mut labels);
    (images.iter().map(|v| v.to_bits()).collect(), labels)
}

#[test]
fn same_bits_with_one_and_two_threads() {
    let split = split(100);
    let indices = permutation(100, SEED, Purpose::Shuffle, 3);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| batch_of(&split, &indices, 3))
    };
    assert!(with(1) == with(2));
}

/// What batch (epoch, position) must be, one image after the other.
fn expected(split: &Split, batch: usize, epoch: u32, position: u32) -> (Vec<f32>, Vec<u8>) {
    let order = permutation(split.len() as u32, SEED, Purpose::Shuffle, epoch);
    let indices = &order[position as usize * batch..][..batch];
    let mut images = vec![0.0; batch * IMAGE];
    for (&index, out) in indices.iter().zip(images.chunks_mut(IMAGE)) {
        augment(split, index, SEED, epoch, out);
    }
    (images, indices.iter().map(|&i| split.labels[i as usize]).collect())
}

#[test]
fn prefetcher_gives_each_batch_in_any_order() {
    let (count, batch) = (50, 7);
    let split = Arc::new(split(count));
    let mut prefetcher = Prefetcher::new(split.clone(), batch, SEED).unwrap();
    assert_eq!(prefetcher.batches(), 7);
    let in_order = (0..3).flat_map(|epoch| (0..7).map(move |position| (epoch, position)));
    // A resumed run begins anywhere; the same batch twice; back; the last epoch there is.
    let jumps = [(9, 4), (9, 5), (9, 5), (2, 6), (3, 0), (0, 0), (u32::MAX, 6), (0, 0)];
    let (mut images, mut labels) = (vec![0.0; batch * IMAGE], vec![0; batch]);
    for (epoch, position) in in_order.chain(jumps) {
        prefetcher.batch(epoch, position, &mut images, &mut labels).unwrap();
        let (expected_images, expected_labels) = expected(&split, batch, epoch, position);
        assert!(images == expected_images && labels == expected_labels, "epoch {epoch} batch {position}");
    }
}

#[test]
fn an_epoch_holds_each_image_once_but_for_the_dropped() {
    let split = Arc::new(split(50));
    let mut prefetcher = Prefetcher::new(split, 7, SEED).unwrap();
    let (mut images, mut labels, mut seen) = (vec![0.0; 7 * IMAGE], vec![0; 7], Vec::new());
    for position in 0..7 {
        prefetcher.batch(1, position, &mut images, &mut labels).unwrap();
        seen.extend_from_slice(&labels);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 49);
}

#[test]
fn prefetcher_rejects_what_it_cannot_give() {
    let split = Arc::new(split(10));
    for batch in [0, 11] {
        let message = Prefetcher::new(split.clone(), batch, SEED).unwrap_err().to_string();
        assert!(
            message.contains(&format!("batch of {batch} images")) && message.contains("set of 10"),
            "{message}"
        );
    }
    let mut prefetcher = Prefetcher::new(split.clone(), 4, SEED).unwrap();
    let (mut images, mut labels) = (vec![0.0; 4 * IMAGE], vec![0; 4]);
    let error = prefetcher.batch(0, 2, &mut images, &mut labels).unwrap_err();
    assert!(matches!(error, Error::Position { position: 2, batches: 2 }));
    let error = prefetcher.batch(0, 0, &mut images[1..], &mut labels).unwrap_err();
    assert!(matches!(error, Error::Buffer { what: "images", .. }));
    let error = prefetcher.batch(0, 0, &mut images, &mut labels[1..]).unwrap_err();
    assert!(matches!(error, Error::Buffer { what: "labels", .. }));
    // An error costs nothing: the next request is served.
    prefetcher.batch(0, 1, &mut images, &mut labels).unwrap();
    assert!(images == expected(&split, 4, 0, 1).0);
}

/// Dropping it while it works, and without ever asking, ends its thread, which lets go of the data.
#[test]
fn dropping_joins_the_thread() {
    let split = Arc::new(split(64));
    for ask in [false, true].repeat(50) {
        let mut prefetcher = Prefetcher::new(split.clone(), 32, SEED).unwrap();
        if ask {
            prefetcher.batch(0, 1, &mut vec![0.0; 32 * IMAGE], &mut [0; 32]).unwrap();
        }
        drop(prefetcher);
        assert_eq!(Arc::strong_count(&split), 1);
    }
}

//! Scoring samples and choosing the weights with the largest scores.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Error, Mask, Quota};
use crate::data::augment::{augment, normalise};
use crate::data::{IMAGE, Split};
use crate::device::{self};
use crate::graph::scoring::Rule;
use crate::graph::{Network, Scoring};
use crate::ops::Backend;
use crate::rng::{Purpose, Stream, permutation};

/// Samples scored at once, at most. Enough to fill a device; their activations all stay alive.
pub const BATCH: usize = 64;

/// In which order a split's images are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// As an epoch of training shuffles them.
    #[default]
    Shuffled,
    /// As they lie.
    Sequential,
}

/// Which images are scored, and how they are prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Samples {
    /// Images of the order before the first.
    pub first: usize,
    /// How many of those that follow.
    pub count: usize,
    /// The order.
    pub order: Order,
    /// Whether they are augmented as in training.
    pub augment: bool,
    /// Of order and augmentation.
    pub seed: u64,
    /// Likewise: the samples are what an epoch of training draws first.
    pub epoch: u32,
}

impl Samples {
    /// Whether a split of `images` has so many.
    ///
    /// # Errors
    /// When it has not, or none is asked for.
    pub fn check(count: usize, images: usize) -> Result<(), Error> {
        match count {
            0 => Err(Error::NoSample),
            _ if count > images => Err(Error::Samples { asked: count, images }),
            _ => Ok(()),
        }
    }

    /// Hands out normalised images \[n,32,32,3\] and labels \[n\], n being `batch` and, at the end, what is left.
    ///
    /// # Errors
    /// Those of `visit`.
    ///
    /// # Panics
    /// If the split has fewer images.
    pub fn each<E>(
        &self,
        split: &Split,
        batch: usize,
        mut visit: impl FnMut(&[f32], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let order = match self.order {
            Order::Shuffled => permutation(split.len() as u32, self.seed, Purpose::Shuffle, self.epoch),
            Order::Sequential => (0..split.len() as u32).collect(),
        };
        let mut images = vec![0.0; batch * IMAGE];
        for indices in order[self.first..][..self.count].chunks(batch) {
            let images = &mut images[..indices.len() * IMAGE];
            images.par_chunks_exact_mut(IMAGE).zip(indices).for_each(|(out, &index)| {
                let image = split.image(index as usize);
                match self.augment {
                    true => augment(image, self.seed, self.epoch, index, out),
                    false => normalise(image, out),
                }
            });
            let labels: Vec<u8> = indices.iter().map(|&index| split.labels[index as usize]).collect();
            visit(images, &labels)?;
        }
        Ok(())
    }
}

/// Scores every weight anew, by these samples of a split.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// If the split has fewer images.
pub fn score<B: Backend>(
    network: &mut Network<B>,
    scoring: &mut Scoring<B>,
    rule: Rule,
    split: &Split,
    samples: &Samples,
) -> Result<(), device::Error> {
    scoring.clear(network)?;
    let batch = scoring.batch();
    samples.each(split, batch, |images, labels| scoring.add(network, rule, images, labels))
}

/// The mask of the largest scores: the classifier whole, and of the rest what the quota leaves.
///
/// # Errors
/// When the device fails.
pub fn largest<B: Backend>(
    network: &mut Network<B>,
    scoring: &mut Scoring<B>,
    quota: Quota,
) -> Result<Mask, device::Error> {
    let chosen = scoring.top_k(network, quota.scored, quota.chosen)?;
    Ok(with_classifier(chosen, quota, network.graph().layout.weight_count()))
}

/// A mask by lot: the largest of scores that are uniform random numbers, each following from seed, epoch and index.
///
/// # Errors
/// When the device fails.
pub fn random<B: Backend>(
    network: &mut Network<B>,
    quota: Quota,
    seed: u64,
    epoch: u32,
) -> Result<Mask, device::Error> {
    let draw = |index: usize| Stream::new(seed, Purpose::Mask, epoch, index as u32).uniform();
    let scores: Vec<f32> = (0..quota.scored).into_par_iter().map(draw).collect();
    let backend = network.backend();
    let scores = backend.vector(&scores)?;
    let chosen = backend.top_k(&scores, quota.scored, quota.chosen)?;
    Ok(with_classifier(chosen, quota, network.graph().layout.weight_count()))
}

fn with_classifier(mut indices: Vec<u32>, quota: Quota, weights: usize) -> Mask {
    indices.extend(quota.scored as u32..weights as u32);
    Mask { indices, weights }
}

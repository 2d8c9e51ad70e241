//! The images whose gradients score weights.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::data::augment::{augment, normalise};
use crate::data::{IMAGE, Split};
use crate::rng::{Purpose, permutation};

/// The order in which a split's images are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// As an epoch of training shuffles them.
    #[default]
    Shuffled,
    /// As they lie in the data set.
    Sequential,
}

/// The images that are scored, and how they are prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Samples {
    /// The place in the order of the first sample.
    pub first: usize,
    /// The number of samples.
    pub count: usize,
    /// The order.
    pub order: Order,
    /// Whether they are augmented as in training.
    pub augment: bool,
    /// The seed of order and augmentation.
    pub seed: u64,
    /// The epoch of order and augmentation: the samples are the images that it would train on first.
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

    /// Hands out normalised images \[n,32,32,3\] and labels \[n\], n being `batch` and, at the end, what is
    /// left.
    ///
    /// # Errors
    /// When `visit` fails, its error.
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
            images.par_chunks_exact_mut(IMAGE).zip(indices).for_each(|(out, &index)| match self.augment {
                true => augment(split, index, self.seed, self.epoch, out),
                false => normalise(&split.set.pixels, split.image(index as usize), out),
            });
            let labels: Vec<u8> = indices.iter().map(|&index| split.labels[index as usize]).collect();
            visit(images, &labels)?;
        }
        Ok(())
    }
}

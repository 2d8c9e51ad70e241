//! Masks: the weights that training may change (docs/METHOD.md, "Masks").
//!
//! A mask is a set of canonical indices, ascending. It knows nothing of layers but where the classifier
//! begins. The kinds of mask differ in how they score weights ([`kinds`]); the largest scores are kept
//! ([`select`]).

pub mod file;
pub mod kinds;
mod samples;
pub mod select;
pub mod table;

use std::ops::Range;

use crate::graph::Layout;

pub use kinds::{Choice, Kind};
pub use samples::{Order, Samples};
pub use select::Draw;

/// Why there can be no such mask.
#[allow(missing_docs)] // of fields
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Workers' masks that share no weight need more than there are.
    #[error(
        "{workers} masks of {kept} weights that share none take more than the {weights} that the model has"
    )]
    TooMany { workers: usize, kept: usize, weights: usize },
    /// Not a share of the weights.
    #[error("a keep ratio of {ratio} is not above 0 and at most 1")]
    Ratio { ratio: f64 },
    /// The classifier, which is always kept, leaves nothing to choose.
    #[error(
        "a keep ratio of {ratio} keeps {kept} of {weights} weights, and the classifier \
         alone has {classifier}: it must be at \
         least {least:.2e}"
    )]
    TooSmall {
        ratio: f64,
        kept: usize,
        weights: usize,
        classifier: usize,
        /// The least share that leaves a weight to choose.
        least: f64,
    },
    /// More samples than there are images.
    #[error("{asked} samples were asked for, and there are {images} images")]
    Samples { asked: usize, images: usize },
    /// No sample.
    #[error("scores need at least 1 sample")]
    NoSample,
    /// Not ascending indices of the flat vector.
    #[error(
        "index {index} at place {place} of a mask over {weights} weights: indices must \
         ascend and lie below that"
    )]
    Index { index: u32, place: usize, weights: usize },
}

/// How many weights a mask keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How many weights are kept in all.
    pub kept: usize,
    /// Weights before the classifier, among which is chosen.
    pub scored: usize,
    /// How many of them are kept.
    pub chosen: usize,
}

/// The classifier's range, at the end of the flat vector: `fc.*`, which only ResNets have. Empty without one.
pub fn classifier(layout: &Layout) -> Range<usize> {
    let end = layout.weight_count();
    let tail = layout.parameters.iter().rev().take_while(|p| p.name.starts_with("fc."));
    tail.last().map_or(end, |first| first.offset)..end
}

impl Quota {
    /// What a keep ratio means for a model: floor(weights * ratio) in all, the classifier among them.
    ///
    /// # Errors
    /// When it is no ratio, or leaves nothing beside the classifier.
    pub fn new(layout: &Layout, ratio: f64) -> Result<Quota, Error> {
        if !(ratio > 0.0 && ratio <= 1.0) {
            return Err(Error::Ratio { ratio });
        }
        let (weights, classifier) = (layout.weight_count(), classifier(layout));
        let kept = (weights as f64 * ratio).floor() as usize;
        if kept <= classifier.len() {
            let least = (classifier.len() + 1) as f64 / weights as f64;
            return Err(Error::TooSmall { ratio, kept, weights, classifier: classifier.len(), least });
        }
        Ok(Quota { kept, scored: classifier.start, chosen: kept - classifier.len() })
    }

    /// What so many workers keep between them when they share no weight: the classifier once.
    ///
    /// # Errors
    /// When there are not as many weights.
    pub fn times(self, workers: usize) -> Result<Quota, Error> {
        let weights = self.scored + self.kept - self.chosen;
        match self.kept.checked_mul(workers).filter(|&kept| kept <= weights) {
            Some(kept) => Ok(Quota { kept, chosen: self.chosen + kept - self.kept, ..self }),
            None => Err(Error::TooMany { workers, kept: self.kept, weights }),
        }
    }
}

/// Canonical indices of the weights that are kept, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    indices: Vec<u32>,
    weights: usize,
}

impl Mask {
    /// A mask over a flat vector of `weights` elements.
    ///
    /// # Errors
    /// When the indices do not ascend or one lies beyond the vector.
    pub fn new(indices: Vec<u32>, weights: usize) -> Result<Mask, Error> {
        let beyond = indices.iter().position(|&i| i as usize >= weights);
        let place = indices.windows(2).position(|pair| pair[0] >= pair[1]).map(|place| place + 1);
        match beyond.into_iter().chain(place).min() {
            Some(place) => Err(Error::Index { index: indices[place], place, weights }),
            None => Ok(Mask { indices, weights }),
        }
    }

    /// One worker's mask when the weights are dealt out in turn, by ascending index: it shares none with the
    /// others', and has its even share of every layer.
    pub fn dealt(&self, worker: usize, workers: usize) -> Mask {
        let indices = self.indices.iter().skip(worker).step_by(workers).copied().collect();
        Mask { indices, weights: self.weights }
    }

    /// The indices of the weights that are kept, ascending.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// How many weights are kept.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether no weight is kept.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Length of the flat vector.
    pub fn weight_count(&self) -> usize {
        self.weights
    }

    /// How many weights of a range of the flat vector are kept. Parameters have the same range in either
    /// order.
    pub fn kept(&self, range: &Range<usize>) -> usize {
        self.within(range).len()
    }

    /// The kept indices within a range.
    pub fn within(&self, range: &Range<usize>) -> &[u32] {
        let [from, to] =
            [range.start, range.end].map(|end| self.indices.partition_point(|&i| (i as usize) < end));
        &self.indices[from..to]
    }

    /// How many weights both masks keep in a range.
    pub fn shared(&self, other: &Mask, range: &Range<usize>) -> usize {
        let (mut ours, mut theirs) = (self.within(range), other.within(range));
        let mut shared = 0;
        while let (Some(a), Some(b)) = (ours.first(), theirs.first()) {
            shared += usize::from(a == b);
            if a <= b {
                ours = &ours[1..];
            }
            if b <= a {
                theirs = &theirs[1..];
            }
        }
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Model;

    #[test]
    fn indices_must_ascend_within_the_vector() {
        assert_eq!(Mask::new(vec![0, 3, 9], 10).unwrap().indices(), [0, 3, 9]);
        let refused = |indices: &[u32]| Mask::new(indices.to_vec(), 10).unwrap_err();
        assert_eq!(refused(&[0, 10]), Error::Index { index: 10, place: 1, weights: 10 });
        assert_eq!(refused(&[4, 4]), Error::Index { index: 4, place: 1, weights: 10 });
        assert_eq!(refused(&[0, 5, 3, 12]), Error::Index { index: 3, place: 2, weights: 10 });
        assert!(Mask::new(vec![], 0).unwrap().is_empty());
    }

    #[test]
    fn counts_within_ranges() {
        let a = Mask::new(vec![1, 2, 5, 7, 8], 10).unwrap();
        let b = Mask::new(vec![0, 2, 7, 9], 10).unwrap();
        assert_eq!((a.kept(&(0..10)), a.kept(&(2..8)), a.kept(&(3..5))), (5, 3, 0));
        assert_eq!((a.shared(&b, &(0..10)), a.shared(&b, &(3..10)), b.shared(&a, &(0..7))), (2, 1, 1));
    }

    #[test]
    fn dealt_masks_share_nothing() {
        let mask = Mask::new(vec![1, 2, 5, 7, 8, 11, 12], 13).unwrap();
        let dealt = [0, 1, 2].map(|worker| mask.dealt(worker, 3));
        assert_eq!(dealt.each_ref().map(Mask::indices), [&[1, 7, 12][..], &[2, 8], &[5, 11]]);
        assert_eq!(mask.dealt(0, 1), mask);
        let quota = Quota::new(&Model::Resnet18.graph(64).unwrap().layout, 0.3).unwrap();
        let three = quota.times(3).unwrap();
        assert_eq!((three.kept, three.scored), (3 * quota.kept, quota.scored));
        // The classifier is among them once.
        assert_eq!(three.kept - three.chosen, quota.kept - quota.chosen);
        let error = quota.times(4).unwrap_err();
        assert!(matches!(error, Error::TooMany { workers: 4, .. }), "{error}");
        // All the weights there are, and no more.
        let half = Quota::new(&Model::Resnet9.graph(64).unwrap().layout, 0.5).unwrap();
        assert_eq!(half.times(2), Ok(Quota { kept: 6_573_120, scored: 6_573_120, chosen: 6_573_120 }));
    }

    #[test]
    fn quotas_count_the_classifier() {
        let layout = |model: Model| model.graph(64).unwrap().layout;
        let [nine, thirty_four] = [Model::Resnet9, Model::Resnet34].map(layout);
        // 6,573,120 * 0.02 = 131,462.4; no classifier is set apart.
        let quota = Quota::new(&nine, 0.02).unwrap();
        assert_eq!(quota, Quota { kept: 131_462, scored: 6_573_120, chosen: 131_462 });
        // 21,282,122 * 0.005 = 106,410.61, of which fc has 512 * 10 + 10.
        let quota = Quota::new(&thirty_four, 0.005).unwrap();
        assert_eq!(quota, Quota { kept: 106_410, scored: 21_276_992, chosen: 106_410 - 5_130 });
        assert_eq!(Quota::new(&nine, 1.0).unwrap().chosen, 6_573_120);

        let error = Quota::new(&thirty_four, 0.0002).unwrap_err();
        assert!(error.to_string().ends_with("it must be at least 2.41e-4"), "{error}");
        assert!(Quota::new(&thirty_four, 2.42e-4).is_ok());
        // The classifier and one weight; the classifier alone; nothing.
        assert_eq!(Quota::new(&thirty_four, 5_131.5 / 21_282_122.0).unwrap().chosen, 1);
        for (layout, ratio) in [(&thirty_four, 5_130.5 / 21_282_122.0), (&nine, 1e-7)] {
            assert!(matches!(Quota::new(layout, ratio), Err(Error::TooSmall { .. })), "{ratio}");
        }
        for ratio in [0.0, -0.1, 1.000_001, f64::NAN, f64::INFINITY] {
            assert!(matches!(Quota::new(&nine, ratio), Err(Error::Ratio { .. })), "{ratio}");
        }
    }
}

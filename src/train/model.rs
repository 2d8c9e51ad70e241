//! The model that a run trains: its network, and how it is scored and evaluated.

use std::ops::Range;
use std::sync::Arc;

use super::{Plans, evaluate};
use crate::data::Split;
use crate::device::Error;
use crate::graph::{Network, Scoring};
use crate::mask::kinds::fisher;
use crate::mask::{Mask, Quota};
use crate::ops::Totals;
use crate::optim::TrainingBackend;

/// The model that all workers share: a single worker trains it, several merge into it.
pub(super) struct SharedModel<B: TrainingBackend> {
    network: Network<B>,
    /// Buffers for scoring samples, if masks are chosen by scores.
    scoring: Option<Scoring<B>>,
    test: B::Data,
    test_images: usize,
    /// An evaluation step, where the device records steps.
    evaluation: Option<B::Recording>,
}

impl<B: TrainingBackend> SharedModel<B> {
    /// Allocates a network that begins with the given weights (memory order) and running statistics.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(
        mut backend: B,
        plans: Plans<B>,
        test: Split,
        (weights, running): (&[f32], &[f32]),
    ) -> Result<Self, Error> {
        let Plans { graph, training, inference, scoring } = plans;
        let test_images = test.len();
        let test = backend.data(&Arc::new(test), None)?;
        let mut network = Network::new(graph, (Some(training), inference), backend, weights, running)?;
        let scoring = scoring.map(|plan| Scoring::new(&mut network, plan)).transpose()?;
        Ok(SharedModel { network, scoring, test, test_images, evaluation: None })
    }

    /// The network with the shared weights.
    pub fn network(&mut self) -> &mut Network<B> {
        &mut self.network
    }

    /// The network, and the buffers for scoring samples if masks are chosen by scores.
    pub fn scoring(&mut self) -> (&mut Network<B>, Option<&mut Scoring<B>>) {
        (&mut self.network, self.scoring.as_mut())
    }

    /// The mask of the largest scores, if masks are chosen by scores.
    ///
    /// # Errors
    /// When the device fails.
    pub fn largest(&mut self, quota: Quota) -> Result<Option<Mask>, Error> {
        let (network, scoring) = self.scoring();
        scoring.map(|scoring| fisher::largest(network, scoring, quota)).transpose()
    }

    /// The part of the test images that a worker evaluates: whole batches, so that there are no more batches
    /// than a single worker has.
    pub fn test_part(&self, rank: usize, workers: usize) -> Range<usize> {
        let (batch, images) = (self.network.inference().batch, self.test_images);
        let start = |rank: usize| (images.div_ceil(batch) * rank / workers * batch).min(images);
        start(rank)..start(rank + 1)
    }

    /// Totals over a part of the test images; none if `goes_on`, told after each batch how many images it
    /// had, said no.
    pub fn evaluate(
        &mut self,
        part: Range<usize>,
        mut goes_on: impl FnMut(usize) -> bool,
    ) -> Result<Option<Totals>, Error> {
        let SharedModel { network, test, evaluation, .. } = self;
        evaluate(network, test, part, evaluation, |_, n| Ok(goes_on(n)))
    }
}

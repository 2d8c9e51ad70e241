//! The Fisher kind: a weight's score is the sum over samples of its own gradient's square.

use crate::data::Split;
use crate::device;
use crate::graph::scoring::{self, ScoreRule};
use crate::graph::{self, Graph, Network, Plan, Scoring};
use crate::mask::select::with_classifier;
use crate::mask::{Mask, Quota, Samples};
use crate::ops::Backend;

/// Samples scored at once, at most: enough to fill a device. Their activations all stay alive.
pub const BATCH: usize = 64;

/// Returns the plan by which so many samples are scored.
///
/// # Errors
/// As [`Plan::new`].
pub fn plan<B: Backend>(graph: &Graph, samples: usize) -> Result<Plan<B>, graph::Error> {
    scoring::plan(graph, samples.min(BATCH))
}

/// Scores every weight anew, by these samples of a split. `watch` is told after each batch how many samples
/// it had, and may end the scoring by false; then false is returned.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// If the split has fewer images.
pub fn score<B: Backend>(
    network: &mut Network<B>,
    scoring: &mut Scoring<B>,
    rule: ScoreRule,
    (split, samples): (&Split, &Samples),
    watch: &mut dyn FnMut(usize) -> bool,
) -> Result<bool, device::Error> {
    scoring.clear(network)?;
    let scored = samples.each(split, scoring.batch(), |images, labels| {
        scoring.add(network, rule, images, labels).map_err(Some)?;
        if watch(labels.len()) { Ok(()) } else { Err(None) }
    });
    match scored {
        Err(Some(error)) => Err(error),
        scored => Ok(scored.is_ok()),
    }
}

/// Returns the mask of the largest scores: the classifier whole, and of the rest as many as the quota leaves.
///
/// # Errors
/// When a score is not finite, or the device fails.
pub fn largest<B: Backend>(
    network: &mut Network<B>,
    scoring: &mut Scoring<B>,
    quota: Quota,
) -> Result<Mask, device::Error> {
    let chosen = scoring.top_k(network, quota.scored, quota.chosen)?;
    Ok(with_classifier(chosen, quota, &network.graph().layout))
}

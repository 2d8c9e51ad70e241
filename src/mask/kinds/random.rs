//! The random kind: scores are uniform random numbers, each following from seed, selection and index.

use rayon::prelude::*;

use crate::device::Error;
use crate::graph::Network;
use crate::mask::select::Draw;
use crate::ops::Backend;
use crate::rng::{Purpose, Stream};

/// Returns a score for each weight before the classifier, in canonical order.
///
/// # Errors
/// None.
pub fn scores<B: Backend>(_: &mut Network<B>, draw: &Draw) -> Result<Vec<f32>, Error> {
    let score = |index: usize| Stream::new(draw.seed, Purpose::Mask, draw.number, index as u32).uniform();
    Ok((0..draw.quota.scored).into_par_iter().map(score).collect())
}

//! What a run starts from: weights and a mask of files, as its settings name them.

use std::path::Path;

use super::Error;
use crate::checkpoint::chain::{Chain, Restored};
use crate::checkpoint::{Hash, weights};
use crate::distributed::{self, Communicator};
use crate::graph::Layout;
use crate::mask::{Mask, Quota, file};
use crate::settings::Config;
use crate::train::Start;

/// Reads what a new run starts from, and notes in its configuration what that was. `tell` takes what the user
/// should know of it.
///
/// # Errors
/// When a file cannot be read or is of another model, or the mask was made from other weights.
pub(super) fn read(config: &mut Config, layout: &Layout, tell: &mut dyn FnMut(&str)) -> Result<Start, Error> {
    if !config.start.has_files() {
        return Ok(Start::default());
    }
    let model = match &config.start.weights {
        Some(path) => Some(read_model(path, config, layout, tell)?),
        None => None,
    };
    let digest = match &model {
        Some((weights, running)) => weights::digest(layout, weights, running),
        None => {
            let (weights, running) = layout.initial_model(config.train.seed);
            weights::digest(layout, &weights, &running)
        }
    };
    config.start.weights_digest = Some(digest);
    let Some(path) = config.start.mask.clone() else { return Ok(Start { model, mask: None }) };
    let (about, mask) = read_mask(&path, config, layout)?;
    match about.made {
        None => tell(&format!(
            "{}: it does not say from which weights the mask was made, as it was written by a former version",
            path.display()
        )),
        Some(made) if made.weights_digest == digest || config.start.mask_of_other_weights => {}
        Some(made) => {
            let weights = made.weights;
            return Err(Error::MaskOfOtherWeights { path, weights, made: made.weights_digest, run: digest });
        }
    }
    config.mask.keep_ratio = about.keep_ratio;
    config.start.mask_digest = Some(Hash::of_indices(mask.indices()));
    Ok(Start { model, mask: Some(mask) })
}

/// Reads what a run that goes on still takes from where it started: the weights, until it has a checkpoint,
/// and the mask, until it is in force.
///
/// # Errors
/// When a file cannot be read, or holds something else than when the run began.
pub(super) fn again(
    config: &Config,
    layout: &Layout,
    chain: &Chain,
    restored: Option<&Restored>,
) -> Result<Start, Error> {
    let mut start = Start::default();
    if let (Some(path), None) = (&config.start.weights, restored) {
        let (weights, running) = read_model(path, config, layout, &mut |_| {})?;
        let found = weights::digest(layout, &weights, &running);
        same(path, "weights", config.start.weights_digest, found)?;
        start.model = Some((weights, running));
    }
    let in_force = restored.is_some_and(|restored| restored.mask.is_some());
    if let (Some(path), false) = (&config.start.mask, in_force) {
        let known = config.start.mask_digest;
        let stored = known.map(|known| chain.stored_mask(known)).transpose()?.flatten();
        let mask = match stored {
            Some(indices) => Mask::new(indices, layout.weight_count())?,
            None => read_mask(path, config, layout)?.1,
        };
        same(path, "mask", known, Hash::of_indices(mask.indices()))?;
        start.mask = Some(mask);
    }
    Ok(start)
}

/// Hands what the root has read to the other processes.
///
/// # Errors
/// When another process does not answer.
pub(super) fn spread(comm: &mut dyn Communicator, start: Start) -> Result<Start, distributed::Error> {
    if comm.local().len() == comm.size() {
        return Ok(start);
    }
    let mut bytes = if comm.is_root() { pack(&start) } else { vec![] };
    comm.broadcast(&mut bytes)?;
    Ok(if comm.is_root() { start } else { unpack(&bytes) })
}

/// Lengths in what [`pack`] gives: of the weights, the statistics, the indices, and the mask's flat vector.
const LENGTHS: usize = 4;

/// A start as bytes.
fn pack(start: &Start) -> Vec<u8> {
    let (weights, running) = start.model.as_ref().map_or((&[][..], &[][..]), |(w, r)| (w, r));
    let (indices, count) = start.mask.as_ref().map_or((&[][..], 0), |m| (m.indices(), m.weight_count()));
    let lengths: [u64; LENGTHS] =
        [weights.len(), running.len(), indices.len(), count].map(|length| length as u64);
    let parts: [&[u8]; LENGTHS] = [
        bytemuck::cast_slice(&lengths),
        bytemuck::cast_slice(weights),
        bytemuck::cast_slice(running),
        bytemuck::cast_slice(indices),
    ];
    parts.concat()
}

/// The start that [`pack`] was given.
fn unpack(bytes: &[u8]) -> Start {
    let (lengths, rest) = bytes.split_at(LENGTHS * size_of::<u64>());
    let lengths: Vec<u64> = bytemuck::allocation::pod_collect_to_vec(lengths);
    let [weights, running, indices, count] = [0, 1, 2, 3].map(|i| lengths[i] as usize);
    let (weights, rest) = rest.split_at(weights * size_of::<f32>());
    let (running, rest) = rest.split_at(running * size_of::<f32>());
    let indices = bytemuck::allocation::pod_collect_to_vec(&rest[..indices * size_of::<u32>()]);
    let values = |bytes: &[u8]| bytemuck::allocation::pod_collect_to_vec(bytes);
    Start {
        model: (!weights.is_empty()).then(|| (values(weights), values(running))),
        // The root has read it, so that it is one.
        mask: Mask::new(indices, count).ok().filter(|_| count > 0),
    }
}

/// Weights and running statistics of the run's file of weights: of the tensors that are taken, and the
/// initial ones of all others.
fn read_model(
    path: &Path,
    config: &Config,
    layout: &Layout,
    tell: &mut dyn FnMut(&str),
) -> Result<(Vec<f32>, Vec<f32>), Error> {
    let weights::Loaded { weights, running, notes } = if config.start.is_whole() {
        weights::load(path, layout)?
    } else {
        let (weights, running) = layout.initial_model(config.train.seed);
        weights::load_part(path, layout, &|name| config.start.takes(name), &weights, running)?
    };
    notes.iter().for_each(|note| tell(note));
    Ok((weights, running))
}

/// The mask of a file, which must be of the run's model.
fn read_mask(path: &Path, config: &Config, layout: &Layout) -> Result<(file::About, Mask), Error> {
    let (about, mask) = file::load(path)?;
    if about.id != config.network {
        let (mask, run) = (about.id, config.network);
        return Err(Error::MaskOfOtherModel { path: path.to_path_buf(), mask, run });
    }
    match Quota::new(layout, about.keep_ratio) {
        Ok(quota) if quota.kept == mask.len() => Ok((about, mask)),
        Ok(quota) => {
            let (ratio, kept) = (about.keep_ratio, mask.len());
            let reason = format!("a keep ratio of {ratio} is {} weights, and it keeps {kept}", quota.kept);
            Err(file::Error::NotScores { path: path.to_path_buf(), reason }.into())
        }
        Err(error) => Err(file::Error::Mask { path: path.to_path_buf(), error }.into()),
    }
}

/// Whether a file holds what it held when the run began.
fn same(path: &Path, what: &'static str, began: Option<Hash>, found: Hash) -> Result<(), Error> {
    match began {
        Some(began) if began != found => {
            Err(Error::OtherStart { path: path.to_path_buf(), what, began, found })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_travels_bit_for_bit() {
        // A signalling NaN, of which a conversion would make another.
        let model = Some((vec![f32::from_bits(0x7fa0_0001), -0.0, 3.0], vec![1.5]));
        let mask = Some(Mask::new(vec![0, 2], 3).unwrap());
        for (model, mask) in [(None, None), (model.clone(), None), (None, mask.clone()), (model, mask)] {
            let start = Start { model, mask };
            let back = unpack(&pack(&start));
            assert_eq!(pack(&back), pack(&start));
            assert_eq!((back.model.is_some(), &back.mask), (start.model.is_some(), &start.mask));
        }
    }
}

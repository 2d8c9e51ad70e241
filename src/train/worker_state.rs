//! What several workers have of their own, in checkpoints: the root writes it, and hands it out again.

use std::path::PathBuf;

use super::Error;
use super::merging::{Merging, WORDS, pack, unpack};
use super::saving::Saving;
use super::worker::Worker;
use crate::checkpoint::chain::{
    Part, Restored, Velocity, Worker as WorkerState, Workers, WorkersState, save_workers,
};
use crate::checkpoint::{Hash, Moment, Progress};
use crate::distributed::{self, Communicator};
use crate::graph::Network;
use crate::mask::Mask;
use crate::ops::Totals;
use crate::optim::TrainingBackend;

impl Saving {
    /// Length of a worker's tensor: under a strict mask a value for each weight of its own mask.
    fn length<B: TrainingBackend>(
        &self,
        network: &Network<B>,
        merging: &Merging<B>,
        mask: Option<&Mask>,
        part: Part,
    ) -> usize {
        let layout = &network.graph().layout;
        match (part, mask) {
            (Part::Running, _) => layout.statistic_count(),
            (_, Some(mask)) if self.strict => merging.kept(mask),
            _ => layout.weight_count(),
        }
    }

    /// Writes all workers' own weights, running statistics, velocities and totals, one after another.
    pub(super) fn save_workers<B: TrainingBackend>(
        &self,
        network: &mut Network<B>,
        workers: &mut [Worker<B>],
        merging: &mut Merging<B>,
        mask: Option<&Mask>,
        progress: &Progress,
        running: &[f32],
    ) -> Result<(), Error> {
        let totals = merging.totals(workers.iter().map(|worker| worker.totals).collect())?;
        let local = merging.comm.local();
        if !self.root {
            for rank in local {
                for part in Part::ALL {
                    let length = self.length(network, merging, mask, part);
                    fetch(network, workers, merging, (rank, part, length), &mut |_| {})?;
                }
            }
            return Ok(());
        }
        let weights = network.graph().layout.to_canonical(&network.read_weights()?);
        let [values, statistics, velocity] = Part::ALL.map(|part| self.length(network, merging, mask, part));
        let state = |totals: Totals| WorkerState { totals, values, running: statistics, velocity };
        let workers_state = totals.into_iter().map(state).collect();
        let state = WorkersState {
            at: progress.at,
            model: Hash::of_model(&weights, running),
            workers: workers_state,
            run: merging.remember(),
        };
        save_workers::<Error>(&self.checkpoints(), self.id, &state, |rank, part, take| {
            let length = state.workers[rank].length(part);
            fetch(network, workers, merging, (rank, part, length), take)
        })?;
        Ok(())
    }

    /// Gives every worker what [`Saving::save_workers`] kept of it.
    pub(super) fn restore_workers<B: TrainingBackend>(
        &self,
        network: &mut Network<B>,
        workers: &mut [Worker<B>],
        merging: &mut Merging<B>,
        mask: Option<&Mask>,
        restored: &Restored,
    ) -> Result<(), Error> {
        let size = merging.comm.size();
        let mut file = None;
        if self.root {
            let opened = Workers::open(&Workers::path(&self.checkpoints(), restored.progress.at), self.id)?;
            let weights = network.graph().layout.to_canonical(&restored.weights);
            opened.check_model(Hash::of_model(&weights, &restored.running))?;
            let found = opened.state.workers.len();
            if found != size {
                return Err(Error::Workers { expected: size, found });
            }
            merging.recall(&opened.state.run);
            file = Some(opened);
        }
        let first = merging.comm.local().start;
        for rank in 0..size {
            let totals = file.as_ref().map(|file| file.state.workers[rank].totals).unwrap_or_default();
            if let Some(words) = merging.comm.give(rank, WORDS, &mut || Ok(pack(totals).to_vec()))? {
                workers[rank - first].totals = unpack(&words);
            }
            for part in Part::ALL {
                let length = self.length(network, merging, mask, part);
                let mut read = || match &file {
                    Some(file) => Ok(file.read(rank, part)?),
                    None => Ok(vec![]),
                };
                if let Some(values) = merging.comm.give(rank, length, &mut read)? {
                    workers[rank - first].with(network, |network, worker| {
                        match (part, worker.update.indices()) {
                            (Part::Values, Some(indices)) => network.scatter(indices, &values),
                            (Part::Values, None) => network.write_weights(&values),
                            (Part::Running, _) => network.write_running(&values),
                            (Part::Velocity, _) => worker.update.resume(network, &values),
                        }
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// The root takes a tensor of a worker, whose process sends it; weights and velocity in the order the device has them.
fn fetch<B: TrainingBackend>(
    network: &mut Network<B>,
    workers: &mut [Worker<B>],
    merging: &mut Merging<B>,
    (rank, part, length): (usize, Part, usize),
    take: &mut dyn FnMut(&[f32]),
) -> Result<(), Error> {
    let first = merging.comm.local().start;
    let mut own = || {
        let values =
            workers[rank - first].with(network, |network, worker| match (part, worker.update.indices()) {
                (Part::Values, Some(indices)) => network.gather(indices),
                (Part::Values, None) => network.read_weights(),
                (Part::Running, _) => network.read_running(),
                (Part::Velocity, _) => worker.update.velocity(network),
            })?;
        Ok(values)
    };
    let mut visit = |values: &[f32]| {
        take(values);
        Ok(())
    };
    Ok(merging.comm.fetch(rank, length, &mut own, &mut visit)?)
}

/// Hands what the root restored to the other processes: all they take from it is the model, its mask and the place.
///
/// # Errors
/// When another process does not answer.
pub(super) fn spread(
    comm: &mut dyn Communicator,
    restored: Option<Restored>,
) -> Result<Option<Restored>, distributed::Error> {
    if comm.local().len() == comm.size() {
        return Ok(restored);
    }
    let mut bytes = vec![];
    if let Some(Restored { progress, weights, running, mask, .. }) = &restored {
        let mask_len = mask.as_ref().map_or(u64::MAX, |mask| mask.len() as u64);
        let lengths = [progress.at.epoch.into(), progress.at.step.into(), weights.len() as u64, mask_len];
        bytes.extend_from_slice(bytemuck::cast_slice(&lengths));
        bytes.extend_from_slice(bytemuck::cast_slice(weights));
        bytes.extend_from_slice(bytemuck::cast_slice(mask.as_deref().unwrap_or_default()));
        bytes.extend_from_slice(bytemuck::cast_slice(running));
    }
    comm.broadcast(&mut bytes)?;
    if comm.is_root() || bytes.is_empty() {
        return Ok(restored);
    }
    let (lengths, rest) = bytes.split_at(4 * size_of::<u64>());
    let lengths: Vec<u64> = bytemuck::allocation::pod_collect_to_vec(lengths);
    let masked = lengths[3] != u64::MAX;
    let (weights, rest) = rest.split_at(size_of::<f32>() * lengths[2] as usize);
    let (mask, running) = rest.split_at(if masked { size_of::<u32>() * lengths[3] as usize } else { 0 });
    let mask: Vec<u32> = bytemuck::allocation::pod_collect_to_vec(mask);
    let at = Moment::new(lengths[0] as u32, lengths[1] as u32);
    let progress = Progress { at, ..Progress::default() };
    Ok(Some(Restored {
        path: PathBuf::new(),
        progress,
        weights: bytemuck::allocation::pod_collect_to_vec(weights),
        running: bytemuck::allocation::pod_collect_to_vec(running),
        velocity: Velocity::Absent,
        mask: masked.then_some(mask),
    }))
}

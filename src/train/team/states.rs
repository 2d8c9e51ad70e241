//! Saves and restores each worker's own velocity, replica and totals. Only the root touches files; the other
//! processes send it what their workers have, and are sent what was restored.

use std::path::{Path, PathBuf};

use super::exchanged::own_length;
use super::{Team, Worker};
use crate::checkpoint::chain::{Part, Restored, Velocity, Worker as WorkerState, Workers, WorkersState};
use crate::checkpoint::{EpochExchange, Hash, Moment, Progress, weights};
use crate::device::Error as DeviceError;
use crate::distributed::{self, Communicator};
use crate::graph::layout::Parameter;
use crate::graph::{Layout, ModelId, Network};
use crate::ops::Totals;
use crate::optim::{TrainingBackend, UpdateRule};
use crate::train::clock::Clock;
use crate::train::laps::{Lap, Laps};
use crate::train::{Error, Keep, Snapshot};

/// The shared model, as a [`Keep`] reads it.
struct View<'a, B: TrainingBackend> {
    network: &'a mut Network<B>,
    /// The single worker, where its velocity is kept.
    worker: Option<&'a Worker<B>>,
}

impl<B: TrainingBackend> Snapshot for View<'_, B> {
    fn layout(&self) -> &Layout {
        &self.network.graph().layout
    }

    fn parameter(&mut self, parameter: &Parameter) -> Result<Vec<f32>, Error> {
        Ok(self.network.parameter(parameter)?)
    }

    fn weights(&mut self) -> Result<Vec<f32>, Error> {
        Ok(self.network.read_weights()?)
    }

    fn running(&mut self) -> Result<Vec<f32>, Error> {
        Ok(self.network.read_running()?)
    }

    fn velocity(&mut self) -> Result<Option<Vec<f32>>, Error> {
        Ok(self.worker.map(|worker| worker.update.velocity(self.network)).transpose()?)
    }
}

/// The network's weights and running statistics, for a [`Keep`] that needs no velocity.
pub(in crate::train) fn view<B: TrainingBackend>(network: &mut Network<B>) -> impl Snapshot {
    View { network, worker: None }
}

impl<B: TrainingBackend> Team<B> {
    /// Has the shared model kept as a checkpoint, and before it, of several workers, what each of them has.
    /// Returns the file, at the root.
    ///
    /// # Errors
    /// When a file cannot be written, or the device or another process fails.
    pub fn checkpoint(
        &mut self,
        network: &mut Network<B>,
        clock: &mut Clock,
        keep: &mut dyn Keep,
    ) -> Result<Option<PathBuf>, Error> {
        clock.keep();
        if !self.is_single() {
            let progress = clock.progress(Totals::default());
            if self.resumable {
                self.save_states(network, progress.at, clock.laps(), keep)?;
            }
            return keep.checkpoint(&progress, &mut view(network));
        }
        let worker = &self.workers[0];
        let progress = clock.progress(worker.totals);
        keep.checkpoint(&progress, &mut View { network, worker: self.resumable.then_some(worker) })
    }

    /// Has every worker's own weights, running statistics, velocity and totals kept, one worker after
    /// another.
    fn save_states(
        &mut self,
        network: &mut Network<B>,
        at: Moment,
        laps: &mut Laps,
        keep: &mut dyn Keep,
    ) -> Result<(), Error> {
        let own: Vec<Totals> = self.workers.iter().map(|worker| worker.totals).collect();
        let totals = self.gather(&own)?;
        // The hash takes a pass over the weights, and only the root writes it.
        let model = match self.is_root() {
            true => {
                let (weights, running) = (network.read_weights()?, network.read_running()?);
                weights::digest(&network.graph().layout, &weights, &running)
            }
            false => Hash::default(),
        };
        let [values, running, velocity] = Part::ALL.map(|part| self.length(network, part));
        let worker = |totals| WorkerState { totals, values, running, velocity };
        let exchange = EpochExchange {
            waiting: laps.seconds(Lap::Wait),
            exchanging: laps.seconds(Lap::Exchange),
            ..self.counts
        };
        let workers = totals.into_iter().map(worker).collect();
        let state = WorkersState { at, model, workers, exchange };
        keep.workers(&state, &mut |rank, part, take| {
            let length = state.workers[rank].length(part);
            let Team { comm, workers, .. } = self;
            let first = comm.local().start;
            let mut own = || Ok(workers[rank - first].read(network, part)?);
            let mut visit = |values: &[f32]| {
                take(values);
                Ok(())
            };
            Ok(comm.fetch(rank, length, &mut own, &mut visit)?)
        })
    }

    /// Length of a tensor of a worker's state: under a strict mask one value for each weight of the worker's
    /// own mask.
    fn length(&self, network: &Network<B>, part: Part) -> usize {
        let layout = &network.graph().layout;
        match (part, &self.mask) {
            (Part::Running, _) => layout.statistic_count(),
            (_, Some(mask)) if self.rule == UpdateRule::Strict => own_length(&self.settings, mask),
            _ => layout.weight_count(),
        }
    }

    /// Gives every worker what a checkpoint keeps of it; the network and the mask are already the
    /// checkpoint's.
    ///
    /// # Errors
    /// When the checkpoint holds no velocity or other workers, cannot be read, or the device or another
    /// process fails.
    pub fn restore(
        &mut self,
        network: &mut Network<B>,
        restored: &Restored,
        model: ModelId,
        laps: &mut Laps,
    ) -> Result<(), Error> {
        if !self.is_single() {
            return if self.resumable {
                self.restore_states(network, restored, model, laps)
            } else {
                Err(Error::NoVelocity)
            };
        }
        let (Velocity::Kept(velocity) | Velocity::Dense(velocity)) = &restored.velocity else {
            return Err(Error::NoVelocity);
        };
        let worker = &mut self.workers[0];
        worker.totals = restored.progress.totals;
        Ok(worker.update.resume(network, velocity)?)
    }

    /// Reads the states that lie beside a checkpoint, at the root, and hands them out.
    fn restore_states(
        &mut self,
        network: &mut Network<B>,
        restored: &Restored,
        model: ModelId,
        laps: &mut Laps,
    ) -> Result<(), Error> {
        let size = self.comm.size();
        let mut file = None;
        if self.is_root() {
            let folder = restored.path.parent().unwrap_or(Path::new(""));
            let opened = Workers::open(&Workers::path(folder, restored.progress.at), model)?;
            let weights = network.graph().layout.to_canonical(&restored.weights);
            opened.check_model(Hash::of_model(&weights, &restored.running))?;
            let found = opened.state.workers.len();
            if found != size {
                return Err(Error::Workers { expected: size, found });
            }
            self.counts = opened.state.exchange;
            laps.add(Lap::Wait, self.counts.waiting);
            laps.add(Lap::Exchange, self.counts.exchanging);
            file = Some(opened);
        }
        for rank in 0..size {
            let totals = file.as_ref().map(|file| file.state.workers[rank].totals).unwrap_or_default();
            let words = pack(totals);
            let words = self.comm.give(rank, words.len(), &mut || Ok(words.to_vec()))?;
            let mut parts = vec![];
            for part in Part::ALL {
                let length = self.length(network, part);
                let mut read =
                    || Ok(file.as_ref().map(|file| file.read(rank, part)).transpose()?.unwrap_or_default());
                parts.extend(self.comm.give(rank, length, &mut read)?.map(|values| (part, values)));
            }
            if let Some(words) = words {
                let first = self.comm.local().start;
                let worker = &mut self.workers[rank - first];
                worker.totals = unpack(&words);
                parts.into_iter().try_for_each(|(part, values)| worker.write(network, part, &values))?;
            }
        }
        Ok(())
    }
}

impl<B: TrainingBackend> Worker<B> {
    /// A tensor of this worker's state, weights and velocity in the order in which the device has them.
    fn read(&mut self, network: &mut Network<B>, part: Part) -> Result<Vec<f32>, DeviceError> {
        self.with(network, |network, worker| match (part, worker.update.indices()) {
            (Part::Values, Some(indices)) => network.gather(indices),
            (Part::Values, None) => network.read_weights(),
            (Part::Running, _) => network.read_running(),
            (Part::Velocity, _) => worker.update.velocity(network),
        })
    }

    /// Takes up what [`Worker::read`] gave.
    fn write(&mut self, network: &mut Network<B>, part: Part, values: &[f32]) -> Result<(), DeviceError> {
        self.with(network, |network, worker| match (part, worker.update.indices()) {
            (Part::Values, Some(indices)) => network.scatter(indices, values),
            (Part::Values, None) => network.write_weights(values),
            (Part::Running, _) => network.write_running(values),
            (Part::Velocity, _) => worker.update.resume(network, values),
        })
    }
}

/// 32-bit words of [`Totals`].
const WORDS: usize = 6;

/// Totals as the bits of values that a communicator carries.
pub(super) fn pack(totals: Totals) -> [f32; WORDS] {
    bytemuck::cast([totals.loss.to_bits(), totals.correct, totals.images])
}

/// The totals that [`pack`] was given.
pub(super) fn unpack(words: &[f32]) -> Totals {
    let mut values = [0_u64; 3];
    bytemuck::cast_slice_mut(&mut values).copy_from_slice(words);
    Totals { loss: f64::from_bits(values[0]), correct: values[1], images: values[2] }
}

/// Hands what the root restored to the other processes: all they take from it is the model, its mask and the
/// moment.
///
/// # Errors
/// When another process does not answer.
pub(in crate::train) fn spread(
    comm: &mut dyn Communicator,
    restored: Option<Restored>,
) -> Result<Option<Restored>, distributed::Error> {
    if comm.local().len() == comm.size() {
        return Ok(restored);
    }
    let mut bytes = vec![];
    if let Some(Restored { progress, weights, running, mask, .. }) = &restored {
        let mask_len = mask.as_ref().map_or(u64::MAX, |mask| mask.len() as u64);
        let Moment { epoch, step } = progress.at;
        let lengths = [epoch.into(), step.into(), weights.len() as u64, mask_len];
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
    let at = Moment { epoch: lengths[0] as u32, step: lengths[1] as u32 };
    Ok(Some(Restored {
        path: PathBuf::new(),
        progress: Progress { at, ..Progress::default() },
        weights: bytemuck::allocation::pod_collect_to_vec(weights),
        running: bytemuck::allocation::pod_collect_to_vec(running),
        velocity: Velocity::Absent,
        mask: masked.then_some(mask),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_travel_bit_for_bit() {
        // Words that are signalling NaNs as f32.
        let totals =
            Totals { loss: f64::from_bits(0x7fa0_0001_ff80_1234), correct: 0x7f80_0001, images: u64::MAX };
        let back = unpack(&pack(totals));
        assert_eq!(back.loss.to_bits(), totals.loss.to_bits());
        assert_eq!((back.correct, back.images), (totals.correct, totals.images));
    }
}

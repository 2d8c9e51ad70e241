//! What workers exchange when they merge: the weights that they change.

use std::borrow::Cow;

use super::worker::Worker;
use crate::device;
use crate::distributed::{Aggregate, Communicator};
use crate::graph::Network;
use crate::mask::Mask;
use crate::optim::{TrainingBackend, UpdateRule};
use crate::settings::{WorkerMasks, WorkerSettings};
use crate::train::Error;

/// Which weights the workers of a run change, and so have to exchange.
pub(super) enum Exchanged<B: TrainingBackend> {
    /// A single worker has nobody to exchange with.
    Nothing,
    /// Every worker changes every weight.
    All,
    /// All workers change the same weights.
    Same(B::Indices),
    /// The worker of each rank changes weights that no other changes, all of them equally many.
    Own {
        /// By rank.
        indices: Vec<B::Indices>,
        /// Weights of each worker.
        length: usize,
    },
}

/// The mask of the worker of a rank: under `interleaved` its share of `mask`, else all of it.
pub(super) fn own<'m>(settings: &WorkerSettings, mask: &'m Mask, rank: usize) -> Cow<'m, Mask> {
    match settings.masks {
        WorkerMasks::Interleaved if settings.count > 1 => Cow::Owned(mask.dealt(rank, settings.count)),
        _ => Cow::Borrowed(mask),
    }
}

/// How many weights each worker's mask keeps.
pub(super) fn own_length(settings: &WorkerSettings, mask: &Mask) -> usize {
    match settings.masks {
        // The mask is as many times larger as there are workers.
        WorkerMasks::Interleaved => mask.len() / settings.count,
        WorkerMasks::Same => mask.len(),
    }
}

impl<B: TrainingBackend> Exchanged<B> {
    /// What workers exchange that train every weight.
    pub fn dense(settings: &WorkerSettings) -> Self {
        if settings.count == 1 { Exchanged::Nothing } else { Exchanged::All }
    }

    /// What workers exchange that train what a mask keeps.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn masked(
        settings: &WorkerSettings,
        network: &mut Network<B>,
        mask: &Mask,
        rule: UpdateRule,
    ) -> Result<Self, device::Error> {
        if settings.count == 1 {
            return Ok(Exchanged::Nothing);
        }
        let mut on_device = |mask: &Mask| {
            let order = network.graph().layout.memory_order(mask.indices());
            let indices: Vec<u32> = order.iter().map(|(index, _)| *index).collect();
            network.backend().indices(&indices)
        };
        Ok(match (rule, settings.masks) {
            // Momentum and decay move every weight.
            (UpdateRule::Published, _) => Exchanged::All,
            (UpdateRule::Strict, WorkerMasks::Same) => Exchanged::Same(on_device(mask)?),
            (UpdateRule::Strict, WorkerMasks::Interleaved) => {
                let indices = (0..settings.count).map(|rank| on_device(&own(settings, mask, rank)));
                let indices = indices.collect::<Result<_, _>>()?;
                Exchanged::Own { indices, length: own_length(settings, mask) }
            }
        })
    }

    /// Moves the merged model, which the network has, by what the workers have changed, and gives it to every
    /// worker. Velocities stay as they are. A single worker's model stays as it is, bit for bit.
    ///
    /// # Errors
    /// When the device or another process fails.
    pub fn merge(
        &self,
        settings: &WorkerSettings,
        comm: &mut dyn Communicator,
        network: &mut Network<B>,
        workers: &mut [Worker<B>],
    ) -> Result<(), Error> {
        let first = comm.local().start;
        match self {
            Exchanged::Nothing => return Ok(()),
            Exchanged::All => {
                let mut merged = network.read_weights()?;
                comm.merge(&mut merged, Aggregate::Mean, &mut |rank| {
                    Ok(workers[rank - first].with(network, |network, _| network.read_weights())?)
                })?;
                everywhere(network, workers, |network| network.write_weights(&merged))?;
            }
            Exchanged::Same(indices) => {
                let mut merged = network.gather(indices)?;
                comm.merge(&mut merged, settings.aggregate, &mut |rank| {
                    Ok(workers[rank - first].with(network, |network, _| network.gather(indices))?)
                })?;
                everywhere(network, workers, |network| network.scatter(indices, &merged))?;
            }
            Exchanged::Own { indices, length } => {
                let mut merged: Vec<Vec<f32>> =
                    indices.iter().map(|indices| network.gather(indices)).collect::<Result<_, _>>()?;
                let divisor = match settings.aggregate {
                    // No other worker has changed these weights.
                    Aggregate::Mean => settings.count as f32,
                    Aggregate::Sum => 1.0,
                };
                comm.all_gather(
                    &vec![*length; settings.count],
                    &mut |rank| {
                        let gather = |network: &mut Network<B>, _: &mut _| network.gather(&indices[rank]);
                        Ok(workers[rank - first].with(network, gather)?)
                    },
                    &mut |rank, values| {
                        let merged = merged[rank].iter_mut().zip(values);
                        merged.for_each(|(merged, value)| *merged += (value - *merged) / divisor);
                    },
                )?;
                everywhere(network, workers, |network| {
                    let mut merged = indices.iter().zip(&merged);
                    merged.try_for_each(|(indices, merged)| network.scatter(indices, merged))
                })?;
            }
        }
        let mut running = network.read_running()?;
        comm.merge(&mut running, Aggregate::Mean, &mut |rank| {
            Ok(workers[rank - first].with(network, |network, _| network.read_running())?)
        })?;
        Ok(everywhere(network, workers, |network| network.write_running(&running))?)
    }
}

/// Does the same to the merged model and to every worker's.
fn everywhere<B: TrainingBackend>(
    network: &mut Network<B>,
    workers: &mut [Worker<B>],
    mut write: impl FnMut(&mut Network<B>) -> Result<(), device::Error>,
) -> Result<(), device::Error> {
    write(network)?;
    workers.iter_mut().try_for_each(|worker| worker.with(network, |network, _| write(network)))
}

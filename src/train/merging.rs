//! Workers put their changes together: the network has the merged model, each worker its replica.

use std::borrow::Cow;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::worker::Worker;
use super::{Error, Exchange, Rule};
use crate::device::{self};
use crate::distributed::{Aggregate, Communicator, Traffic, traffic};
use crate::graph::Network;
use crate::mask::Mask;
use crate::ops::Totals;
use crate::optim::TrainingBackend;
use crate::settings::{WorkerMasks, WorkerSettings};

/// What binds this process's workers to each other and to those of other processes.
pub(super) struct Merging<B: TrainingBackend> {
    pub comm: Box<dyn Communicator>,
    settings: WorkerSettings,
    exchanged: Exchanged<B>,
    counts: Counts,
    /// The traffic that is counted, or left out.
    counted: Traffic,
}

/// What has been exchanged in an epoch so far.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Counts {
    merges: u32,
    /// What a worker would have sent in them had all weights been merged.
    dense: u64,
    sent: u64,
    received: u64,
    waiting: f64,
    exchanging: f64,
}

/// Which weights workers change, and so have to exchange.
enum Exchanged<B: TrainingBackend> {
    All,
    /// All workers the same.
    Same(B::Indices),
    /// Each its own, by rank, none that another has.
    Own(Vec<B::Indices>, Vec<usize>),
}

impl<B: TrainingBackend> Merging<B> {
    /// Workers that change all weights.
    pub fn new(comm: Box<dyn Communicator>, settings: WorkerSettings) -> Self {
        let counted = comm.traffic();
        Merging { comm, settings, exchanged: Exchanged::All, counts: Counts::default(), counted }
    }

    /// A worker's mask, of what all keep between them.
    pub fn own<'m>(&self, mask: &'m Mask, rank: usize) -> Cow<'m, Mask> {
        match self.settings.masks {
            WorkerMasks::Same => Cow::Borrowed(mask),
            WorkerMasks::Interleaved => Cow::Owned(mask.dealt(rank, self.settings.count)),
        }
    }

    /// How many weights each worker's mask keeps.
    pub fn kept(&self, mask: &Mask) -> usize {
        match self.settings.masks {
            WorkerMasks::Same => mask.len(),
            // As many times one's as there are workers.
            WorkerMasks::Interleaved => mask.len() / self.settings.count,
        }
    }

    /// From now on workers change what they keep of this mask.
    pub fn exchange(
        &mut self,
        network: &mut Network<B>,
        mask: &Mask,
        rule: Rule,
    ) -> Result<(), device::Error> {
        let on_device = |network: &mut Network<B>, mask: &Mask| {
            let order = network.graph().layout.memory_order(mask.indices());
            let indices: Vec<u32> = order.iter().map(|(index, _)| *index).collect();
            network.backend().indices(&indices)
        };
        self.exchanged = match (rule, self.settings.masks) {
            // Every weight moves.
            (Rule::Published, _) => Exchanged::All,
            (Rule::Strict, WorkerMasks::Same) => Exchanged::Same(on_device(network, mask)?),
            (Rule::Strict, WorkerMasks::Interleaved) => {
                let lengths = vec![self.kept(mask); self.settings.count];
                let indices = (0..self.settings.count).map(|rank| on_device(network, &self.own(mask, rank)));
                Exchanged::Own(indices.collect::<Result<_, _>>()?, lengths)
            }
        };
        Ok(())
    }

    /// Moves the merged model by what the workers have changed, and gives it to every worker. Velocities stay as they are.
    pub fn merge(&mut self, network: &mut Network<B>, workers: &mut [Worker<B>]) -> Result<(), Error> {
        let (began, before) = (Instant::now(), self.seconds());
        let Merging { comm, settings, exchanged, .. } = self;
        let first = comm.local().start;
        let (weights, statistics) =
            (network.graph().layout.weight_count(), network.graph().layout.statistic_count());
        match exchanged {
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
            Exchanged::Own(indices, lengths) => {
                let mut merged: Vec<Vec<f32>> =
                    indices.iter().map(|indices| network.gather(indices)).collect::<Result<_, _>>()?;
                let divisor = match settings.aggregate {
                    // Of the others none has changed these weights.
                    Aggregate::Mean => settings.count as f32,
                    Aggregate::Sum => 1.0,
                };
                comm.all_gather(
                    lengths,
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
                    indices
                        .iter()
                        .zip(&merged)
                        .try_for_each(|(indices, merged)| network.scatter(indices, merged))
                })?;
            }
        }
        let mut running = network.read_running()?;
        comm.merge(&mut running, Aggregate::Mean, &mut |rank| {
            Ok(workers[rank - first].with(network, |network, _| network.read_running())?)
        })?;
        everywhere(network, workers, |network| network.write_running(&running))?;
        // Giving every worker the merged values is part of it.
        let counted = self.seconds() - before;
        self.counts.exchanging += began.elapsed().as_secs_f64() - counted;
        self.counts.merges += 1;
        let (size, rank) = (self.comm.size(), first);
        self.counts.dense += traffic::merge(weights, rank, size).0 + traffic::merge(statistics, rank, size).0;
        Ok(())
    }

    /// Counts the traffic since the last call, which lies in this epoch.
    fn count(&mut self) {
        let (now, before) = (self.comm.traffic(), self.counted);
        self.counts.sent += now.sent - before.sent;
        self.counts.received += now.received - before.received;
        self.counts.waiting += now.waiting - before.waiting;
        self.counts.exchanging += now.exchanging - before.exchanging;
        self.counted = now;
    }

    /// Does `work` whose traffic is no training's: starting, resuming, evaluating, saving.
    pub fn uncounted<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        self.count();
        let done = work(self);
        self.counted = self.comm.traffic();
        done
    }

    /// Takes seconds of training that an exchange has counted as its own out of its time.
    pub fn give_back(&mut self, seconds: f64) {
        self.counts.exchanging -= seconds;
    }

    /// Seconds of exchanges in this epoch so far.
    pub fn seconds(&mut self) -> f64 {
        self.count();
        self.counts.waiting + self.counts.exchanging
    }

    /// What the epoch's exchanges took; the next epoch's begin here.
    pub fn take(&mut self) -> Exchange {
        self.count();
        let Counts { merges, dense, sent, received, waiting, exchanging } = std::mem::take(&mut self.counts);
        Exchange {
            merges,
            sent,
            received,
            share_of_dense: if dense == 0 { 0.0 } else { 100.0 * sent as f64 / dense as f64 },
            waiting_seconds: waiting,
            exchanging_seconds: exchanging,
        }
    }

    /// What is known of an epoch that a checkpoint interrupts, as text. That it is being written does not count.
    pub fn remember(&self) -> String {
        serde_json::to_string(&self.counts).unwrap_or_default()
    }

    /// Takes up what [`Merging::remember`] gave; of anything else nothing is known.
    pub fn recall(&mut self, text: &str) {
        self.counts = serde_json::from_str(text).unwrap_or_default();
    }

    /// Every worker's totals, by rank, at the root; elsewhere those of its own workers, which are given.
    pub fn totals(&mut self, own: Vec<Totals>) -> Result<Vec<Totals>, Error> {
        let first = self.comm.local().start;
        let mut all = vec![];
        for rank in 0..self.comm.size() {
            self.comm.fetch(rank, WORDS, &mut || Ok(pack(own[rank - first]).to_vec()), &mut |words| {
                all.push(unpack(words));
                Ok(())
            })?;
        }
        Ok(if self.comm.is_root() { all } else { own })
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

/// 32-bit words of [`Totals`].
pub(super) const WORDS: usize = 6;

/// Totals as the bits of values that a communicator carries.
pub(super) fn pack(totals: Totals) -> [f32; WORDS] {
    bytemuck::cast([totals.loss.to_bits(), totals.correct, totals.images])
}

/// What [`pack`] made.
pub(super) fn unpack(words: &[f32]) -> Totals {
    let mut values = [0_u64; 3];
    bytemuck::cast_slice_mut(&mut values).copy_from_slice(words);
    Totals { loss: f64::from_bits(values[0]), correct: values[1], images: values[2] }
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

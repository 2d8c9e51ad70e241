//! One of the workers that train a model: its weights, its velocity, its place in the data.

use std::sync::Arc;

use crate::data::Split;
use crate::device::{Error as DeviceError, Place};
use crate::graph::{Layout, Network, Phase, Replica};
use crate::mask::Mask;
use crate::ops::{Position, Totals};
use crate::optim::{Sgd, TrainingBackend, Update, UpdateRule};
use crate::rng::{Purpose, Stream, permutation};
use crate::settings::Config;
use crate::train::Error;
use crate::train::clock::Clock;
use crate::train::laps::Lap;

/// A worker in this process.
pub(super) struct Worker<B: TrainingBackend> {
    /// The worker's number among all workers of the run, from 0.
    pub rank: usize,
    /// Its own weights; none for a single worker, which trains the network's.
    replica: Option<Replica<B>>,
    pub update: Update<B>,
    /// Its images: all training images, or its part of them.
    pub split: Arc<Split>,
    /// The same images, on the device's side, to draw from.
    data: B::Data,
    /// A step of it, where the device records steps.
    recording: Option<B::Recording>,
    /// Totals of the epoch so far.
    pub totals: Totals,
    /// Its name in messages, if it is one of several.
    name: Option<String>,
}

impl<B: TrainingBackend> Worker<B> {
    /// A worker that begins with the network's weights and no velocity. One of several has a
    /// name, and a replica of those weights.
    ///
    /// # Errors
    /// When the device has no room, or images cannot be read ahead.
    pub fn new(
        network: &mut Network<B>,
        config: &Config,
        rank: usize,
        split: Arc<Split>,
        name: Option<String>,
    ) -> Result<Self, DeviceError> {
        let draw = (config.train.batch_size, seed(config.train.seed, rank));
        let data = network.backend().data(&split, Some(draw))?;
        let replica = name.is_some().then(|| network.replica()).transpose()?;
        let update = Update::dense(network, &vec![0.0; network.graph().layout.weight_count()])?;
        Ok(Worker { rank, replica, update, split, data, recording: None, totals: Totals::default(), name })
    }

    /// Does `work` with the network as this worker has it.
    pub fn with<T, E>(
        &mut self,
        network: &mut Network<B>,
        work: impl FnOnce(&mut Network<B>, &mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut replica = self.replica.take();
        replica.iter_mut().for_each(|replica| network.swap(replica));
        let result = work(network, self);
        replica.iter_mut().for_each(|replica| network.swap(replica));
        self.replica = replica;
        result
    }

    /// From now on trains only what its mask keeps.
    pub fn restrict(
        &mut self,
        network: &mut Network<B>,
        mask: &Mask,
        rule: UpdateRule,
    ) -> Result<(), DeviceError> {
        self.with(network, |network, worker| worker.update.restrict(network, mask, rule))?;
        // What was recorded trains other weights.
        self.recording = None;
        Ok(())
    }

    /// Trains from where the clock stands to step `until` of the epoch, and calls `done` with the number of
    /// each step; stops early if that returns false. Returns the step it has come to.
    pub fn train(
        &mut self,
        network: &mut Network<B>,
        config: &Config,
        clock: &mut Clock,
        until: u32,
        done: &mut dyn FnMut(u32) -> Result<bool, Error>,
    ) -> Result<u32, Error> {
        let back = clock.laps().switch(Lap::Train);
        let (from, batch) = (clock.at(), config.train.batch_size);
        let backend = network.backend();
        backend.set_totals(self.totals)?;
        backend.set_rates(&clock.rates(batch), from.step as usize)?;
        let image = from.step as usize * batch;
        backend.seek(&mut self.data, Position { epoch: from.epoch, image })?;
        let mut step = from.step;
        while step < until {
            self.with(network, |network, worker| worker.step(network, config))?;
            step += 1;
            if !B::QUEUES {
                self.read_totals(network, clock, step)?;
            }
            clock.laps().switch(back);
            let goes_on = done(step)?;
            clock.laps().switch(Lap::Train);
            if !goes_on {
                break;
            }
        }
        self.read_totals(network, clock, step)?;
        clock.laps().switch(back);
        Ok(step)
    }

    /// A training step, with the network as this worker has it.
    fn step(&mut self, network: &mut Network<B>, config: &Config) -> Result<(), DeviceError> {
        let n = config.train.batch_size;
        let (momentum, weight_decay) = (config.optimizer.momentum, config.optimizer.weight_decay);
        let sgd = Sgd { momentum: momentum as f32, weight_decay: (weight_decay * n as f64) as f32 };
        let Worker { update, data, recording, .. } = self;
        network.replay(recording, |network| {
            network.draw_batch(Phase::Training, data, n)?;
            network.forward(Phase::Training, n, config.train.label_smoothing as f32)?;
            network.backward(n)?;
            update.step(network, &sgd)
        })
    }

    /// Reads what the steps so far have summed to, up to step `done`.
    fn read_totals(&mut self, network: &mut Network<B>, clock: &Clock, done: u32) -> Result<(), Error> {
        let (totals, fault) = (network.backend().totals()?, network.backend().fault()?);
        if totals.loss.is_finite() && fault.is_none() {
            self.totals = totals;
            return Ok(());
        }
        let step = fault.map_or(done, |fault| fault.step + 1);
        let mut place = describe(&network.graph().layout, fault.map(|fault| fault.place));
        if let Some(name) = &self.name {
            place += &format!(" of {name}");
        }
        let last_loss = self.totals.loss / self.totals.images as f64;
        Err(Error::NotFinite { epoch: clock.at().epoch + 1, step, lr: clock.lr(step), place, last_loss })
    }
}

/// A place in the network's own names.
fn describe(layout: &Layout, place: Option<Place>) -> String {
    let name = |at: usize| {
        let statistic = layout.statistics.iter().find(|statistic| statistic.range().start == at);
        statistic.map_or_else(|| format!("statistic {at}"), |statistic| statistic.name.clone())
    };
    match place {
        Some(Place::Forward(at)) => format!("first in the input of {}", name(at)),
        Some(Place::Backward(at)) => format!("first in the gradient of {}", name(at)),
        Some(Place::Logits) => "first in the logits".into(),
        None => "in the sum of the losses".into(),
    }
}

/// The seed of a worker's order and augmentation; the first has the run's own.
fn seed(run: u64, rank: usize) -> u64 {
    if rank == 0 {
        return run;
    }
    let mut stream = Stream::new(run, Purpose::Worker, 0, rank as u32);
    u64::from(stream.word()) << 32 | u64::from(stream.word())
}

/// A worker's part of the training images: the `rank`-th of `count` equal parts of a fixed permutation. The
/// fewer than `count` images that are left over belong to no worker.
pub(super) fn shard(split: &Split, seed: u64, rank: usize, count: usize) -> Split {
    let order = permutation(split.len() as u32, seed, Purpose::Shard, 0);
    let own = split.len() / count;
    split.select(&order[rank * own..][..own])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic::SET;

    #[test]
    fn shards_share_no_image_and_leave_out_fewer_than_there_are_workers() {
        // An image's label is its place.
        let split = Split { set: &SET, images: vec![0; 17 * crate::data::IMAGE], labels: (0..17).collect() };
        let mut all: Vec<u8> = (0..3).flat_map(|rank| shard(&split, 7, rank, 3).labels).collect();
        all.sort_unstable();
        let unique = all.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(unique && all.len() == 15, "{all:?}");
        assert_ne!(shard(&split, 7, 0, 3), shard(&split, 8, 0, 3));
    }

    #[test]
    fn workers_have_seeds_of_their_own() {
        let mut seeds: Vec<u64> = (0..4).map(|rank| seed(5, rank)).chain([seed(6, 1)]).collect();
        assert_eq!(seeds[0], 5);
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 5);
    }
}

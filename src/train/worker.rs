//! One of the workers that train a model: its weights, its velocity, its place in the data.

use std::sync::Arc;

use super::update::Update;
use crate::data::Split;
use crate::device::Error;
use crate::graph::{Network, Replica};
use crate::ops::Totals;
use crate::optim::TrainingBackend;
use crate::rng::{Purpose, Stream, permutation};
use crate::settings::Config;

/// A worker in this process.
pub(super) struct Worker<B: TrainingBackend> {
    /// From 0, of all workers of the run.
    pub rank: usize,
    /// Its own weights; none for a single worker, which trains the network's.
    replica: Option<Replica<B>>,
    pub update: Update<B>,
    /// Its images, all of them or its part.
    pub split: Arc<Split>,
    /// The same, to draw from.
    pub data: B::Data,
    /// A step of it, where the device records.
    pub recording: Option<B::Recording>,
    /// Of the epoch so far.
    pub totals: Totals,
}

impl<B: TrainingBackend> Worker<B> {
    /// A worker that begins with the network's weights and no velocity.
    ///
    /// # Errors
    /// When the device has no room, or images cannot be read ahead.
    pub fn new(
        network: &mut Network<B>,
        config: &Config,
        rank: usize,
        split: Arc<Split>,
    ) -> Result<Self, Error> {
        let data =
            network.backend().data(&split, Some((config.train.batch_size, seed(config.train.seed, rank))))?;
        let replica = config.several().map(|_| network.replica()).transpose()?;
        let update = Update::dense(network, &vec![0.0; network.graph().layout.weight_count()])?;
        Ok(Worker { rank, replica, update, split, data, recording: None, totals: Totals::default() })
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
}

/// The seed of a worker's order and augmentation; the first has the run's own.
fn seed(run: u64, rank: usize) -> u64 {
    if rank == 0 {
        return run;
    }
    let mut stream = Stream::new(run, Purpose::Worker, 0, rank as u32);
    u64::from(stream.word()) << 32 | u64::from(stream.word())
}

/// A worker's part of the training images: of a fixed permutation the `rank`-th of `count` even parts. What an even cut
/// leaves over, fewer than `count` images, is nobody's.
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

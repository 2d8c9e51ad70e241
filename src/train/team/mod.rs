//! The workers of a run and what binds them: a single worker is a team of one.

mod exchanged;
mod states;
mod worker;

use std::ops::Range;
use std::sync::Arc;

use super::clock::Clock;
use super::events::{Audience, Event, Exchange};
use super::laps::{Lap, Laps};
use super::model::SharedModel;
use super::{Cause, Error, Stop};
use crate::checkpoint::EpochExchange;
use crate::data::Split;
use crate::device;
use crate::distributed::{Aggregate, Communicator, traffic};
use crate::graph::{Network, ScoreRule};
use crate::mask::kinds::fisher;
use crate::mask::{Mask, Samples};
use crate::ops::Totals;
use crate::optim::{TrainingBackend, UpdateRule};
use crate::settings::{Config, WorkerSettings};
use exchanged::{Exchanged, own};
use states::{pack, unpack};
pub(super) use states::{spread, view};
use worker::{Worker, shard};

/// This process's workers, and what binds them to each other and to those of other processes.
pub(super) struct Team<B: TrainingBackend> {
    comm: Box<dyn Communicator>,
    settings: WorkerSettings,
    /// What happens to weights outside a mask.
    rule: UpdateRule,
    /// The workers of this process, by rank.
    workers: Vec<Worker<B>>,
    /// What all workers together train; none when they train every weight.
    mask: Option<Mask>,
    exchanged: Exchanged<B>,
    /// Merges and traffic of the epoch so far.
    counts: EpochExchange,
    /// Whether checkpoints hold what resuming needs.
    resumable: bool,
}

/// What may stop a long piece of work, and who is told how far it is.
pub(super) struct Watch<'w, 'a> {
    pub stop: &'w Stop,
    pub audience: &'w mut Audience<'a>,
}

impl<B: TrainingBackend> Team<B> {
    /// Workers that begin with the network's weights and no velocity.
    ///
    /// # Errors
    /// When the device has no room, or images cannot be read ahead.
    pub fn new(
        comm: Box<dyn Communicator>,
        config: &Config,
        network: &mut Network<B>,
        train: Split,
    ) -> Result<Self, device::Error> {
        let (settings, whole, several) = (config.workers, Arc::new(train), config.has_workers());
        let mut workers = vec![];
        for rank in comm.local() {
            let split = match config.shards() {
                true => Arc::new(shard(&whole, config.train.seed, rank, settings.count)),
                false => whole.clone(),
            };
            let name = several.then(|| comm.name(rank));
            workers.push(Worker::new(network, config, rank, split, name)?);
        }
        let (exchanged, resumable) = (Exchanged::dense(&settings), config.is_resumable());
        let counts = EpochExchange::default();
        let rule = config.mask.rule;
        Ok(Team { comm, settings, rule, workers, mask: None, exchanged, counts, resumable })
    }

    /// Whether there is a single worker.
    fn is_single(&self) -> bool {
        self.settings.count == 1
    }

    /// Whether this process prints and writes.
    pub fn is_root(&self) -> bool {
        self.comm.is_root()
    }

    /// Whether all workers are in this process, so that it alone decides when to stop.
    fn is_alone(&self) -> bool {
        self.comm.local().len() == self.comm.size()
    }

    /// The workers' names by rank; none for a single worker.
    pub fn names(&self) -> Vec<String> {
        let named = if self.is_single() { 0 } else { self.comm.size() };
        (0..named).map(|rank| self.comm.name(rank)).collect()
    }

    /// Training images of each worker.
    pub fn images(&self) -> usize {
        self.workers.first().map_or(0, |worker| worker.split.len())
    }

    /// What the workers together train; none when they train every weight.
    pub fn mask(&self) -> Option<&Mask> {
        self.mask.as_ref()
    }

    /// Does `work` in a lap of exchange, and counts what the lowest rank of this process sends and receives
    /// in it.
    fn counted<T>(
        &mut self,
        laps: &mut Laps,
        lap: Lap,
        work: impl FnOnce(&mut Self, &mut Laps) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (before, back) = (self.comm.traffic(), laps.switch(lap));
        let done = work(self, laps);
        laps.switch(back);
        let now = self.comm.traffic();
        self.counts.sent += now.sent - before.sent;
        self.counts.received += now.received - before.received;
        done
    }

    /// Checks that all processes have the same `value`, waits for the slowest, and finds out whether any was
    /// told to stop, and by which signal.
    ///
    /// # Errors
    /// When `what` differs between processes, or one does not answer.
    pub fn agree(
        &mut self,
        laps: &mut Laps,
        what: &str,
        value: &[u8],
        stop: Option<Cause>,
    ) -> Result<Option<Cause>, Error> {
        let stop = stop.map(Cause::number);
        let agreed = self.counted(laps, Lap::Wait, |team, _| Ok(team.comm.agree(what, value, stop)?));
        Ok(agreed?.map(Cause::new))
    }

    /// Every worker trains up to the next merge or the epoch's end, one after another. If asked to stop, the
    /// first worker finishes its step, and the others then train up to that same step, so that all stand at
    /// one place. Where other processes take part, all stop at the next agreement.
    ///
    /// # Errors
    /// When the device or a listener fails, or the loss is no longer finite.
    pub fn train(
        &mut self,
        network: &mut Network<B>,
        config: &Config,
        clock: &mut Clock,
        stop: &Stop,
        audience: &mut Audience,
    ) -> Result<(), Error> {
        let (alone, local) = (self.is_alone(), self.workers.len() as u32);
        let (epoch, from, mut until) = (clock.at().epoch + 1, clock.at().step, clock.next_stop());
        let (steps, images) = (clock.steps() * local, config.train.batch_size);
        for (place, worker) in (0..).zip(&mut self.workers) {
            let segment = until - from;
            let mut done = |step: u32| {
                // As if the workers before it had come to the segment's end, and those after it had not
                // begun.
                let step = from * local + place * segment + (step - from);
                audience.tell(&Event::Step { epoch, step, steps, images })?;
                Ok(!alone || place > 0 || stop.cause().is_none())
            };
            until = worker.train(network, config, clock, until, &mut done)?;
        }
        clock.advance(until);
        Ok(())
    }

    /// Moves the merged model by what the workers have changed, and gives it to every worker.
    ///
    /// # Errors
    /// When the device or another process fails.
    pub fn merge(&mut self, network: &mut Network<B>, laps: &mut Laps) -> Result<(), Error> {
        self.counted(laps, Lap::Exchange, |team, _| {
            let Team { comm, settings, workers, exchanged, .. } = team;
            exchanged.merge(settings, &mut **comm, network, workers)
        })?;
        let layout = &network.graph().layout;
        let dense = [layout.weight_count(), layout.statistic_count()];
        let (rank, size) = (self.comm.local().start, self.comm.size());
        self.counts.merges += 1;
        self.counts.dense += dense.map(|length| traffic::merge(length, rank, size).0).iter().sum::<u64>();
        Ok(())
    }

    /// From now on trains only what a mask keeps.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn restrict(&mut self, network: &mut Network<B>, mask: Mask) -> Result<(), device::Error> {
        let rule = self.rule;
        self.exchanged = Exchanged::masked(&self.settings, network, &mask, rule)?;
        for worker in &mut self.workers {
            worker.restrict(network, &own(&self.settings, &mask, worker.rank), rule)?;
        }
        self.mask = Some(mask);
        Ok(())
    }

    /// Scores every weight of the shared model. Several workers each score a part of the samples, and the
    /// parts' scores are added up by rank. Returns what has stopped it, which only a process that is alone
    /// may be here.
    ///
    /// # Errors
    /// When the device or another process fails.
    pub fn score(
        &mut self,
        model: &mut SharedModel<B>,
        rule: ScoreRule,
        samples: Samples,
        laps: &mut Laps,
        watch: &mut Watch,
    ) -> Result<Option<Cause>, Error> {
        let (network, Some(scoring)) = model.scoring() else { return Ok(None) };
        let size = self.comm.size();
        let part = |rank: usize| rank * samples.count / size..(rank + 1) * samples.count / size;
        let local = self.comm.local();
        let (total, mut done) = (part(local.end - 1).end - part(local.start).start, 0);
        let (alone, mut told) = (self.is_alone(), Ok(()));
        let mut goes_on = |scored: usize| {
            done += scored;
            told = watch.audience.tell(&Event::Scored { done, samples: total });
            told.is_ok() && !(alone && watch.stop.cause().is_some())
        };
        let mut whole = true;
        if self.is_single() {
            let images = (&*self.workers[0].split, &samples);
            whole = fisher::score(network, scoring, rule, images, &mut goes_on)?;
        } else {
            let mut sums = vec![0.0; network.graph().layout.weight_count()];
            self.counted(laps, Lap::Exchange, |team, laps| {
                let Team { comm, settings, workers, .. } = team;
                let first = comm.local().start;
                Ok(comm.merge(&mut sums, Aggregate::Sum, &mut |rank| {
                    let back = laps.switch(Lap::Train);
                    let Range { start, end } = part(rank);
                    // A worker that has only its own images scores the first of them.
                    let first_image = if settings.shard_data { 0 } else { start };
                    let part = Samples { first: first_image, count: end - start, ..samples };
                    let images = (&*workers[rank - first].split, &part);
                    // Once it is stopped, what the workers after it would score is not wanted.
                    whole = whole && fisher::score(network, scoring, rule, images, &mut goes_on)?;
                    let scores = scoring.read(network)?;
                    laps.switch(back);
                    Ok(scores)
                })?)
            })?;
            scoring.write(network, &sums)?;
        }
        told?;
        Ok(watch.stop.cause().filter(|_| !whole))
    }

    /// Evaluates the shared model on the test images, of which each worker takes a part. Returns the totals
    /// of all of them at the root; the inner error is what has stopped it, which only a process that is alone
    /// may be here.
    ///
    /// # Errors
    /// When the device or another process fails.
    pub fn evaluate(
        &mut self,
        model: &mut SharedModel<B>,
        stop: &Stop,
        audience: &mut Audience,
    ) -> Result<Result<Totals, Cause>, Error> {
        let (alone, size, local) = (self.is_alone(), self.comm.size(), self.comm.local());
        let parts: Vec<_> = local.map(|rank| model.test_part(rank, size)).collect();
        let images = parts.iter().map(Range::len).sum();
        let (mut done, mut told, mut totals) = (0, Ok(()), vec![]);
        for part in parts {
            let goes_on = |tested: usize| {
                done += tested;
                told = audience.tell(&Event::Tested { done, images });
                told.is_ok() && !(alone && stop.cause().is_some())
            };
            let evaluated = model.evaluate(part, goes_on)?;
            std::mem::replace(&mut told, Ok(()))?;
            match (evaluated, stop.cause()) {
                (Some(part), _) => totals.push(part),
                (None, Some(cause)) => return Ok(Err(cause)),
                (None, None) => {}
            }
        }
        Ok(Ok(self.gather(&totals)?.into_iter().sum()))
    }

    /// Totals of the epoch's steps so far, of all workers at the root.
    ///
    /// # Errors
    /// When another process does not answer.
    pub fn train_totals(&mut self, laps: &mut Laps) -> Result<Totals, Error> {
        self.counted(laps, Lap::Exchange, |team, _| {
            let own: Vec<Totals> = team.workers.iter().map(|worker| worker.totals).collect();
            Ok(team.gather(&own)?.into_iter().sum())
        })
    }

    /// Every worker's totals, by rank, at the root. Elsewhere only those of its own workers, which are given,
    /// are known.
    fn gather(&mut self, own: &[Totals]) -> Result<Vec<Totals>, Error> {
        let local = self.comm.local();
        let mut all = vec![Totals::default(); self.comm.size()];
        all[local.clone()].copy_from_slice(own);
        for (rank, totals) in all.iter_mut().enumerate() {
            let sent = pack(*totals);
            self.comm.fetch(rank, sent.len(), &mut || Ok(sent.to_vec()), &mut |words| {
                *totals = unpack(words);
                Ok(())
            })?;
        }
        Ok(all)
    }

    /// Ends the epoch: totals and counts begin anew. Returns what several workers have exchanged in it.
    pub fn end_epoch(&mut self, laps: &mut Laps) -> Option<Exchange> {
        self.workers.iter_mut().for_each(|worker| worker.totals = Totals::default());
        let EpochExchange { merges, dense, sent, received, .. } = std::mem::take(&mut self.counts);
        (!self.is_single()).then(|| Exchange {
            merges,
            sent,
            received,
            share_of_dense: if dense == 0 { 0.0 } else { 100.0 * sent as f64 / dense as f64 },
            waiting_seconds: laps.seconds(Lap::Wait),
            exchanging_seconds: laps.seconds(Lap::Exchange),
        })
    }

    /// Ends in order, together with the other processes.
    ///
    /// # Errors
    /// When a process does not come.
    pub fn finish(&mut self) -> Result<(), Error> {
        Ok(self.comm.finish()?)
    }
}

//! The masks of a run: when one is due it is selected, by all workers together.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Instant;

use super::trainer::Trainer;
use super::{Error, Event, MaskReport};
use crate::checkpoint::Hash;
use crate::distributed::Aggregate;
use crate::mask::kinds::fisher;
use crate::mask::{Choice, Draw, Mask, Order, Quota, Samples, select};
use crate::optim::TrainingBackend;
use crate::settings::MaskSettings;

impl<B: TrainingBackend> Trainer<'_, '_, B> {
    /// Selects the mask that is due before the next step, if one is.
    pub(super) fn select_mask(&mut self) -> Result<(), Error> {
        let at = self.state.at;
        let Some(masking) = self.config.masked().filter(|_| self.timetable.selects(at)) else {
            return Ok(());
        };
        let (began, exchanged) = (Instant::now(), self.exchanging());
        if self.saving.keeps_values() {
            match self.mask {
                // What the masks to come build on.
                None => self.write_base()?,
                // A mask's last values, before another takes its place.
                Some(_) if self.saving.at != at => self.checkpoint()?,
                Some(_) => {}
            }
        }
        let layout = &self.network.graph().layout;
        let quota = match self.config.several() {
            Some(workers) => workers.quota(&masking, layout)?,
            None => masking.quota(layout)?,
        };
        let Some(mask) = self.choose(&masking, quota, self.timetable.draw(at))? else { return Ok(()) };
        if let Some(merging) = &mut self.merging {
            merging.comm.agree("the mask", Hash::of_indices(mask.indices()).to_string().as_bytes(), None)?;
        }
        let report = MaskReport {
            epoch: at.epoch + 1,
            kind: masking.kind,
            samples: masking.samples,
            kept: mask.len(),
            weights: mask.weight_count(),
            stayed: self.mask.as_ref().map(|before| before.shared(&mask, &(0..mask.weight_count()))),
            seconds: began.elapsed().as_secs_f64(),
        };
        self.restrict(mask)?;
        self.saving.keep_mask(&self.network, self.mask.as_ref())?;
        self.state.train_seconds += began.elapsed().as_secs_f64() - (self.exchanging() - exchanged);
        self.tell(&Event::Mask(&report))
    }

    /// Chooses a mask by its kind. Where the kind scores samples, several workers each score a part of them with the
    /// merged model, and the parts' scores are added up by rank.
    fn choose(&mut self, masking: &MaskSettings, quota: Quota, number: u32) -> Result<Option<Mask>, Error> {
        let Trainer { config, network, workers, merging, scoring, state, .. } = self;
        let seed = config.train.seed;
        let scoring = match (masking.kind.choice(), scoring) {
            (Choice::ByNetwork(scores), _) => {
                let scores = scores(network, &Draw { quota, seed, number })?;
                return Ok(Some(select::largest(network, &scores, quota)?));
            }
            (Choice::BySamples, Some(scoring)) => scoring,
            (Choice::BySamples | Choice::Nothing, _) => return Ok(None),
        };
        let (rule, count) = (masking.rule(state.at.epoch), masking.samples);
        let samples = |part: Range<usize>| Samples {
            first: part.start,
            count: part.len(),
            order: Order::Shuffled,
            augment: true,
            seed,
            epoch: number,
        };
        let Some(merging) = merging else {
            fisher::score(network, scoring, rule, &workers[0].split, &samples(0..count))?;
            return Ok(Some(fisher::largest(network, scoring, quota)?));
        };
        let (size, first) = (merging.comm.size(), merging.comm.local().start);
        let mut sums = vec![0.0; network.graph().layout.weight_count()];
        let mut inside = 0.0;
        merging.comm.merge(&mut sums, Aggregate::Sum, &mut |rank| {
            let began = Instant::now();
            let part = rank * count / size..(rank + 1) * count / size;
            // Of a worker's own images its part is the first.
            let sharded = config.shards();
            let part = if sharded { 0..part.len() } else { part };
            fisher::score(network, scoring, rule, &workers[rank - first].split, &samples(part))?;
            let scores = scoring.read(network)?;
            inside += began.elapsed().as_secs_f64();
            Ok(scores)
        })?;
        merging.give_back(inside);
        scoring.write(network, &sums)?;
        Ok(Some(fisher::largest(network, scoring, quota)?))
    }

    /// From now on only what a mask keeps is trained.
    pub(super) fn restrict(&mut self, mask: Mask) -> Result<(), Error> {
        let Some(rule) = self.config.masked().map(|masking| masking.rule) else { return Ok(()) };
        let Trainer { network, workers, merging, .. } = self;
        if let Some(merging) = merging {
            merging.exchange(network, &mask, rule)?;
        }
        for worker in workers {
            let own =
                merging.as_ref().map_or(Cow::Borrowed(&mask), |merging| merging.own(&mask, worker.rank));
            worker.with(network, |network, worker| worker.update.restrict(network, &own, rule))?;
            // What was recorded trains other weights.
            worker.recording = None;
        }
        self.mask = Some(mask);
        Ok(())
    }
}

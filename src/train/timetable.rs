//! When workers merge and masks are selected.

use crate::settings::Config;

/// The moments of a run, each by the steps that every worker has done before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timetable {
    /// Steps in an epoch.
    pub steps: u32,
    epochs: u32,
    /// Steps from one merge to the next, and merges from one selection to the next; none for a single worker.
    merges: Option<(u32, u32)>,
    /// Epochs before the first mask, and from one selection to the next; none when training is dense.
    masks: Option<(u32, u32)>,
}

impl Timetable {
    /// Of a run whose epochs have so many steps.
    pub fn new(config: &Config, steps: u32) -> Timetable {
        let merges = config.several().map(|workers| (workers.merge_steps, workers.reselect_merges));
        let masks = config.masked().map(|mask| (mask.warmup_epochs, mask.every));
        Timetable { steps, epochs: config.train.epochs, merges, masks }
    }

    fn done(&self, epoch: u32, batch: u32) -> u64 {
        u64::from(epoch) * u64::from(self.steps) + u64::from(batch)
    }

    /// Whether workers merge here: every so many steps, and before the first mask and the end, which the merged model is
    /// for.
    pub fn merges(&self, epoch: u32, batch: u32) -> bool {
        let Some((every, _)) = self.merges else { return false };
        let done = self.done(epoch, batch);
        let first_mask = self.masks.map(|(warmup, _)| self.done(warmup, 0));
        done > 0
            && (done.is_multiple_of(every.into())
                || done == self.done(self.epochs, 0)
                || first_mask == Some(done))
    }

    /// Steps of this epoch after which workers next merge, or the epoch ends.
    pub fn next(&self, epoch: u32, batch: u32) -> u32 {
        let Some((every, _)) = self.merges else { return self.steps };
        let left = u64::from(every) - self.done(epoch, batch) % u64::from(every);
        self.steps.min(u32::try_from(u64::from(batch) + left).unwrap_or(u32::MAX))
    }

    /// Whether a mask is selected here, before the next step.
    pub fn selects(&self, epoch: u32, batch: u32) -> bool {
        let Some((warmup, every_epochs)) = self.masks else { return false };
        let (done, first) = (self.done(epoch, batch), self.done(warmup, 0));
        if done <= first {
            return done == first;
        }
        match self.merges {
            Some((_, 0)) => false,
            Some((steps, merges)) => done.is_multiple_of(u64::from(steps) * u64::from(merges)),
            None => batch == 0 && every_epochs > 0 && (epoch - warmup).is_multiple_of(every_epochs),
        }
    }

    /// What tells one selection's samples from another's: the epoch or, where masks are selected after merges, how many
    /// merges there were.
    pub fn draw(&self, epoch: u32, batch: u32) -> u32 {
        match self.merges {
            None => epoch,
            Some((every, _)) => (self.done(epoch, batch) / u64::from(every)) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(of: impl Fn(u32, u32) -> bool, steps: u32, epochs: u32) -> Vec<(u32, u32)> {
        let places = (0..epochs).flat_map(|epoch| (0..=steps).map(move |batch| (epoch, batch)));
        places.filter(|&(epoch, batch)| of(epoch, batch)).collect()
    }

    #[test]
    fn workers_merge_every_so_many_steps_and_before_a_mask_and_at_the_end() {
        let t = Timetable { steps: 5, epochs: 4, merges: Some((4, 2)), masks: Some((1, 0)) };
        // After 4, 5 (the first mask), 8, 12, 16 and 20 steps; an epoch's end is the next one's beginning.
        let merges = [(0, 4), (0, 5), (1, 0), (1, 3), (2, 2), (3, 1), (3, 5)];
        assert_eq!(all(|e, b| t.merges(e, b), 5, 4), merges);
        // After 5 steps, and after 8 and 16.
        assert_eq!(all(|e, b| t.selects(e, b), 5, 4), [(0, 5), (1, 0), (1, 3), (3, 1)]);
        assert_eq!([t.next(0, 0), t.next(0, 4), t.next(1, 0), t.next(1, 3), t.next(3, 1)], [4, 5, 3, 5, 5]);
        assert_eq!([t.draw(0, 0), t.draw(1, 0), t.draw(1, 3), t.draw(3, 5)], [0, 1, 2, 5]);
        let never = Timetable { merges: Some((100, 0)), masks: None, ..t };
        assert_eq!(all(|e, b| never.merges(e, b), 5, 4), [(3, 5)]);
        assert_eq!(all(|e, b| never.selects(e, b), 5, 4), []);
    }

    #[test]
    fn a_single_worker_selects_by_epochs() {
        let t = Timetable { steps: 5, epochs: 6, merges: None, masks: Some((1, 2)) };
        // The end of an epoch is the next one's beginning.
        assert_eq!(all(|e, b| t.selects(e, b), 4, 6), [(1, 0), (3, 0), (5, 0)]);
        let fixed = Timetable { masks: Some((0, 0)), ..t };
        assert_eq!(all(|e, b| fixed.selects(e, b), 4, 6), [(0, 0)]);
        assert!(!t.merges(0, 5) && t.next(0, 2) == 5 && t.draw(3, 0) == 3);
    }
}

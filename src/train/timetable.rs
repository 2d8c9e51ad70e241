//! When workers merge and masks are selected.

use crate::checkpoint::Moment;
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

    fn done(&self, at: Moment) -> u64 {
        u64::from(at.epoch) * u64::from(self.steps) + u64::from(at.step)
    }

    /// Whether workers merge here: every so many steps, and before the first mask and the end, which the merged model is
    /// for.
    pub fn merges(&self, at: Moment) -> bool {
        let Some((every, _)) = self.merges else { return false };
        let done = self.done(at);
        let first_mask = self.masks.map(|(warmup, _)| self.done(Moment::new(warmup, 0)));
        done > 0
            && (done.is_multiple_of(every.into())
                || done == self.done(Moment::new(self.epochs, 0))
                || first_mask == Some(done))
    }

    /// Steps of this epoch after which workers next merge, or the epoch ends.
    pub fn next(&self, at: Moment) -> u32 {
        let Some((every, _)) = self.merges else { return self.steps };
        let left = u64::from(every) - self.done(at) % u64::from(every);
        self.steps.min(u32::try_from(u64::from(at.step) + left).unwrap_or(u32::MAX))
    }

    /// Whether a mask is selected here, before the next step.
    pub fn selects(&self, at: Moment) -> bool {
        let Some((warmup, every_epochs)) = self.masks else { return false };
        let (done, first) = (self.done(at), self.done(Moment::new(warmup, 0)));
        if done <= first {
            return done == first;
        }
        match self.merges {
            Some((_, 0)) => false,
            Some((steps, merges)) => done.is_multiple_of(u64::from(steps) * u64::from(merges)),
            None => at.step == 0 && every_epochs > 0 && (at.epoch - warmup).is_multiple_of(every_epochs),
        }
    }

    /// What tells one selection's samples from another's: the epoch or, where masks are selected after merges, how many
    /// merges there were.
    pub fn draw(&self, at: Moment) -> u32 {
        match self.merges {
            None => at.epoch,
            Some((every, _)) => (self.done(at) / u64::from(every)) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(of: impl Fn(Moment) -> bool, steps: u32, epochs: u32) -> Vec<(u32, u32)> {
        let places = (0..epochs).flat_map(|epoch| (0..=steps).map(move |step| (epoch, step)));
        places.filter(|&(epoch, step)| of(Moment::new(epoch, step))).collect()
    }

    #[test]
    fn workers_merge_every_so_many_steps_and_before_a_mask_and_at_the_end() {
        let t = Timetable { steps: 5, epochs: 4, merges: Some((4, 2)), masks: Some((1, 0)) };
        // After 4, 5 (the first mask), 8, 12, 16 and 20 steps; an epoch's end is the next one's beginning.
        let merges = [(0, 4), (0, 5), (1, 0), (1, 3), (2, 2), (3, 1), (3, 5)];
        assert_eq!(all(|at| t.merges(at), 5, 4), merges);
        // After 5 steps, and after 8 and 16.
        assert_eq!(all(|at| t.selects(at), 5, 4), [(0, 5), (1, 0), (1, 3), (3, 1)]);
        let next = [(0, 0), (0, 4), (1, 0), (1, 3), (3, 1)].map(|(e, s)| t.next(Moment::new(e, s)));
        assert_eq!(next, [4, 5, 3, 5, 5]);
        let draws = [(0, 0), (1, 0), (1, 3), (3, 5)].map(|(e, s)| t.draw(Moment::new(e, s)));
        assert_eq!(draws, [0, 1, 2, 5]);
        let never = Timetable { merges: Some((100, 0)), masks: None, ..t };
        assert_eq!(all(|at| never.merges(at), 5, 4), [(3, 5)]);
        assert_eq!(all(|at| never.selects(at), 5, 4), []);
    }

    #[test]
    fn a_single_worker_selects_by_epochs() {
        let t = Timetable { steps: 5, epochs: 6, merges: None, masks: Some((1, 2)) };
        // The end of an epoch is the next one's beginning.
        assert_eq!(all(|at| t.selects(at), 4, 6), [(1, 0), (3, 0), (5, 0)]);
        let fixed = Timetable { masks: Some((0, 0)), ..t };
        assert_eq!(all(|at| fixed.selects(at), 4, 6), [(0, 0)]);
        assert!(!t.merges(Moment::new(0, 5)));
        assert_eq!((t.next(Moment::new(0, 2)), t.draw(Moment::new(3, 0))), (5, 3));
    }
}

//! When workers merge and when masks are selected.

use crate::checkpoint::Moment;
use crate::settings::Config;

/// What is due at each moment of a run.
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
    /// The timetable of a run whose epochs have `steps` steps. A single worker has nothing to merge.
    pub fn new(config: &Config, steps: u32) -> Timetable {
        // A mask that is not chosen is the same each time.
        let again = config.mask.kind.is_chosen();
        let merges = config
            .several()
            .map(|workers| (workers.merge_steps, if again { workers.reselect_merges } else { 0 }));
        let masks = config.masked().map(|mask| (mask.warmup_epochs, mask.every));
        Timetable { steps, epochs: config.train.epochs, merges, masks }
    }

    /// Steps of a worker from the run's beginning to a moment.
    fn steps_before(&self, at: Moment) -> u64 {
        u64::from(at.epoch) * u64::from(self.steps) + u64::from(at.step)
    }

    /// Steps of a worker before an epoch.
    fn steps_before_epoch(&self, epoch: u32) -> u64 {
        u64::from(epoch) * u64::from(self.steps)
    }

    /// Whether workers merge now: every so many steps, and before the first mask and at the end, both of
    /// which use the merged model.
    pub fn merges(&self, at: Moment) -> bool {
        let Some((every, _)) = self.merges else { return false };
        let done = self.steps_before(at);
        let first_mask = self.masks.map(|(warmup, _)| self.steps_before_epoch(warmup));
        done > 0
            && (done.is_multiple_of(every.into())
                || done == self.steps_before_epoch(self.epochs)
                || first_mask == Some(done))
    }

    /// The step of this epoch after which workers next merge, or the epoch's last.
    pub fn next_stop(&self, at: Moment) -> u32 {
        let Some((every, _)) = self.merges else { return self.steps };
        let left = u64::from(every) - self.steps_before(at) % u64::from(every);
        self.steps.min(u32::try_from(u64::from(at.step) + left).unwrap_or(u32::MAX))
    }

    /// Whether a mask is selected now, before the next step.
    pub fn selects(&self, at: Moment) -> bool {
        let Some((warmup, every_epochs)) = self.masks else { return false };
        let (done, first) = (self.steps_before(at), self.steps_before_epoch(warmup));
        if done <= first {
            return done == first;
        }
        match self.merges {
            Some((_, 0)) => false,
            Some((steps, merges)) => done.is_multiple_of(u64::from(steps) * u64::from(merges)),
            None => at.step == 0 && every_epochs > 0 && (at.epoch - warmup).is_multiple_of(every_epochs),
        }
    }

    /// A number that differs from one selection to the next, so that each draws its own samples: the epoch
    /// or, where masks are selected after merges, the number of merges so far.
    pub fn draw(&self, at: Moment) -> u32 {
        match self.merges {
            None => at.epoch,
            Some((every, _)) => (self.steps_before(at) / u64::from(every)) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u32, step: u32) -> Moment {
        Moment { epoch, step }
    }

    fn all(due: impl Fn(Moment) -> bool, steps: u32, epochs: u32) -> Vec<(u32, u32)> {
        let moments = (0..epochs).flat_map(|epoch| (0..=steps).map(move |step| (epoch, step)));
        moments.filter(|&(epoch, step)| due(at(epoch, step))).collect()
    }

    #[test]
    fn workers_merge_every_so_many_steps_and_before_a_mask_and_at_the_end() {
        let t = Timetable { steps: 5, epochs: 4, merges: Some((4, 2)), masks: Some((1, 0)) };
        // After 4, 5 (the first mask), 8, 12, 16 and 20 steps; an epoch's end is the next one's beginning.
        let merges = [(0, 4), (0, 5), (1, 0), (1, 3), (2, 2), (3, 1), (3, 5)];
        assert_eq!(all(|at| t.merges(at), 5, 4), merges);
        // After 5 steps, and after 8 and 16.
        assert_eq!(all(|at| t.selects(at), 5, 4), [(0, 5), (1, 0), (1, 3), (3, 1)]);
        let stops =
            [(0, 0), (0, 4), (1, 0), (1, 3), (3, 1)].map(|(epoch, step)| t.next_stop(at(epoch, step)));
        assert_eq!(stops, [4, 5, 3, 5, 5]);
        let draws = [(0, 0), (1, 0), (1, 3), (3, 5)].map(|(epoch, step)| t.draw(at(epoch, step)));
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
        assert!(!t.merges(at(0, 5)) && t.next_stop(at(0, 2)) == 5 && t.draw(at(3, 0)) == 3);
    }
}

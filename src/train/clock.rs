//! The clock of a run: at which moment it stands, what is due there, and where its seconds went.

use std::time::Instant;

use super::laps::{Lap, Laps};
use super::timetable::Timetable;
use crate::checkpoint::{Moment, Progress};
use crate::ops::Totals;
use crate::optim::PiecewiseLinear;
use crate::settings::Config;

/// Where a run stands.
pub(super) struct Clock {
    timetable: Timetable,
    schedule: PiecewiseLinear,
    at: Moment,
    laps: Laps,
    /// Seconds of set-up, training, exchange and waiting before this epoch.
    seconds_before: f64,
    /// Test accuracy after the last whole epoch in percent, where it is known.
    test_accuracy: Option<f64>,
    /// The moment of the last checkpoint.
    kept: Moment,
}

impl Clock {
    /// The clock of a run that stands at `progress` and has been set up since `began`.
    pub fn new(config: &Config, steps: u32, progress: &Progress, began: Instant) -> Clock {
        let mut laps = Laps::begin(Lap::Setup, began);
        laps.add(Lap::Train, progress.train_seconds);
        Clock {
            timetable: Timetable::new(config, steps),
            schedule: config.schedule(),
            at: progress.at,
            laps,
            seconds_before: progress.total_seconds,
            test_accuracy: progress.test_accuracy,
            kept: progress.at,
        }
    }

    /// The moment that the run has come to.
    pub fn at(&self) -> Moment {
        self.at
    }

    /// The stopwatch.
    pub fn laps(&mut self) -> &mut Laps {
        &mut self.laps
    }

    /// Steps in an epoch.
    pub fn steps(&self) -> u32 {
        self.timetable.steps
    }

    /// Whether all steps of this epoch are done.
    pub fn epoch_is_trained(&self) -> bool {
        self.at.step == self.timetable.steps
    }

    /// The step of this epoch up to which workers train without merging.
    pub fn next_stop(&self) -> u32 {
        self.timetable.next_stop(self.at)
    }

    /// Whether workers merge now.
    pub fn merges(&self) -> bool {
        self.timetable.merges(self.at)
    }

    /// Whether a mask is selected now, before the next step.
    pub fn selects(&self) -> bool {
        self.timetable.selects(self.at)
    }

    /// The number that tells the selection due now from all others.
    pub fn draw(&self) -> u32 {
        self.timetable.draw(self.at)
    }

    /// Moves to a later step of this epoch.
    pub fn advance(&mut self, step: u32) {
        self.at.step = step;
    }

    /// The learning rate, for the mean loss, of this epoch's step `step`, counted from 1.
    pub fn lr(&self, step: u32) -> f64 {
        self.schedule.at(f64::from(self.at.epoch) + f64::from(step) / f64::from(self.timetable.steps))
    }

    /// The learning rates of all steps of this epoch, for the summed loss of `batch` images.
    pub fn rates(&self, batch: usize) -> Vec<f32> {
        (1..=self.timetable.steps).map(|step| (self.lr(step) / batch as f64) as f32).collect()
    }

    /// Seconds of set-up, training, exchange and waiting since the run began: DAWNBench's count, which leaves
    /// evaluation out.
    pub fn total_seconds(&mut self) -> f64 {
        let laps = [Lap::Setup, Lap::Train, Lap::Exchange, Lap::Wait];
        self.seconds_before + laps.map(|lap| self.laps.seconds(lap)).iter().sum::<f64>()
    }

    /// Begins the next epoch, after one that ended with this test accuracy.
    pub fn next_epoch(&mut self, test_accuracy: f64) {
        self.seconds_before = self.total_seconds();
        self.laps.reset();
        self.at = Moment { epoch: self.at.epoch + 1, step: 0 };
        self.test_accuracy = Some(test_accuracy);
    }

    /// Says that a checkpoint of this moment is written.
    pub fn keep(&mut self) {
        self.kept = self.at;
    }

    /// Whether the last checkpoint is of this moment.
    pub fn is_kept(&self) -> bool {
        self.kept == self.at
    }

    /// Where the run stands, as a checkpoint keeps it; `totals` are a single worker's.
    pub fn progress(&mut self, totals: Totals) -> Progress {
        Progress {
            at: self.at,
            totals,
            train_seconds: self.laps.seconds(Lap::Train),
            // The epoch's exchanges are kept with the workers' states.
            total_seconds: self.seconds_before + self.laps.seconds(Lap::Setup),
            test_accuracy: self.test_accuracy.filter(|_| self.at.step == 0),
            origin: None,
        }
    }
}

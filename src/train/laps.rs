//! The stopwatch of a run: exactly one lap runs at any time, so every second is counted once.

use std::time::Instant;

/// What the run is spending its time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lap {
    /// Getting ready: plans, buffers, the images' way to the device, and the checkpoint that is resumed.
    Setup,
    /// Training steps, and choosing masks.
    Train,
    /// Exchanging values between workers.
    Exchange,
    /// Waiting for the slowest worker at the points where all agree.
    Wait,
    /// Evaluating the test images.
    Test,
    /// Everything else: listeners, reports, checkpoints.
    Other,
}

const LAPS: usize = Lap::Other as usize + 1;

/// Seconds spent in each lap since the epoch began, and the lap that is running.
#[derive(Clone, Debug)]
pub(super) struct Laps {
    seconds: [f64; LAPS],
    running: Lap,
    since: Instant,
}

impl Laps {
    /// A stopwatch whose first lap began at `since`.
    pub fn begin(running: Lap, since: Instant) -> Laps {
        Laps { seconds: [0.0; LAPS], running, since }
    }

    /// Ends the running lap and starts another. Returns the lap that ended.
    pub fn switch(&mut self, lap: Lap) -> Lap {
        let now = Instant::now();
        self.seconds[self.running as usize] += (now - self.since).as_secs_f64();
        self.since = now;
        std::mem::replace(&mut self.running, lap)
    }

    /// Seconds spent in a lap, those of the running one up to now included.
    pub fn seconds(&mut self, lap: Lap) -> f64 {
        self.switch(self.running);
        self.seconds[lap as usize]
    }

    /// Counts seconds that an earlier part of the epoch spent, before the run was stopped.
    pub fn add(&mut self, lap: Lap, seconds: f64) {
        self.seconds[lap as usize] += seconds;
    }

    /// Begins a new epoch: all laps are 0 again, and the running one runs on.
    pub fn reset(&mut self) {
        self.switch(self.running);
        self.seconds = [0.0; LAPS];
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_second_is_in_exactly_one_lap() {
        let began = Instant::now();
        let mut laps = Laps::begin(Lap::Setup, began);
        assert_eq!(laps.switch(Lap::Exchange), Lap::Setup);
        // A worker scores its samples within an exchange, which then goes on.
        let back = laps.switch(Lap::Train);
        sleep(Duration::from_millis(20));
        assert_eq!((back, laps.switch(back)), (Lap::Exchange, Lap::Train));
        laps.add(Lap::Wait, 3.0);
        let all = [Lap::Setup, Lap::Train, Lap::Exchange, Lap::Wait, Lap::Test, Lap::Other];
        let sum: f64 = all.map(|lap| laps.seconds(lap)).iter().sum();
        let elapsed = began.elapsed().as_secs_f64();
        assert!(laps.seconds(Lap::Train) >= 0.02 && laps.seconds(Lap::Exchange) < elapsed - 0.019);
        assert!(sum >= 3.02 && sum - 3.0 <= elapsed, "{sum} {elapsed}");
        laps.reset();
        assert!(laps.seconds(Lap::Wait) == 0.0 && laps.seconds(Lap::Exchange) < 0.02);
    }
}

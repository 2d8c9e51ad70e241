//! Stopping a run: the flag, and who set it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A flag that stops a run after the step it is in: 0, or the number of a [`Cause`]. A signal's handler may
/// store the signal's number.
#[derive(Clone, Debug, Default)]
pub struct Stop(pub Arc<AtomicUsize>);

impl Stop {
    /// Stops the run, unless something else has.
    pub fn set(&self, cause: Cause) {
        let _ = self.0.compare_exchange(0, cause.0 as usize, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// What has stopped the run, if anything.
    pub fn cause(&self) -> Option<Cause> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            number => Some(Cause(number as i32)),
        }
    }
}

/// What stopped a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause(i32);

impl Cause {
    /// The time that the run was given is over.
    pub const TIME: Cause = Cause(-1);

    /// A signal, or what another process has as [`Cause::number`].
    pub const fn new(number: i32) -> Cause {
        Cause(number)
    }

    /// Its number: of a signal the signal's own.
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (*self, self.0) {
            (Cause::TIME, _) => f.write_str("its time limit"),
            (_, 1) => f.write_str("SIGHUP"),
            (_, 2) => f.write_str("SIGINT"),
            (_, 10) => f.write_str("SIGUSR1"),
            (_, 15) => f.write_str("SIGTERM"),
            (_, other) => write!(f, "signal {other}"),
        }
    }
}

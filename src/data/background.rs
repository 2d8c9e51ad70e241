//! Work on a thread of its own, so that whoever waits for it can stop waiting.

use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::error::Error;
use super::options::Progress;

/// How often a thread that waits looks whether it should stop.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// The longest that work which has been stopped may take to clean up after itself.
const GRACE: Duration = Duration::from_millis(800);

/// Fails with [`Error::Interrupted`] once `stop` holds the number of a signal, rather than 0.
pub(super) fn check(stop: &AtomicUsize) -> Result<(), Error> {
    match stop.load(Ordering::Relaxed) {
        0 => Ok(()),
        signal => Err(Error::Interrupted { signal: signal as i32 }),
    }
}

/// Does `work` on a thread of its own, and hands on here what that tells of itself.
///
/// # Errors
/// Those of the work; and [`Error::Interrupted`] soon after `stop` is set, whatever the work is waiting for.
/// It is left behind then, if it does not end by itself.
pub(super) fn run<T: Send + 'static>(
    stop: &Arc<AtomicUsize>,
    progress: &mut dyn FnMut(Progress),
    work: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    check(stop)?;
    let (sender, receiver) = mpsc::channel();
    // What is told after the wait is over, nobody hears.
    let work = move || work(&mut |told| _ = sender.send(told));
    let worker = thread::Builder::new().name("data".into()).spawn(work).map_err(Error::Thread)?;
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(told) => progress(told),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if let Err(interrupted) = check(stop) {
            let since = Instant::now();
            while !worker.is_finished() && since.elapsed() < GRACE {
                thread::sleep(TICK / 10);
            }
            return Err(interrupted);
        }
    }
    worker.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
}

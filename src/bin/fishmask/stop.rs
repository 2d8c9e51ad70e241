//! What stops a run from outside: signals, and the end of its time.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use fishmask::train::{Cause, Stop};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::refusal::refuse;

/// Time within which a second SIGINT is the first one again, as launchers and terminals send it twice.
const AGAIN: Duration = Duration::from_secs(1);

/// Returns what the first SIGINT, SIGTERM, SIGUSR1 (which mpirun hands on) or SIGHUP sets, unless SIGHUP was
/// ignored at the start: it stops the run after its step, or that of several processes after their next
/// merge. However many follow, the checkpoint is written: only a SIGINT that comes more than a second after
/// the first one ends the program at once.
pub fn on_signals() -> anyhow::Result<Stop> {
    let stop = Stop::default();
    let mut heeded = vec![SIGINT, SIGTERM, SIGUSR1];
    if !ignores(SIGHUP) {
        heeded.push(SIGHUP);
    }
    let mut signals = Signals::new(heeded).context("signals cannot be heeded")?;
    let wish = stop.clone();
    let heed = move || {
        let mut interrupted: Option<Instant> = None;
        for signal in signals.forever() {
            wish.set(Cause::new(signal));
            if signal == SIGINT {
                let first = *interrupted.get_or_insert_with(Instant::now);
                if first.elapsed() > AGAIN {
                    std::process::exit(128 + SIGINT);
                }
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(heed).context("signals cannot be heeded")?;
    Ok(stop)
}

/// Stops the run after so many minutes.
pub fn after(stop: &Stop, minutes: f64) -> anyhow::Result<()> {
    let limit = Duration::try_from_secs_f64(60.0 * minutes).ok().filter(|limit| !limit.is_zero());
    let Some(limit) = limit else {
        let need = "must be a number of minutes above 0";
        return Err(refuse(format!("--max-minutes {minutes}"), need).into());
    };
    let stop = stop.clone();
    let wait = move || {
        thread::sleep(limit);
        stop.set(Cause::TIME);
    };
    thread::Builder::new().name("limit".into()).spawn(wait).context("--max-minutes")?;
    Ok(())
}

/// The exit code of a run that was stopped: as shells count signals (130 for SIGINT, 143 for SIGTERM), and as
/// timeout(1) has it when its time was over.
pub fn code(cause: Cause) -> ExitCode {
    match cause {
        Cause::TIME => ExitCode::from(124),
        signal => ExitCode::from(128 + signal.number() as u8),
    }
}

/// Whether this process was started with a signal ignored, as by nohup(1). Known on Linux alone.
fn ignores(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

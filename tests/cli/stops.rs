//! What stops a run from outside, and that nothing is lost by it.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::support::cli::{Running, checkpoint, finish, succeed, train};
use fishmask::records::{State, Status};
use tempfile::tempdir;

/// A run that would take minutes.
const LONG: &str = "--data synthetic --recipe quick --train-images 4096 --epochs 500 --width 1 \
                    --batch-size 64 --run-dir run";

/// Whether the run's newest checkpoint is where it stopped: it verifies, and the run goes on from there.
fn assert_kept(directory: &Path, out: &str) {
    assert!(out.contains("the checkpoint is written"), "{out}");
    let (verified, _) = succeed(checkpoint(directory, "verify run"));
    assert!(verified.contains("files are good"), "{verified}");
    assert!(directory.join("run/checkpoints").read_dir().unwrap().count() > 1, "{verified}");
}

#[test]
fn signals_in_pairs_and_in_any_order_lose_nothing() {
    let pairs = [
        ["TERM", "TERM"],
        ["INT", "TERM"],
        ["TERM", "INT"],
        ["INT", "INT"],
        ["USR1", "USR1"],
        ["HUP", "HUP"],
        ["HUP", "TERM"],
    ];
    // Under nohup(1) the tests, and the programs that they start, ignore it.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let heeded = |pair: &&[&str; 2]| ignored & 1 == 0 || !pair.contains(&"HUP");
    for [first, second] in pairs.iter().filter(heeded) {
        let directory = tempdir().unwrap();
        let mut running = Running::start(train(directory.path(), LONG));
        running.until_training();
        running.signal(first);
        running.signal(second);
        let (code, out, err) = running.end();
        let numbers = [("HUP", 1), ("INT", 2), ("USR1", 10), ("TERM", 15)];
        let code_of = |name: &str| Some(128 + numbers.iter().find(|(other, _)| *other == name).unwrap().1);
        let codes = [code_of(first), code_of(second)];
        assert!(codes.contains(&code), "{first} {second}: {code:?} {out} {err}");
        assert_kept(directory.path(), &out);
        let status = Status::read(&directory.path().join("run")).unwrap();
        assert_eq!(status.state, State::Stopped);
        assert!(status.reason.unwrap().starts_with("stopped by SIG"));
    }
}

#[test]
fn timeout_signals_the_program_and_then_its_group() {
    let directory = tempdir().unwrap();
    let mut command = train(directory.path(), LONG);
    let program = command.get_program().to_owned();
    let mut timeout = Command::new("timeout");
    timeout.args(["-s", "TERM", "3"]).arg(program).args(command.get_args()).current_dir(directory.path());
    // As in a job script, timeout(1) leads a group of its own.
    let (code, out, _) = finish(timeout.process_group(0).output().unwrap());
    assert_eq!(code, Some(124), "{out}");
    assert_kept(directory.path(), &out);
    let _ = &mut command;
}

#[test]
fn a_hangup_that_was_ignored_at_the_start_stays_ignored() {
    let directory = tempdir().unwrap();
    let command = train(directory.path(), &LONG.replace("--epochs 500", "--epochs 3"));
    let mut shell = Command::new("sh");
    let line = "trap '' HUP; exec \"$0\" \"$@\"";
    shell.args(["-c", line]).arg(command.get_program()).args(command.get_args());
    shell.current_dir(directory.path());
    let mut running = Running::start(shell);
    running.until_training();
    running.signal("HUP");
    let (code, out, err) = running.end();
    assert_eq!(code, Some(0), "{out}{err}");
}

#[test]
fn a_second_interrupt_ends_the_program_when_it_comes_later() {
    let directory = tempdir().unwrap();
    // One step of a worker takes long enough that the first wish is not yet heeded.
    let flags = "--data synthetic --recipe quick --model resnet18 --width 32 --train-images 2048 --epochs 1 \
                 --batch-size 2048 --run-dir run";
    let mut running = Running::start(train(directory.path(), flags));
    running.until_training();
    running.signal("INT");
    sleep(Duration::from_millis(1200));
    running.signal("INT");
    let (code, out, _) = running.end();
    assert_eq!(code, Some(130), "{out}");
    assert!(!out.contains("stopped by"), "{out}");
}

#[test]
fn a_selection_heeds_signals_and_the_run_goes_on_with_the_same_bits() {
    let flags = "--data synthetic --recipe quick --model resnet18 --width 8 --train-images 1024 \
                 --batch-size 512 --mask fisher --fisher-samples 1024 --epochs 1 --run-dir run";
    let whole = tempdir().unwrap();
    succeed(train(whole.path(), flags));
    let directory = tempdir().unwrap();
    let mut running = Running::start(train(directory.path(), flags));
    running.until_training();
    running.signal("TERM");
    let (code, out, err) = running.end();
    assert_eq!(code, Some(143), "{out}{err}");
    assert!(!out.contains("mask of"), "it was stopped before the mask was there: {out}");
    assert_kept(directory.path(), &out);
    succeed(train(directory.path(), "--resume run"));
    let weights = |directory: &Path| std::fs::read(directory.join("run/final.safetensors")).unwrap();
    assert!(weights(directory.path()) == weights(whole.path()));
}

#[test]
fn a_time_limit_stops_with_a_checkpoint() {
    let directory = tempdir().unwrap();
    let (code, out, err) =
        finish(train(directory.path(), &format!("{LONG} --max-minutes 0.03")).output().unwrap());
    assert_eq!(code, Some(124), "{out}{err}");
    assert!(out.contains("\nstopped by its time limit; "), "{out}");
    assert_kept(directory.path(), &out);
    for minutes in ["0", "-1", "x", "nan"] {
        let flags = format!("{LONG}2 --max-minutes={minutes}");
        let (code, _, err) = finish(train(directory.path(), &flags).output().unwrap());
        assert!(code == Some(1) || code == Some(2), "{code:?} {err}");
        assert!(err.contains("--max-minutes") && !directory.path().join("run2").exists(), "{err}");
    }
}

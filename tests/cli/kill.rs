//! `kill -9` at a random moment, then `--resume`: the end is that of a run that was never killed.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::Instant;

use crate::support::cli::{Running, contents, finish, succeed, timeless_logs, timeless_metrics, train};
use fishmask::rng::{Purpose, Stream};
use tempfile::tempdir;

/// 4 epochs of 8 steps, so that a kill finds steps, evaluation and the writing of files alike.
const FLAGS: &str = "--data synthetic --train-images 512 --width 2 --batch-size 64 --epochs 4 --run-dir run";

/// Whether a run ended as the uninterrupted one, and left nothing else.
fn assert_same(run: &Path, uninterrupted: &Path, what: &str) {
    let names = |run: &Path| contents(run).into_keys().collect::<Vec<_>>();
    assert_eq!(names(run), names(uninterrupted), "{what}");
    let end = |run: &Path| fs::read(run.join("final.safetensors")).unwrap();
    assert!(end(run) == end(uninterrupted), "{what}: other bits");
    assert_eq!(timeless_metrics(run), timeless_metrics(uninterrupted), "{what}");
    assert_eq!(timeless_logs(run), timeless_logs(uninterrupted), "{what}");
}

#[test]
fn killed_at_random_moments_and_resumed_ends_with_the_same_bits() {
    let whole = tempdir().unwrap();
    let mut running = Running::start(train(whole.path(), FLAGS));
    running.until_training();
    let began = Instant::now();
    assert_eq!(running.end().0, Some(0));
    let duration = began.elapsed();
    let uninterrupted = whole.path().join("run");
    let epochs: Vec<_> = timeless_metrics(&uninterrupted).iter().map(|line| line["epoch"].clone()).collect();
    assert_eq!(epochs, [1, 2, 3, 4]);

    // Each run is killed in one of its first three epochs, and again in the first it does when it is resumed.
    let mut stream = Stream::new(2, Purpose::Synthetic, 0, 0);
    let mut killed = 0;
    for trial in 0..3 {
        let directory = tempdir().unwrap();
        let run = directory.path().join("run");
        let mut moments = vec![];
        for flags in [FLAGS, "--resume run"] {
            let mut running = Running::start(train(directory.path(), flags));
            running.until_training();
            let rows = if flags == FLAGS { stream.below(3) } else { 0 };
            (1..=rows).for_each(|row| running.until(&format!("{row} ")));
            let moment = duration.mul_f64(0.25 * f64::from(stream.uniform()));
            sleep(moment);
            moments.push((rows, moment));
            killed += usize::from(running.kill());
            if run.join("final.safetensors").exists() {
                break;
            }
        }
        let what = format!("trial {trial}, killed (rows, then time) {moments:?} of {duration:?}");
        // A kill between the last weights and the last checkpoint leaves a run to be resumed as well.
        let (code, out, err) = finish(train(directory.path(), "--resume run").output().unwrap());
        let done = code == Some(0) && out.contains("nothing left to train");
        assert!(code == Some(0) || done, "{what}: {out}\n{err}");
        assert_same(&run, &uninterrupted, &what);
    }
    assert!(killed >= 3, "only {killed} of the runs were still at work when they were killed");
}

/// What a kill in the midst of a write leaves, laid out by hand: those moments are too short to be hit.
#[test]
fn half_written_files_of_a_killed_run_are_cleared_away() {
    let whole = tempdir().unwrap();
    let flags = FLAGS.replace("512", "64");
    succeed(train(whole.path(), &flags));
    let directory = tempdir().unwrap();
    let run = directory.path().join("run");
    let mut running = Running::start(train(directory.path(), &flags));
    running.until("2 ");
    running.kill();

    let append = |name: &str, bytes: &[u8]| {
        File::options().append(true).open(run.join(name)).unwrap().write_all(bytes).unwrap();
    };
    // The row of an epoch whose checkpoint was never written, then half a row.
    append("metrics.jsonl", b"{\"epoch\":4,\"lr\":0.0}\n{\"epoch\":3,\"tra");
    append("logs.tsv", b"4\t0.1\t99.00\tsynthetic\n3\t0.0");
    for name in [".final.safetensors.77.partial", "checkpoints/.epoch-0003-step-00000.safetensors.77.partial"]
    {
        fs::write(run.join(name), "half").unwrap();
    }
    succeed(train(directory.path(), "--resume run"));
    assert_same(&run, &whole.path().join("run"), "after half-written files");
}

#[test]
fn killed_before_training_begins_the_folder_can_be_used_again() {
    let directory = tempdir().unwrap();
    let running = Running::start(train(directory.path(), FLAGS));
    let run = directory.path().join("run");
    while !run.join(".lock").exists() {
        sleep(std::time::Duration::from_millis(1));
    }
    assert!(running.kill());
    assert!(!run.join("metrics.jsonl").exists() || run.join("config.json").exists());
    // Before config.json it is no run yet; with it, it is one that has done nothing.
    let short = FLAGS.replace("--epochs 4", "--epochs 1").replace("512", "64");
    let flags = if run.join("config.json").exists() { "--resume run" } else { &short };
    succeed(train(directory.path(), flags));
    assert!(run.join("final.safetensors").exists());
}

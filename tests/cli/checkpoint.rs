//! The `checkpoint` program and `scripts/read_checkpoint.py`, on runs made up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::chain::{Run, bits, three_masks};
use crate::support::cli::{SMALL, finish, succeed, timeless_metrics, train};
use fishmask::checkpoint::weights::{self, Loaded};
use fishmask::checkpoint::{Moment, RunLock};
use fishmask::graph::Model;
use tempfile::{TempDir, tempdir};

/// A run folder `run` of resnet9 of width 4.
fn run() -> (TempDir, Vec<Run>) {
    let folder = tempdir().unwrap();
    let checkpoints = folder.path().join("run/checkpoints");
    fs::create_dir_all(&checkpoints).unwrap();
    let runs = three_masks(&checkpoints, Model::Resnet9.graph(4).unwrap().layout);
    (folder, runs)
}

/// Exit code, standard output, error stream.
fn checkpoint(folder: &Path, flags: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("fishmask"));
    command.arg("checkpoint");
    finish(command.current_dir(folder).args(flags.split_whitespace()).stdin(Stdio::null()).output().unwrap())
}

#[track_caller]
fn good(folder: &Path, flags: &str) -> String {
    let (code, out, err) = checkpoint(folder, flags);
    assert_eq!((code, &err[..]), (Some(0), ""), "{out}");
    out
}

#[track_caller]
fn bad(folder: &Path, flags: &str) -> String {
    let (code, out, err) = checkpoint(folder, flags);
    assert_eq!((code, &out[..], err.lines().count()), (Some(1), "", 1), "{err}");
    err
}

#[test]
fn list_shows_what_each_takes() {
    let (folder, runs) = run();
    let out = good(folder.path(), "list run");
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    let layout = &runs[0].layout;
    assert_eq!(out.lines().next().unwrap(), format!("resnet9 of width 4, {} weights", layout.weight_count()));
    assert_eq!(lines[1], ["epoch", "step", "kind", "kept", "bytes", "of", "dense", "test", "%"]);
    assert_eq!(lines.len(), 2 + 1 + runs.len());
    let dense = 4.0 * (layout.weight_count() + layout.statistic_count()) as f64;
    for (line, run) in lines[3..].iter().zip(&runs) {
        let Moment { epoch, step } = run.progress.at;
        let file = format!("run/checkpoints/epoch-{epoch:04}-step-{step:05}.delta.safetensors");
        let bytes = fs::metadata(folder.path().join(file)).unwrap().len();
        let share = format!("{:.2}%", 100.0 * bytes as f64 / dense);
        let accuracy = run.progress.test_accuracy.map_or("-".into(), |a| format!("{a:.2}"));
        let kept = (layout.weight_count() / 4).to_string();
        assert_eq!(
            line[..],
            [&epoch.to_string(), &step.to_string(), "delta", &kept, &bytes.to_string(), &share, &accuracy]
        );
    }
    assert_eq!(lines[2][2..4], ["base", &layout.weight_count().to_string()]);
}

#[test]
fn restore_writes_what_the_run_had() {
    let (folder, runs) = run();
    for (run, step) in runs.iter().zip([0, 0, 0, 5, 0, 0, 0, 1]) {
        let epoch = run.progress.at.epoch;
        let out =
            good(folder.path(), &format!("restore run --epoch {epoch} --step {step} --out F.safetensors"));
        assert!(out.contains(&format!("epoch-{epoch:04}-step-{step:05}.delta.safetensors")), "{out}");
        let Loaded { weights, running, .. } =
            weights::load(&folder.path().join("F.safetensors"), &run.layout).unwrap();
        assert_eq!((bits(&weights), bits(&running)), (bits(&run.weights), bits(&run.running)));
    }
    fs::remove_file(folder.path().join("F.safetensors")).unwrap();
    let err = bad(folder.path(), "restore run --epoch 9 --out F.safetensors");
    assert!(
        err.contains("holds no checkpoint of epoch 9; there are 9 from epoch 0 to epoch 6 step 1"),
        "{err}"
    );
    // Damaged, nothing is written.
    let base = folder.path().join("run/checkpoints/base-0000-step-00000.safetensors");
    let mut bytes = fs::read(&base).unwrap();
    *bytes.last_mut().unwrap() ^= 4;
    fs::write(&base, bytes).unwrap();
    let err = bad(folder.path(), "restore run --epoch 1 --out F.safetensors");
    assert!(err.contains("base-0000-step-00000.safetensors: damaged"), "{err}");
    assert!(!folder.path().join("F.safetensors").exists());
}

#[test]
fn verify_names_each_bad_file_and_exits_with_1() {
    let (folder, _) = run();
    let out = good(folder.path(), "verify run");
    assert_eq!(out.lines().count(), 13, "{out}");
    assert!(out.ends_with("good  epoch-0006-step-00001.delta.safetensors\nall 12 files are good\n"), "{out}");
    // What builds on epoch 5, the last of its mask, goes with it.
    fs::remove_file(folder.path().join("run/checkpoints/epoch-0005-step-00000.delta.safetensors")).unwrap();
    let (code, out, err) = checkpoint(folder.path(), "verify run");
    assert_eq!((code, &err[..]), (Some(1), ""));
    let wrong: Vec<&str> = out.lines().filter(|line| line.starts_with("BAD ")).collect();
    assert_eq!(wrong.len(), 2, "{out}");
    assert!(wrong[0].contains("BAD   epoch-0006-step-00000.delta.safetensors: "), "{out}");
    assert!(wrong[0].contains("its parent, the checkpoint whose weights have BLAKE3 "), "{out}");
    assert!(out.ends_with("2 of 11 files are bad\n"), "{out}");
}

#[test]
fn prune_keeps_the_last_and_waits_for_no_other_writer() {
    let (folder, runs) = run();
    let lock = RunLock::take(&folder.path().join("run")).unwrap();
    let err = bad(folder.path(), "prune run --keep-last 2");
    let pid = std::process::id();
    assert!(err.contains(&format!("run: another process is writing to this run (pid {pid})")), "{err}");
    drop(lock);
    let out = good(folder.path(), "prune run --keep-last 1");
    assert!(
        out.starts_with("wrote   base-0005-step-00000.safetensors\nremoved epoch-0006-step-00000.delta"),
        "{out}"
    );
    // Seven deltas, a base and two masks.
    assert!(out.lines().last().unwrap().starts_with("removed 10 files, "), "{out}");
    good(folder.path(), "verify run");
    good(folder.path(), "restore run --epoch 6 --step 1 --out F.safetensors");
    let weights = weights::load(&folder.path().join("F.safetensors"), &runs[7].layout).unwrap().weights;
    assert_eq!(bits(&weights), bits(&runs[7].weights));
    let (code, _, err) = checkpoint(folder.path(), "prune run --keep-last 0");
    assert!(code == Some(2) && err.contains("--keep-last"), "{err}");
}

#[test]
fn diff_counts_changes_by_layer() {
    let (folder, runs) = run();
    let out = good(folder.path(), "diff run 1 2");
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 2 + runs[0].layout.parameters.len());
    let last = rows.last().unwrap();
    let changed =
        runs[0].weights.iter().zip(&runs[1].weights).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    assert_eq!(last[..3], ["all", &runs[0].layout.weight_count().to_string(), &changed.to_string()]);
    let sum: usize = rows[1..rows.len() - 1].iter().map(|row| row[2].parse::<usize>().unwrap()).sum();
    assert_eq!(sum, changed);
    let err = bad(folder.path(), "diff run 1 8");
    assert!(err.contains("holds no checkpoint of epoch 8; there are 9 from"), "{err}");
    // A step within an epoch.
    let out = good(folder.path(), "diff run 3 3:5");
    let changed = runs[2].weights.iter().zip(&runs[3].weights).filter(|(a, b)| a.to_bits() != b.to_bits());
    let last: Vec<&str> = out.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(last[2], changed.count().to_string());
    let err = bad(folder.path(), "diff run 3:6 3");
    assert!(err.contains("holds no checkpoint of epoch 3 step 6; there are 9 from"), "{err}");
    let (code, _, err) = checkpoint(folder.path(), "diff run 3.5 3");
    assert!(code == Some(2) && err.contains("named by EPOCH or EPOCH:STEP, such as 3 or 3:120"), "{err}");
}

#[test]
fn a_folder_without_checkpoints_says_so() {
    let folder = tempdir().unwrap();
    for (flags, expected) in [
        ("list absent", "absent: cannot list it: No such file"),
        ("verify .", ".: holds no checkpoint"),
        ("prune . --keep-last 1", ".: holds no checkpoint"),
    ] {
        let err = bad(folder.path(), flags);
        assert!(err.contains(expected), "{err}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no lock is left");
}

#[test]
fn full_checkpoints_of_a_dense_run_are_listed_verified_and_restored() {
    let folder = tempdir().unwrap();
    succeed(train(folder.path(), &format!("{SMALL} --run-dir run")));
    let out = good(folder.path(), "list run");
    let rows: Vec<Vec<&str>> = out.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
    let metrics = timeless_metrics(&folder.path().join("run"));
    assert_eq!(rows.len(), 2, "{out}");
    for (row, metrics) in rows.iter().zip(&metrics[1..]) {
        let accuracy = format!("{:.2}", metrics["test_accuracy"].as_f64().unwrap());
        assert_eq!((row[0], row[1], row[2]), (&metrics["epoch"].to_string()[..], "0", "full"));
        assert_eq!(row[6], accuracy);
    }
    assert!(good(folder.path(), "verify run").ends_with("all 2 files are good\n"));
    good(folder.path(), "restore run --epoch 3 --out F.safetensors");
    let [ours, last] =
        ["F.safetensors", "run/final.safetensors"].map(|f| fs::read(folder.path().join(f)).unwrap());
    assert!(ours == last);
    good(folder.path(), "prune run --keep-last 1");
    assert_eq!(good(folder.path(), "verify run").lines().count(), 2);
}

/// A Python with what the script needs: `PYTHON`, or python3.
fn python() -> Option<PathBuf> {
    let python = PathBuf::from(std::env::var_os("PYTHON").unwrap_or("python3".into()));
    let imports = ["-c", "import numpy, safetensors.numpy"];
    let has = Command::new(&python).args(imports).stderr(Stdio::null()).status();
    has.is_ok_and(|status| status.success()).then_some(python)
}

#[test]
fn the_script_restores_the_same_weights() {
    let Some(python) = python() else {
        eprintln!(
            "skipped: the_script_restores_the_same_weights: no python3 with numpy and safetensors; set \
             PYTHON to one"
        );
        return;
    };
    let (folder, runs) = run();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/read_checkpoint.py");
    let read = |flags: &str| {
        let mut command = Command::new(&python);
        command.arg(&script).args(flags.split_whitespace()).current_dir(folder.path());
        finish(command.output().unwrap())
    };
    for (run, step) in [(&runs[1], 0), (&runs[3], 5), (&runs[7], 1)] {
        let epoch = run.progress.at.epoch;
        let (code, out, err) = read(&format!("run --epoch {epoch} --step {step} --out P.safetensors"));
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(out.starts_with("weights: "), "{out}");
        let Loaded { weights, running, .. } =
            weights::load(&folder.path().join("P.safetensors"), &run.layout).unwrap();
        assert_eq!((bits(&weights), bits(&running)), (bits(&run.weights), bits(&run.running)));
    }
    // As `prune` leaves it, and what is not there.
    good(folder.path(), "prune run --keep-last 1");
    assert_eq!(read("run --epoch 6 --step 1 --out P.safetensors").0, Some(0));
    let (code, _, err) = read("run --epoch 1 --out P.safetensors");
    assert!(code == Some(1) && err.contains("run: no small checkpoint of that time"), "{err}");
}

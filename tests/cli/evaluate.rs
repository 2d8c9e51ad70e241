//! `evaluate`, of runs and by class.

use std::collections::BTreeMap;
use std::fs;
use std::sync::OnceLock;

use crate::support::cli::{SMALL, SMALL_MODEL, contents, evaluate, finish, listing, restore, succeed, train};
use fishmask::data::synthetic;
use safetensors::SafeTensors;
use tempfile::{TempDir, tempdir};

/// A working directory with a finished run in it.
fn with_run() -> TempDir {
    static RUN: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    let files = RUN.get_or_init(|| {
        let directory = tempdir().unwrap();
        succeed(train(directory.path(), &format!("{SMALL} --run-dir run")));
        contents(directory.path())
    });
    let directory = tempdir().unwrap();
    restore(directory.path(), files);
    directory
}

#[test]
fn a_run_says_what_it_is_of() {
    let directory = with_run();
    let path = directory.path();
    let before = listing(path);
    let (by_file, _) = succeed(evaluate(path, &format!("{SMALL_MODEL} --weights run/final.safetensors")));
    let (of_run, err) = succeed(evaluate(path, "run"));
    assert_eq!((of_run.as_str(), err.as_str()), (by_file.as_str(), ""));
    assert_eq!(succeed(evaluate(path, "run --epoch 3")).0, by_file);
    let metrics = fs::read_to_string(path.join("run/metrics.jsonl")).unwrap();
    let second: serde_json::Value = serde_json::from_str(metrics.lines().nth(1).unwrap()).unwrap();
    let accuracy = format!(", accuracy {:.2}%\n", second["test_accuracy"].as_f64().unwrap());
    assert!(succeed(evaluate(path, "run --epoch 2 --width 2 --data synthetic")).0.contains(&accuracy));
    assert_eq!(listing(path), before, "the run is only read");

    for (flags, parts) in [
        ("run --width 4", ["--width 4", "the run's config.json has 2; leave it out"]),
        ("run --data cifar10", ["--data cifar10", "the run's config.json has synthetic; leave it out"]),
        ("run --recipe quick", ["--recipe quick", "the run's config.json says"]),
        // A dense run keeps the newest two.
        ("run --epoch 1", ["run/checkpoints: holds no checkpoint of epoch 1", "epoch 2, epoch 3"]),
        ("run/checkpoints", ["run/checkpoints: not a run folder", "config.json"]),
    ] {
        let (code, out, err) = finish(evaluate(path, flags).output().unwrap());
        assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{flags}: {err}");
        assert!(err.starts_with("error: ") && parts.iter().all(|part| err.contains(part)), "{flags}: {err}");
    }
    for flags in ["", "run --weights run/final.safetensors", "--weights run/final.safetensors --epoch 1"] {
        let (code, _, err) = finish(evaluate(path, flags).output().unwrap());
        assert!(code == Some(2) && err.starts_with("error: "), "{flags}: {err}");
    }

    // A run that is not finished has its newest checkpoint, and one that has just begun nothing.
    fs::remove_file(path.join("run/final.safetensors")).unwrap();
    fs::remove_file(path.join("run/checkpoints/epoch-0003-step-00000.safetensors")).unwrap();
    assert!(succeed(evaluate(path, "run")).0.contains(&accuracy));
    fs::remove_file(path.join("run/checkpoints/epoch-0002-step-00000.safetensors")).unwrap();
    let (code, _, err) = finish(evaluate(path, "run").output().unwrap());
    let text = "error: run: the run has neither final weights nor a checkpoint yet\n";
    assert_eq!((code, err.as_str()), (Some(1), text));
}

#[test]
fn classes_are_told_apart() {
    let directory = with_run();
    let path = directory.path();
    let flags = "run --count 700 --confusion --logits l.safetensors";
    let (out, _) = succeed(evaluate(path, flags));
    // What is right and what is taken for what, from the logits.
    let bytes = fs::read(path.join("l.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let logits = file.tensor("logits").unwrap().data().as_chunks::<4>().0;
    let logits: Vec<f32> = logits.iter().map(|word| f32::from_le_bytes(*word)).collect();
    let test = synthetic::dataset(1, 700, 0).test;
    let mut expected = [[0_u64; 10]; 10];
    for (row, &label) in logits.chunks(10).zip(&test.labels) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let taken = row.iter().position(|&logit| logit == largest).unwrap();
        expected[usize::from(label)][taken] += 1;
    }

    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("synthetic, 700 test images: loss "), "{out}");
    assert_eq!(lines[1], "the first 700 of 10000 test images");
    let right: u64 = (0..10).map(|class| expected[class][class]).sum();
    assert!(lines[0].ends_with(&format!("accuracy {:.2}%", 100.0 * right as f64 / 700.0)), "{out}");
    let words = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
    assert_eq!(words(lines[3]), ["class", "images", "accuracy"]);
    for (class, row) in expected.iter().enumerate() {
        let images: u64 = row.iter().sum();
        let share = format!("{:.2}%", 100.0 * row[class] as f64 / images as f64);
        let rest = lines[4 + class].strip_prefix(test.set.classes[class]).unwrap();
        assert_eq!(words(rest), [images.to_string(), share], "{out}");
    }
    assert_eq!(words(lines[16]), words(&test.set.classes.join(" ")), "{out}");
    for (class, row) in expected.iter().enumerate() {
        let rest = lines[17 + class].strip_prefix(test.set.classes[class]).unwrap();
        assert_eq!(words(rest), row.map(|images| images.to_string()), "{out}");
    }
    assert_eq!(lines.len(), 27, "{out}");

    // A class without an image has no accuracy.
    let (out, _) = succeed(evaluate(path, "run --count 1"));
    assert_eq!(out.lines().filter(|line| line.ends_with("  0         -")).count(), 9, "{out}");
}

//! Going on: the command that is printed, requeued jobs, finished runs, more epochs, edits, other data.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::cli::{Running, SMALL, contents, finish, succeed, train};
use fishmask::Run;
use fishmask::data::{DataSource, synthetic};
use fishmask::records::{State, Status};
use fishmask::settings::{Config, Request};
use fishmask::train::Outcome;
use serde_json::Value;
use tempfile::tempdir;

fn refused(directory: &Path, flags: &str, parts: &[&str]) {
    let (code, out, err) = finish(train(directory, flags).output().unwrap());
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.starts_with("error: ") && err.matches('\n').count() == 1, "{err}");
    parts.iter().for_each(|part| assert!(err.contains(part), "{part}: {err}"));
}

fn weights(directory: &Path, run: &str) -> Vec<u8> {
    fs::read(directory.join(run).join("final.safetensors")).unwrap()
}

#[test]
fn the_printed_command_goes_on_when_it_is_pasted() {
    let directory = tempdir().unwrap();
    let mut command = train(directory.path(), &SMALL.replace("--epochs 3", "--epochs 100"));
    command.args(["--run-dir", "my run", "--threads", "1"]);
    let mut running = Running::start(command);
    running.until("1 ");
    running.signal("INT");
    let (code, out, _) = running.end();
    assert_eq!(code, Some(130));
    let (_, line) = out.trim_end().rsplit_once("go on with: ").unwrap();
    assert!(line.contains(" --threads 1 ") && line.ends_with(" --resume 'my run'"), "{line}");
    let mut shell = Command::new("sh");
    shell
        .args(["-c", line])
        .current_dir(directory.path())
        .env("CUDA_VISIBLE_DEVICES", "")
        .stdin(Stdio::null());
    let mut running = Running::start(shell);
    running.until("resumed ");
    running.until_training();
    drop(running);
}

#[test]
fn one_command_begins_goes_on_and_is_done() {
    let directory = tempdir().unwrap();
    let flags = format!("{SMALL} --run-dir run --resume auto");
    let mut running = Running::start(train(directory.path(), &flags));
    running.until("1 ");
    running.signal("TERM");
    assert_eq!(running.end().0, Some(143));
    let (out, _) = succeed(train(directory.path(), &flags));
    assert!(out.contains("resumed  after "), "{out}");
    let status = Status::read(&directory.path().join("run")).unwrap();
    assert_eq!((status.state, status.epoch, status.epochs), (State::Finished, 3, 3));
    assert_eq!(status.data, "synthetic");
    let done = "the run's training of 3 epochs is done: there is nothing left to train\n";
    assert_eq!(succeed(train(directory.path(), &flags)).0, done);
    assert_eq!(succeed(train(directory.path(), "--resume run")).0, done);
    let (out, _) = succeed(train(directory.path(), &format!("{SMALL} --run-dir whole")));
    assert!(!out.contains("resumed"), "{out}");
    assert!(weights(directory.path(), "run") == weights(directory.path(), "whole"));
    // The sessions are all there.
    let config: Value =
        serde_json::from_slice(&fs::read(directory.path().join("run/config.json")).unwrap()).unwrap();
    assert_eq!(config["sessions"].as_array().unwrap().len(), 2);
    refused(directory.path(), "--resume auto", &["--resume auto", "--run-dir"]);
    refused(directory.path(), "--resume run --run-dir run", &["--resume run --run-dir run"]);
    refused(directory.path(), "--run-dir run --resume auto --lr 0.3", &["--lr 0.3 contradicts the run"]);
}

#[test]
fn more_epochs_only_where_those_that_are_done_would_have_been_the_same() {
    let directory = tempdir().unwrap();
    let flags = SMALL.replace("--epochs 3 --peak-epoch 1", "--epochs 2 --peak-epoch 2");
    // The learning rate rises to the end: 3 epochs would have had the same rates so far.
    succeed(train(directory.path(), &format!("{flags} --run-dir run")));
    let (out, _) = succeed(train(directory.path(), "--resume run --epochs 3"));
    assert!(out.contains("resumed  after epoch 2"), "{out}");
    let longer = SMALL.replace("--peak-epoch 1", "--peak-epoch 2");
    succeed(train(directory.path(), &format!("{longer} --run-dir whole")));
    assert!(weights(directory.path(), "run") == weights(directory.path(), "whole"));
    // Now it has fallen to 0.
    let parts = ["--epochs 5: the run has trained as one of 3 epochs, and at epoch 3", "--weights run/final"];
    refused(directory.path(), "--resume run --epochs 5", &parts);
    refused(directory.path(), "--resume run --epochs 2", &["--epochs 2 contradicts the run"]);
    assert!(weights(directory.path(), "run") == weights(directory.path(), "whole"));
}

#[test]
fn edits_of_config_json_are_named_and_taken_when_they_are_repeated() {
    let directory = tempdir().unwrap();
    let mut running = Running::start(train(directory.path(), &format!("{SMALL} --run-dir run")));
    running.until("1 ");
    running.signal("TERM");
    assert_eq!(running.end().0, Some(143));
    let file = directory.path().join("run/config.json");
    let text = fs::read_to_string(&file).unwrap();
    let edited = text.replace("\"weight_decay\": 0.0005", "\"weight_decay\": 0.001");
    assert_ne!(text, edited);
    fs::write(&file, edited.replace("\"momentum\": 0.9", "\"momentum\": 0.8")).unwrap();
    let parts =
        ["run/config.json: changed since", "optimizer.momentum from 0.9 to 0.8", "from 0.0005 to 0.001"];
    refused(directory.path(), "--resume run", &parts);
    refused(directory.path(), "--resume run --momentum 0.8", &["weight_decay"]);
    succeed(train(directory.path(), "--resume run --momentum 0.8 --set optimizer.weight_decay=0.001"));
}

#[test]
fn another_run_s_checkpoints_are_not_gone_on_with() {
    let directory = tempdir().unwrap();
    for (run, lr) in [("a", 0.1), ("b", 0.2)] {
        let flags = SMALL.replace("--epochs 3", "--epochs 2");
        succeed(train(directory.path(), &format!("{flags} --lr {lr} --run-dir {run}")));
    }
    // The checkpoint after the first epoch of one run among the files of the other.
    let checkpoints = |run: &str| directory.path().join(run).join("checkpoints");
    fs::remove_file(checkpoints("a").join("epoch-0002-step-00000.safetensors")).unwrap();
    let name = "epoch-0001-step-00000.safetensors";
    fs::copy(checkpoints("b").join(name), checkpoints("a").join(name)).unwrap();
    refused(directory.path(), "--resume a", &["a: its newest checkpoint was written under other settings"]);
}

#[test]
fn other_images_are_not_gone_on_with() {
    let directory = tempdir().unwrap();
    let folder = directory.path().join("run");
    let mut config = Config::default();
    (config.data.set, config.data.images) = (DataSource::Synthetic, None);
    (config.network.width, config.train.epochs, config.train.batch_size) = (1, 2, 32);
    config.schedule.peak_epoch = 1.0;
    let images = |seed| synthetic::dataset(64, 20, seed);
    Run::new(config).dataset(images(0)).folder(&folder).run().unwrap();
    fs::remove_file(folder.join("checkpoints/epoch-0002-step-00000.safetensors")).unwrap();
    let before = contents(&folder);
    let resume = |images| Run::resume(&folder, &Request::default()).unwrap().dataset(images).run();
    let error = resume(images(1)).unwrap_err().to_string();
    assert!(error.contains("not those that the run was begun on") && error.contains("--data-dir"), "{error}");
    // One label alone is enough.
    let mut relabelled = images(0);
    relabelled.train.labels[5] ^= 1;
    assert!(resume(relabelled).unwrap_err().to_string().contains("not those that the run was begun on"));
    assert!(contents(&folder) == before, "nothing is changed");
    assert!(matches!(resume(images(0)).unwrap(), Outcome::Finished(_)));
}

#[test]
fn the_best_weights_are_kept_beside_the_final_ones() {
    let directory = tempdir().unwrap();
    // A rate that makes the last epochs worse than those before.
    let flags = "--data synthetic --train-images 256 --width 2 --batch-size 64 --epochs 4 --lr 8 \
                 --peak-epoch 4 --keep-best --run-dir run";
    succeed(train(directory.path(), flags));
    let metrics = fs::read_to_string(directory.path().join("run/metrics.jsonl")).unwrap();
    let accuracy =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["test_accuracy"].as_f64().unwrap();
    let best = metrics.lines().map(accuracy).fold(0.0, f64::max);
    let last = accuracy(metrics.lines().next_back().unwrap());
    let flags = |file: &str| format!("{} --weights run/{file}", crate::support::cli::SMALL_MODEL);
    for (file, accuracy) in [("best.safetensors", best), ("final.safetensors", last)] {
        let (out, _) = succeed(crate::support::cli::evaluate(directory.path(), &flags(file)));
        assert!(out.contains(&format!("accuracy {accuracy:.2}%")), "{file}: {out}\n{metrics}");
    }
}

#[test]
fn runs_that_start_in_one_second_have_folders_of_their_own() {
    let directory = tempdir().unwrap();
    let flags =
        "--data synthetic --recipe quick --train-images 4 --batch-size 2 --epochs 1 --width 1 --threads 1";
    let start = |_| {
        let mut command = train(directory.path(), flags);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..6).map(start).collect();
    for child in children {
        let (code, _, err) = finish(child.wait_with_output().unwrap());
        assert_eq!(code, Some(0), "{err}");
    }
    assert_eq!(fs::read_dir(directory.path().join("runs")).unwrap().count(), 6);
}

#[test]
fn mpirun_without_distributed_is_told() {
    let directory = tempdir().unwrap();
    let flags =
        "--data synthetic --recipe quick --train-images 4 --batch-size 2 --epochs 1 --width 1 --threads 1";
    let mut command = train(directory.path(), flags);
    command.envs([("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "0")]);
    let (_, err) = succeed(command);
    assert!(err.contains("mpirun has started 4 processes") && err.contains("--distributed"), "{err}");
    let mut command = train(directory.path(), flags);
    command.envs([("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "1")]);
    assert_eq!(succeed(command).1, "");
}

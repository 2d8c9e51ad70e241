//! Run folders: begun, opened, refused.

use std::fs;
use std::path::{Path, PathBuf};

use fishmask::records::{FolderError, RunFolder};
use fishmask::settings::Edit;

use super::resolve;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A run that has begun, in a temporary folder.
fn begun() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("runs/a");
    RunFolder::create(&path).unwrap().begin(&resolve("")).unwrap();
    (parent, path)
}

#[test]
fn a_run_folder_opens_as_it_was_begun() {
    let (_parent, path) = begun();
    assert_eq!(names(&path), [".lock", "checkpoints", "config.json"]);
    let (folder, config, edits) = RunFolder::open(&path).unwrap();
    assert_eq!(edits, []);
    assert_eq!(config, resolve(""));
    assert_eq!(folder.checkpoints(), path.join("checkpoints"));
    assert!(fs::read_to_string(path.join("config.json")).unwrap().contains("\"set\": \"cifar10\""));
}

#[test]
fn a_run_that_never_begins_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a");
    drop(RunFolder::create(&path).unwrap());
    assert!(!path.exists());
    // A folder that was there stays, empty.
    fs::create_dir(&path).unwrap();
    drop(RunFolder::create(&path).unwrap());
    assert_eq!(names(&path), [""; 0]);
    // Nor do the logs and settings of one that was about to begin.
    let mut folder = RunFolder::create(&path).unwrap();
    drop((folder.metrics().unwrap(), folder.logs().unwrap()));
    fs::create_dir(path.join("config.json")).unwrap();
    assert!(folder.begin(&resolve("")).is_err());
    fs::remove_dir(path.join("config.json")).unwrap();
    drop(folder);
    assert_eq!(names(&path), [""; 0]);
    // What a killed program left before it began is in nobody's way.
    fs::create_dir(path.join("checkpoints")).unwrap();
    fs::write(path.join("metrics.jsonl"), "").unwrap();
    fs::write(path.join(".lock"), "").unwrap();
    fs::write(path.join(".config.json.12.partial"), "{").unwrap();
    RunFolder::create(&path).unwrap().begin(&resolve("")).unwrap();
}

#[test]
fn what_was_edited_since_the_run_began_is_named() {
    let (_parent, path) = begun();
    let file = path.join("config.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"lr\": 0.2", "\"lr\": 0.3")).unwrap();
    let (_, config, edits) = RunFolder::open(&path).unwrap();
    assert_eq!(config.optimizer.lr, 0.3);
    assert_eq!(edits, [Edit { key: "optimizer.lr", was: "0.2".into(), is: "0.3".into() }]);
    // Runs of before have nothing to compare with.
    fs::remove_file(path.join("checkpoints/settings.json")).unwrap();
    assert_eq!(RunFolder::open(&path).unwrap().2, []);
}

#[test]
fn an_existing_run_is_not_trained_over() {
    let (_parent, path) = begun();
    let error = RunFolder::create(&path).unwrap_err().to_string();
    let shown = path.display();
    let expected = format!(
        "{shown}: a run is already there; resume it by --resume {shown}, or choose another --run-dir"
    );
    assert_eq!(error, expected);
    assert!(path.join("config.json").exists());
}

#[test]
fn a_folder_of_other_files_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    fs::write(parent.path().join("thesis.tex"), "").unwrap();
    let error = RunFolder::create(parent.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("there are other files in it, such as thesis.tex; choose another --run-dir"),
        "{error}"
    );
    assert_eq!(names(parent.path()), ["thesis.tex"]);
}

#[test]
fn a_folder_that_cannot_be_made_is_told() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "mine").unwrap();
    let error = RunFolder::create(&file.join("run")).unwrap_err().to_string();
    assert!(error.contains("file/run: cannot create this folder: "), "{error}");
    assert!(
        RunFolder::create(&file).unwrap_err().to_string().contains("file: cannot use it as a run folder")
    );
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

#[test]
fn resuming_what_is_no_run_folder_says_why() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    let cases = [
        (parent.path().join("absent"), "not a run folder: it does not exist"),
        (file, "not a run folder: it is a file"),
        (parent.path().to_path_buf(), "not a run folder: it has no config.json"),
    ];
    for (path, reason) in cases {
        let error = RunFolder::open(&path).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {reason}", path.display()));
    }
    assert_eq!(names(parent.path()), ["file"]);
}

#[test]
fn a_broken_or_impossible_config_json_is_named() {
    let (_parent, path) = begun();
    let file = path.join("config.json");
    fs::write(&file, "{\"recipe\": \"quick\"").unwrap();
    let error = RunFolder::open(&path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: not a run's configuration: EOF", file.display())), "{error}");
    let mut config = resolve("");
    config.train.batch_size = 0;
    fs::write(&file, serde_json::to_string(&config).unwrap()).unwrap();
    let error = RunFolder::open(&path).unwrap_err().to_string();
    assert_eq!(error, format!("{}: train.batch_size = 0: a step needs at least 1 image", file.display()));
    let text = serde_json::to_string(&resolve("")).unwrap();
    fs::write(&file, text.replace("\"cpu\"", "\"tpu\"")).unwrap();
    let error = RunFolder::open(&path).unwrap_err().to_string();
    assert!(error.contains("device tpu: there is no such device"), "{error}");
}

#[test]
fn two_programs_cannot_train_in_one_folder() {
    let (_parent, path) = begun();
    let (first, ..) = RunFolder::open(&path).unwrap();
    let error = RunFolder::open(&path).unwrap_err();
    assert!(matches!(error, FolderError::InUse(_)), "{error}");
    drop(first);
    assert!(RunFolder::open(&path).is_ok());
    // Nor may a second one clear away what a first one has just made.
    let fresh = path.with_file_name("b");
    let mut first = RunFolder::create(&fresh).unwrap();
    assert!(matches!(RunFolder::create(&fresh).unwrap_err(), FolderError::InUse(_)));
    first.begin(&resolve("")).unwrap();
}

#[test]
fn opening_clears_away_what_a_kill_left_half_written() {
    let (_parent, path) = begun();
    fs::write(path.join(".final.safetensors.7.partial"), "half").unwrap();
    fs::write(path.join("checkpoints/.epoch-0001-step-00000.safetensors.7.partial"), "half").unwrap();
    RunFolder::open(&path).unwrap();
    assert_eq!(names(&path), [".lock", "checkpoints", "config.json"]);
    assert_eq!(names(&path.join("checkpoints")), ["settings.json"]);
}

#[test]
fn logs_are_cut_back_to_the_epochs_that_are_done() {
    let (_parent, path) = begun();
    // A line that is no report stays: it is not this program's to remove.
    let metrics = "{\"epoch\":1,\"lr\":0.1}\n# seed 3 from here\n{\"epoch\":2,\"lr\":0.1}\n";
    let logs = "epoch\thours\ttop1Accuracy\n1\t0.1\t40.00\n2\t0.2\t50.00\n";
    // Epoch 3 was logged and not kept; of epoch 10 and 1 only a part of the line got there.
    fs::write(path.join("metrics.jsonl"), format!("{metrics}{{\"epoch\":3}}\n{{\"epoch\":1,")).unwrap();
    fs::write(path.join("logs.tsv"), format!("{logs}3\t0.3\t60.00\n1")).unwrap();
    let (folder, ..) = RunFolder::open(&path).unwrap();
    folder.cut_back(2).unwrap();
    assert_eq!(fs::read_to_string(path.join("metrics.jsonl")).unwrap(), metrics);
    assert_eq!(fs::read_to_string(path.join("logs.tsv")).unwrap(), logs);
    folder.cut_back(0).unwrap();
    assert_eq!(fs::read_to_string(path.join("metrics.jsonl")).unwrap(), "# seed 3 from here\n");
    assert_eq!(fs::read_to_string(path.join("logs.tsv")).unwrap(), "epoch\thours\ttop1Accuracy\n");
    // Files that were never written are none to cut.
    fs::remove_file(path.join("logs.tsv")).unwrap();
    folder.cut_back(0).unwrap();
}

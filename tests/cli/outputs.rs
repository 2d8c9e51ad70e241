//! Outputs: special files, links, inputs, and runs' own files.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use crate::support::cli::{SMALL, SMALL_MODEL, checkpoint, contents, evaluate, finish, succeed, train};
use tempfile::{TempDir, tempdir};

/// A masked run in `run`, made once.
fn with_run() -> TempDir {
    use std::sync::OnceLock;
    static RUN: OnceLock<std::collections::BTreeMap<String, Vec<u8>>> = OnceLock::new();
    let files = RUN.get_or_init(|| {
        let directory = tempdir().unwrap();
        let flags = format!("{SMALL} --mask fisher --keep-ratio 0.05 --fisher-samples 16 --run-dir run");
        succeed(train(directory.path(), &flags));
        contents(directory.path())
    });
    let directory = tempdir().unwrap();
    crate::support::cli::restore(directory.path(), files);
    directory
}

/// The command is refused with one line that has these parts, and every file is as before.
fn refused(directory: &Path, mut command: Command, parts: &[&str]) {
    let before = contents(directory);
    let (code, out, err) = finish(command.output().unwrap());
    assert_eq!(code, Some(1), "{command:?}: {out}{err}");
    assert!(err.starts_with("error: ") && err.matches('\n').count() == 1, "{err}");
    parts.iter().for_each(|part| assert!(err.contains(part), "{part}: {err}"));
    assert!(contents(directory) == before, "{command:?} changed something");
}

#[test]
fn nothing_is_written_over_what_is_read_under_any_name() {
    let directory = with_run();
    let path = directory.path();
    let base = "run/checkpoints/base-0000-step-00000.safetensors";
    symlink(base, path.join("link")).unwrap();
    fs::hard_link(path.join(base), path.join("hard")).unwrap();
    for (out, said) in [
        (base, "base-0000-step-00000.safetensors, which is read"),
        ("link", "link: this is "),
        ("hard", "hard: this is "),
        ("run/checkpoints/../checkpoints/base-0000-step-00000.safetensors", "which is read"),
        ("run/checkpoints/other.safetensors", "itself writes there"),
        ("run/status.json", "itself writes there"),
        ("run/config.json", "itself writes there"),
        ("run/final.safetensors", "itself writes there"),
    ] {
        refused(path, checkpoint(path, &format!("restore run --epoch 2 --out {out}")), &[said]);
    }
    let (out, _) = succeed(checkpoint(path, "verify run"));
    assert!(out.contains("files are good"), "{out}");
    fs::copy(path.join("run/final.safetensors"), path.join("w.safetensors")).unwrap();
    fs::hard_link(path.join("w.safetensors"), path.join("w2")).unwrap();
    for logits in ["w.safetensors", "./w.safetensors", "w2"] {
        let flags = format!("{SMALL_MODEL} --count 10 --weights w.safetensors --logits {logits}");
        refused(path, evaluate(path, &flags), &["which is read"]);
    }
    let flags = format!("{SMALL_MODEL} --count 10 --weights w.safetensors --logits run/checkpoints/l");
    refused(path, evaluate(path, &flags), &["itself writes there"]);
    let flags = format!("{SMALL_MODEL} --fisher-samples 8 --weights w.safetensors --out w.safetensors");
    refused(path, crate::support::cli::mask(path, &flags), &["which is read"]);
    // Beside a run's own files there is room for a user's.
    succeed(checkpoint(path, "restore run --epoch 2 --out run/epoch-2.safetensors"));
}

#[test]
fn what_is_no_regular_file_is_written_through() {
    let directory = with_run();
    let path = directory.path();
    let flags =
        |out: &str| format!("{SMALL_MODEL} --count 10 --weights run/final.safetensors --logits {out}");
    succeed(evaluate(path, &flags("logits")));
    let logits = fs::read(path.join("logits")).unwrap();

    assert!(Command::new("mkfifo").arg(path.join("pipe")).status().unwrap().success());
    let reader = thread::spawn({
        let pipe = path.join("pipe");
        move || fs::read(pipe).unwrap()
    });
    succeed(evaluate(path, &flags("pipe")));
    assert!(reader.join().unwrap() == logits);
    assert!(fs::symlink_metadata(path.join("pipe")).unwrap().file_type().is_fifo());

    fs::write(path.join("target"), "old").unwrap();
    symlink("target", path.join("link")).unwrap();
    succeed(evaluate(path, &flags("link")));
    assert!(fs::symlink_metadata(path.join("link")).unwrap().is_symlink());
    assert!(fs::read(path.join("target")).unwrap() == logits);

    // Its own output, be that a pipe or a file: what it prints is there as well.
    let (_, out, _) = {
        let output = evaluate(path, &flags("/dev/stdout")).output().unwrap();
        (output.status, output.stdout, output.stderr)
    };
    assert!(out.starts_with(&logits) && out.len() > logits.len());
    let file = fs::File::create(path.join("out")).unwrap();
    assert!(evaluate(path, &flags("/dev/stdout")).stdout(Stdio::from(file)).status().unwrap().success());
    assert!(fs::read(path.join("out")).unwrap() == out);

    // A device node of its own, where the tests may make one.
    let node = path.join("null");
    let made = Command::new("mknod").arg(&node).args(["c", "1", "3"]).stderr(Stdio::null()).status().unwrap();
    if made.success() && fs::write(&node, "").is_ok() {
        succeed(evaluate(path, &flags("null")));
        assert!(fs::symlink_metadata(&node).unwrap().file_type().is_char_device());
    }
}

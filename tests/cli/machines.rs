//! What real machines do to a run: little memory, odd file systems, terminals that go away.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::cli::{Running, SMALL, checkpoint, contents, finish, succeed, train};
use tempfile::tempdir;

#[test]
fn a_run_that_does_not_fit_into_memory_is_refused_before_anything_is_written() {
    let directory = tempdir().unwrap();
    let flags = "--data synthetic --recipe quick --batch-size 50000 --train-images 50000 --width 64 \
                 --epochs 1 --run-dir run";
    let command = train(directory.path(), flags);
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -v 6000000; exec \"$0\" \"$@\""]).arg(command.get_program());
    shell.args(command.get_args()).current_dir(directory.path()).env("RAYON_NUM_THREADS", "2");
    let (code, out, err) = finish(shell.output().unwrap());
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    let summary = succeed(train(directory.path(), &format!("{flags} --summary"))).0;
    let megabytes = summary.lines().last().unwrap().split_whitespace().rev().nth(1).unwrap();
    let megabytes: f64 = megabytes.parse().unwrap();
    // Evaluated are the set's 10,000 test images, which the summary counts as well.
    let needed: f64 = err.split(" takes ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((needed - megabytes).abs() <= 1.0, "{err}{summary}");
    let free: f64 = err.split(" has ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(free < 6200.0, "{err}");
    assert!(contents(directory.path()).is_empty());
}

/// A file system that refuses to sync folders, with an error of this number.
fn without_folder_sync(error: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempdir().unwrap();
    let (source, library) = (directory.path().join("shim.c"), directory.path().join("shim.so"));
    let shim = format!(
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <errno.h>\n#include <sys/stat.h>\n\
         int fsync(int fd) {{ struct stat s; if (!fstat(fd, &s) && S_ISDIR(s.st_mode)) \
         {{ errno = {error}; return -1; }} return ((int (*)(int))dlsym(RTLD_NEXT, \"fsync\"))(fd); }}\n"
    );
    fs::write(&source, shim).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl");
    assert!(compiler.status().unwrap().success());
    (directory, library)
}

#[cfg(target_os = "linux")]
#[test]
fn folders_that_cannot_be_synced_hold_runs_and_those_that_fail_do_not() {
    for error in ["EINVAL", "ENOTSUP", "EOPNOTSUPP"] {
        let (directory, shim) = without_folder_sync(error);
        let mut command =
            train(directory.path(), &format!("{SMALL} --epochs 1 --run-dir run").replace("--epochs 3 ", ""));
        command.env("LD_PRELOAD", &shim);
        succeed(command);
        succeed(checkpoint(directory.path(), "verify run"));
    }
    let (directory, shim) = without_folder_sync("EIO");
    for _ in 0..2 {
        let mut command = train(directory.path(), &format!("{SMALL} --run-dir run"));
        command.env("LD_PRELOAD", &shim);
        let (code, _, err) = finish(command.output().unwrap());
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("config.json: cannot write it") && err.contains("error 5"), "{err}");
        assert!(!directory.path().join("run").exists(), "what never began leaves nothing");
    }
}

#[test]
fn a_run_goes_on_without_its_terminal_and_keeps_every_epoch() {
    let directory = tempdir().unwrap();
    let mut child = train(directory.path(), &format!("{SMALL} --run-dir run"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let (code, _, err) = finish(child.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("cannot write the table: ") && err.contains("goes on without it"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    let metrics = fs::read_to_string(directory.path().join("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 3);
    assert!(directory.path().join("run/checkpoints/epoch-0003-step-00000.safetensors").exists());
    succeed(checkpoint(directory.path(), "verify run"));
}

#[test]
fn an_epoch_is_kept_before_its_row_is_shown() {
    let directory = tempdir().unwrap();
    let mut running = Running::start(train(directory.path(), &format!("{SMALL} --run-dir run")));
    running.until("1 ");
    assert!(running.kill());
    assert!(directory.path().join("run/checkpoints/epoch-0001-step-00000.safetensors").exists());
    let metrics = fs::read_to_string(directory.path().join("run/metrics.jsonl")).unwrap();
    assert!(metrics.starts_with("{\"epoch\":1,"), "{metrics}");
}

//! Running the programs as a user does, on small runs, and looking at what they leave.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::SystemTime;

use assert_cmd::cargo::cargo_bin;

/// A run of 3 epochs of 4 steps; most of its second or two goes into evaluating the set's 10,000 test images.
pub const SMALL: &str =
    "--data synthetic --train-images 256 --width 2 --batch-size 64 --epochs 3 --peak-epoch 1";

/// The model of [`SMALL`], for `evaluate`.
pub const SMALL_MODEL: &str = "--data synthetic --model resnet9 --width 2";

/// `train` in a working directory, with flags as they are typed.
pub fn train(directory: &Path, flags: &str) -> Command {
    command(cargo_bin!("train"), directory, flags)
}

/// `evaluate`, likewise.
pub fn evaluate(directory: &Path, flags: &str) -> Command {
    subcommand("evaluate", directory, flags)
}

/// `checkpoint`, likewise.
pub fn checkpoint(directory: &Path, flags: &str) -> Command {
    subcommand("checkpoint", directory, flags)
}

/// `mask`, likewise.
pub fn mask(directory: &Path, flags: &str) -> Command {
    subcommand("mask", directory, flags)
}

/// `fishmask` with a subcommand, likewise.
pub fn subcommand(name: &str, directory: &Path, flags: &str) -> Command {
    command(cargo_bin!("fishmask"), directory, &format!("{name} {flags}"))
}

fn command(program: &Path, directory: &Path, flags: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).args(flags.split_whitespace()).stdin(Stdio::null());
    // `--device auto` then means the CPU on every machine.
    command.env("CUDA_VISIBLE_DEVICES", "");
    command
}

/// Runs to the end, which must be a good one: the standard output and the error stream.
pub fn succeed(mut command: Command) -> (String, String) {
    let (code, out, err) = finish(command.output().unwrap());
    assert_eq!(code, Some(0), "{command:?}\n{out}\n{err}");
    (out, err)
}

/// Exit code, standard output, error stream.
pub fn finish(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A training program at work, killed if the test ends before it.
pub struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    /// What it has written to the standard output so far.
    pub shown: String,
}

impl Running {
    /// Starts it.
    pub fn start(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Running { child, out, shown: String::new() }
    }

    /// Waits for the heading of the table, which says that training begins.
    pub fn until_training(&mut self) {
        self.until("epoch ");
    }

    /// Waits for a line of the standard output that begins so, whatever its indentation.
    pub fn until(&mut self, beginning: &str) {
        loop {
            let mut line = String::new();
            let count = self.out.read_line(&mut line).unwrap();
            self.shown += &line;
            assert!(count > 0, "it ended before a line {beginning:?}:\n{}", self.shown);
            if line.trim_start().starts_with(beginning) {
                return;
            }
        }
    }

    /// Sends a signal by its name, such as SIGINT.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -s {} {}", name.trim_start_matches("SIG"), self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }

    /// `kill -9`; whether it was still running.
    pub fn kill(mut self) -> bool {
        let running = self.child.try_wait().unwrap().is_none();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        running
    }

    /// Waits for its end: exit code, all of its standard output, its error stream.
    pub fn end(mut self) -> (Option<i32>, String, String) {
        std::io::Read::read_to_string(&mut self.out, &mut self.shown).unwrap();
        let mut err = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut err).unwrap();
        (self.child.wait().unwrap().code(), std::mem::take(&mut self.shown), err)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Of one that has ended there is nothing left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The paths below a folder, with `/` between their parts, and the files' content.
pub fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = walk(folder).into_iter().filter(|path| !folder.join(path).is_dir());
    files.map(|path| (path.clone(), fs::read(folder.join(path)).unwrap())).collect()
}

/// Makes files, and the folders they are in.
pub fn restore(folder: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (path, bytes) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// All files and folders below a folder; of files the length and the time they were last written.
pub fn listing(folder: &Path) -> BTreeMap<String, Option<(u64, SystemTime)>> {
    let entry = |path: String| {
        let metadata = fs::metadata(folder.join(&path)).unwrap();
        // Whoever takes a run's lock writes its number there.
        let kept = metadata.is_file() && !path.ends_with(".lock");
        let file = kept.then(|| (metadata.len(), metadata.modified().unwrap()));
        (path, file)
    };
    walk(folder).into_iter().map(entry).collect()
}

/// Files and folders below a folder.
fn walk(folder: &Path) -> Vec<String> {
    let mut paths = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            paths.extend(walk(&entry.path()).into_iter().map(|below| format!("{name}/{below}")));
        }
        paths.push(name);
    }
    paths
}

/// The lines of `metrics.jsonl`, without the fields that are times or rates.
pub fn timeless_metrics(run: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert!(text.ends_with('\n'), "{text:?}");
    let line = |line: &str| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().retain(|key, _| !key.contains("second"));
        line
    };
    text.lines().map(line).collect()
}

/// The columns of `logs.tsv` that are no times, heading included.
pub fn timeless_logs(run: &Path) -> Vec<[String; 2]> {
    let text = fs::read_to_string(run.join("logs.tsv")).unwrap();
    let columns = |line: &str| {
        let columns: Vec<_> = line.split('\t').collect();
        [columns[0], columns[2]].map(String::from)
    };
    text.lines().map(columns).collect()
}

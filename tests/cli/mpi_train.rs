//! Training on MPI: as many processes as workers end with the bits of one process, and a job whose rank fails
//! ends and can be gone on with.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::cli::{finish, mask, succeed, timeless_metrics, train};
use assert_cmd::cargo::cargo_bin;
use fishmask::rng::{Purpose, Stream};
use serde_json::Value;
use tempfile::tempdir;

/// Two epochs of 8 steps of each worker.
const FLAGS: &str = "--data synthetic --train-images 256 --width 2 --batch-size 32 --epochs 2 --peak-epoch 1 \
                     --merge-steps 3 --threads 1";
const MASK: &str = "--mask fisher --keep-ratio 0.1 --fisher-samples 13 --reselect-merges 2";

/// `mpirun` of `train` in a working directory.
fn mpirun(directory: &Path, ranks: usize, flags: &str) -> Command {
    let mut command = Command::new("mpirun");
    command.current_dir(directory).args(["--allow-run-as-root", "--oversubscribe", "-n"]);
    command.arg(ranks.to_string()).arg(cargo_bin!("train")).args(flags.split_whitespace());
    command.env("CUDA_VISIBLE_DEVICES", "");
    command
}

/// The lines of `metrics.jsonl` but for times and workers' names.
fn metrics(run: &Path) -> Vec<Value> {
    let mut lines = timeless_metrics(run);
    for line in &mut lines {
        let exchange = line["exchange"].as_object_mut().unwrap();
        exchange.retain(|key, _| !key.contains("second"));
        line["workers"] = Value::Null;
    }
    lines
}

fn final_bytes(run: &Path) -> Vec<u8> {
    fs::read(run.join("final.safetensors")).unwrap()
}

#[test]
fn processes_end_with_the_bits_of_one() {
    let kinds = [
        String::new(),
        format!("{MASK} --warmup-epochs 1"),
        format!("{MASK} --worker-masks interleaved --aggregate sum"),
    ];
    for ranks in [2, 3, 4] {
        for kind in &kinds {
            let directory = tempdir().unwrap();
            let flags =
                format!("{FLAGS} {kind} {}", if ranks == 3 { "--shard-data --batch-size 8" } else { "" });
            let flags = flags.replace("--batch-size 32", if ranks == 3 { "" } else { "--batch-size 32" });
            let at = directory.path();
            succeed(train(at, &format!("{flags} --workers {ranks} --run-dir one")));
            let (out, _) = succeed(mpirun(at, ranks, &format!("{flags} --distributed --run-dir several")));
            let what = format!("{ranks} ranks, {kind}");
            assert!(out.contains(&format!("workers  {ranks}, ")) && out.contains("rank 1 on "), "{out}");
            assert_eq!(out.matches("test accuracy on").count(), 1, "only the root prints: {out}");
            let [one, several] = ["one", "several"].map(|run| at.join(run));
            assert!(final_bytes(&one) == final_bytes(&several), "{what}: other bits");
            assert_eq!(metrics(&one), metrics(&several), "{what}");
            let settings = |run: &Path| fs::read_to_string(run.join("checkpoints/settings.json")).unwrap();
            assert_eq!(settings(&one), settings(&several));
        }
    }
}

/// The first rank reads the weights and the mask, and hands them on.
#[test]
fn processes_start_from_the_same_files_and_end_with_the_bits_of_one() {
    let directory = tempdir().unwrap();
    let at = directory.path();
    succeed(train(at, &format!("{FLAGS} --workers 2 --run-dir pre")));
    succeed(mask(at, "pre --keep-ratio 0.1 --fisher-samples 13 --out m.safetensors"));
    let start = format!("{FLAGS} --weights pre/final.safetensors --mask-file m.safetensors");
    succeed(train(at, &format!("{start} --workers 2 --run-dir one")));
    let (out, _) = succeed(mpirun(at, 2, &format!("{start} --distributed --run-dir several")));
    assert_eq!(out.matches("\nstart    weights of ").count(), 1, "only the root prints: {out}");
    let [one, several] = ["one", "several"].map(|run| at.join(run));
    assert!(final_bytes(&one) == final_bytes(&several) && final_bytes(&one) != final_bytes(&at.join("pre")));
    assert_eq!(metrics(&one), metrics(&several));
    let settings = |run: &Path| fs::read_to_string(run.join("checkpoints/settings.json")).unwrap();
    assert_eq!(settings(&one), settings(&several));
}

/// Process numbers of the ranks of a job.
fn ranks(job: &std::process::Child) -> Vec<u32> {
    let path = format!("/proc/{0}/task/{0}/children", job.id());
    let children = fs::read_to_string(path).unwrap_or_default();
    children.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

fn signal(id: u32, name: &str) {
    let kill = format!("kill -s {name} {id}");
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
}

/// Starts a job whose output goes to a file, and waits until it trains.
fn start(directory: &Path, count: usize, flags: &str) -> std::process::Child {
    let log = fs::File::create(directory.join("log")).unwrap();
    let mut command = mpirun(directory, count, flags);
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let job = command.spawn().unwrap();
    let began = Instant::now();
    while !fs::read_to_string(directory.join("log")).unwrap().contains("\nepoch ") {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not begin");
        sleep(Duration::from_millis(5));
    }
    job
}

/// Waits for a job's end: whether it was good.
fn wait(mut job: std::process::Child, limit: Duration) -> bool {
    let began = Instant::now();
    loop {
        if let Some(status) = job.try_wait().unwrap() {
            return status.success();
        }
        if began.elapsed() > limit {
            job.kill().unwrap();
            panic!("the job has not ended within {limit:?}");
        }
        sleep(Duration::from_millis(20));
    }
}

/// A run's checkpoints.
fn names(run: &Path) -> Vec<String> {
    let files = fs::read_dir(run.join("checkpoints")).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

/// So many jobs: `FISHMASK_KILLS=100 cargo test --release --features mpi --test mpi_train killed`.
#[test]
fn a_rank_killed_at_a_random_moment_ends_the_job_and_the_rest_is_done_after_it() {
    let kills: u32 = std::env::var("FISHMASK_KILLS").map_or(3, |count| count.parse().unwrap());
    let flags = format!("{FLAGS} {MASK} --epochs 6").replace("--epochs 2", "");
    let whole = tempdir().unwrap();
    let job = start(whole.path(), 2, &format!("{flags} --distributed --run-dir run"));
    let began = Instant::now();
    assert!(wait(job, Duration::from_secs(120)));
    let duration = began.elapsed();
    let mut stream = Stream::new(3, Purpose::Synthetic, 0, kills);
    let mut slowest = Duration::ZERO;
    for kill in 0..kills {
        let directory = tempdir().unwrap();
        let job = start(directory.path(), 2, &format!("{flags} --distributed --run-dir run"));
        sleep(duration.mul_f64(0.95 * f64::from(stream.uniform())));
        let victim = stream.below(2) as usize;
        let mut ended = false;
        match ranks(&job).get(victim) {
            Some(&id) => signal(id, "KILL"),
            None => ended = true,
        }
        let began = Instant::now();
        ended |= wait(job, Duration::from_secs(30));
        slowest = slowest.max(began.elapsed());
        let log = fs::read_to_string(directory.path().join("log")).unwrap();
        // What it got from the system MPI's launcher says.
        let told = log.contains(&format!("process rank {victim} ")) && log.contains("signal 9");
        assert!(ended || told, "kill {kill} of rank {victim}: {log}");
        let run = directory.path().join("run");
        let base = run.join("checkpoints").read_dir().unwrap().count();
        if !run.join("final.safetensors").exists() && base > 0 {
            succeed(crate::support::cli::checkpoint(directory.path(), "verify run"));
        }
        if !ended || !run.join("final.safetensors").exists() {
            // By turns on MPI and in one process.
            let resume = || match kill % 2 {
                0 => mpirun(directory.path(), 2, "--distributed --resume run --threads 1"),
                _ => train(directory.path(), "--resume run --threads 1"),
            };
            let mut resumed = finish(resume().output().unwrap());
            // The launcher may end a moment before a rank that it has killed.
            while resumed.2.contains("another process is writing to this run") {
                assert!(began.elapsed() < Duration::from_secs(60), "{resumed:?}");
                sleep(Duration::from_millis(100));
                resumed = finish(resume().output().unwrap());
            }
            assert_eq!(
                resumed.0,
                Some(0),
                "kill {kill} of rank {victim}: {resumed:?}\n{log}\n{:?}",
                names(&run)
            );
        }
        assert!(final_bytes(&run) == final_bytes(&whole.path().join("run")), "kill {kill}: other bits");
        assert_eq!(metrics(&run), metrics(&whole.path().join("run")), "kill {kill}");
    }
    println!("{kills} kills; the slowest job ended {slowest:?} after");
}

#[test]
fn a_rank_that_hangs_ends_the_job_within_the_timeout() {
    let directory = tempdir().unwrap();
    let flags = format!("{FLAGS} --epochs 500 --distributed --exchange-timeout 3 --run-dir run");
    let job = start(directory.path(), 3, &flags.replace("--epochs 2", ""));
    let hung = ranks(&job)[2];
    signal(hung, "STOP");
    let began = Instant::now();
    assert!(!wait(job, Duration::from_secs(30)), "a good end");
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    let _ = Command::new("kill").args(["-9", &hung.to_string()]).status();
    let log = fs::read_to_string(directory.path().join("log")).unwrap();
    let told = log.lines().filter(|line| line.starts_with("error: ")).collect::<Vec<_>>();
    let [told] = told[..] else { panic!("one message: {log}") };
    assert!(told.contains("rank 2 on ") && told.contains("has not answered for 3 s"), "{told}");
}

/// mpirun hands SIGUSR1 on to every rank.
#[test]
fn a_job_told_to_stop_does_so_after_a_merge_and_is_gone_on_with() {
    let directory = tempdir().unwrap();
    let flags = format!("{FLAGS} {MASK} --epochs 9 --distributed").replace("--epochs 2", "");
    succeed(mpirun(directory.path(), 2, &format!("{flags} --run-dir whole")));
    let job = start(directory.path(), 2, &format!("{flags} --run-dir run"));
    signal(job.id(), "USR1");
    assert!(!wait(job, Duration::from_secs(30)), "a good end");
    let log = fs::read_to_string(directory.path().join("log")).unwrap();
    assert!(log.contains("stopped by SIGUSR1; the checkpoint is written"), "{log}");
    succeed(mpirun(directory.path(), 2, "--distributed --resume run --threads 1"));
    let [run, whole] = ["run", "whole"].map(|run| directory.path().join(run));
    assert!(final_bytes(&run) == final_bytes(&whole), "other bits");
}

#[test]
fn jobs_that_cannot_be() {
    let directory = tempdir().unwrap();
    let at = directory.path();
    let refused = |mut command: Command, parts: &[&str]| {
        let (code, out, err) = finish(command.output().unwrap());
        assert_ne!(code, Some(0));
        let told: Vec<&str> = err.lines().filter(|line| line.starts_with("error: ")).collect();
        let [told] = told[..] else { panic!("one message: {out}\n{err}") };
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    };
    refused(train(at, &format!("{FLAGS} --distributed").replace("--merge-steps 3", "")), &["mpirun -n W"]);
    refused(mpirun(at, 2, &format!("{FLAGS} --distributed --workers 3")), &["--workers 3", "2 processes"]);
    refused(mpirun(at, 2, &format!("{FLAGS} --distributed --exchange-timeout 0")), &["--exchange-timeout 0"]);
    refused(mpirun(at, 2, &format!("{FLAGS} --distributed --aggregate sum")), &["--aggregate sum"]);

    // Another flag at another rank.
    let mut command = mpirun(at, 1, &format!("{FLAGS} --distributed --lr 0.1"));
    command.args([":", "-n", "1"]).arg(cargo_bin!("train"));
    command.args(format!("{FLAGS} --distributed --lr 0.3").split_whitespace());
    refused(command, &["rank 1 on ", "has --lr 0.3, and the first rank --lr 0.1"]);

    // A run of two workers is not gone on with by three, or one.
    succeed(mpirun(at, 2, &format!("{FLAGS} --distributed --run-dir run")));
    refused(mpirun(at, 3, "--distributed --resume run"), &["has 2 workers", "3 processes"]);
    refused(train(at, "--resume run --workers 1"), &["--workers 1", "config.json has 2"]);
}

//! Feeds each target the flipped bits of guarded files and then mutated inputs for a number of seconds, from
//! a seeded generator, and says how many were tried and taken.
//!
//! `fishmask-fuzz [SECONDS=30] [TARGET...]`, or `fishmask-fuzz seeds FOLDER` to write the seeds for
//! cargo-fuzz.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fishmask_fuzz::input::{FORGED, OPEN};
use fishmask_fuzz::mutate::{Random, mutated};
use fishmask_fuzz::targets::{TARGETS, Target};

/// Failures of a target after which it is left.
const ENOUGH: usize = 3;

/// What was tried on a target.
#[derive(Default)]
struct Tried {
    flips: u64,
    executions: u64,
    taken: u64,
    slowest: Duration,
    failures: usize,
}

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, folder] = &arguments[..]
        && command == "seeds"
    {
        return write_seeds(folder);
    }
    let seconds = arguments.first().and_then(|text| text.parse().ok());
    if seconds.is_some() {
        arguments.remove(0);
    }
    let unknown = arguments.iter().find(|name| TARGETS.iter().all(|target| target.name != **name));
    if let Some(unknown) = unknown {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("error: {unknown} is neither a number of seconds nor a target: {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    // A panic is told of below, with the input.
    set_hook(Box::new(|panic| eprintln!("{panic}")));
    let time = Duration::from_secs_f64(seconds.unwrap_or(30.0));
    println!(
        "{:<16} {:>12} {:>10} {:>10} {:>12}",
        "target", "executions", "bit flips", "taken", "slowest ms"
    );
    let (mut total, mut failures) = ((0, 0), 0);
    for target in TARGETS.iter().filter(|t| arguments.is_empty() || arguments.iter().any(|a| a == t.name)) {
        let tried = run(target, time, seed);
        let slowest = 1e3 * tried.slowest.as_secs_f64();
        println!(
            "{:<16} {:>12} {:>10} {:>10} {slowest:>12.1}",
            target.name, tried.executions, tried.flips, tried.taken
        );
        total = (total.0 + tried.executions, total.1 + tried.flips);
        failures += tried.failures;
    }
    println!("{:<16} {:>12} {:>10}; seed {seed}; {failures} failures", "all", total.0, total.1);
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(target: &Target, time: Duration, seed: u64) -> Tried {
    let (seeds, mut tried) = ((target.seeds)(), Tried::default());
    for seed in &seeds {
        if !execute(target, seed, &mut tried) {
            eprintln!("{}: FAILED; a good input is refused", target.name);
            tried.failures += 1;
            return tried;
        }
    }
    // Of the file itself, and not where its checksums are put right.
    for seed in seeds.iter().filter(|seed| target.guarded && seed[0] & (FORGED | OPEN) == 0) {
        for bit in 8..8 * seed.len() {
            let mut input = seed.clone();
            input[bit / 8] ^= 1 << (bit % 8);
            execute(target, &input, &mut tried);
            tried.flips += 1;
        }
    }
    let (start, mut random) = (Instant::now(), Random(seed));
    while start.elapsed() < time && tried.failures < ENOUGH {
        let input = mutated(&mut random, &seeds);
        execute(target, &input, &mut tried);
    }
    tried
}

/// Whether an input was taken.
fn execute(target: &Target, input: &[u8], tried: &mut Tried) -> bool {
    let start = Instant::now();
    let taken = catch_unwind(AssertUnwindSafe(|| (target.body)(input)));
    tried.slowest = tried.slowest.max(start.elapsed());
    tried.executions += 1;
    match taken {
        Ok(taken) => {
            tried.taken += u64::from(taken);
            taken
        }
        Err(_) => {
            tried.failures += 1;
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/artifacts");
            let path = format!("{folder}/{}-{}", target.name, &blake3::hash(input).to_hex()[..16]);
            let saved = fs::create_dir_all(folder).and_then(|()| fs::write(&path, input));
            eprintln!(
                "{}: FAILED; the input is {path} {}",
                target.name,
                if saved.is_ok() { "" } else { "(not saved)" }
            );
            false
        }
    }
}

fn write_seeds(folder: &str) -> ExitCode {
    for target in &TARGETS {
        let folder = format!("{folder}/{}", target.name);
        let write = |(i, seed): (usize, &Vec<u8>)| fs::write(format!("{folder}/seed-{i}"), seed);
        let written = fs::create_dir_all(&folder)
            .and_then(|()| (target.seeds)().iter().enumerate().try_for_each(write));
        if let Err(error) = written {
            eprintln!("error: {folder}: cannot write the seeds: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

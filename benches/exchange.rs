//! What a merge takes, by mask, keep ratio and workers, beside copying as many bytes in memory, beside MPI's
//! own all-to-all of as many bytes, and beside its all-reduce of the dense vector, in one run.
//!
//! `cargo bench --bench exchange [--features mpi] [-- ROUNDS]`: in one process; with the feature also under
//! `mpirun` with 2, 3 and 4 ranks on this machine, which it starts itself.
//! `mpirun -n W target/release/deps/exchange-* [ROUNDS]` measures other networks, and
//! `scripts/slow-network.sh` makes one.
//!
//! `same` merges the kept values of one mask, `interleaved` gathers those of W masks, `dense` merges all.
//! Values are read from a `Vec`; reading them from a GPU comes on top.

use std::time::Instant;

use fishmask::distributed::{Aggregate, Communicator, InProcess};

type Failure = Box<dyn std::error::Error>;

/// Weights of resnet34 at width 64.
const WEIGHTS: usize = 21_282_122;
const RATIOS: [f64; 4] = [0.005, 0.02, 0.1, 1.0];
const SIZES: [usize; 3] = [2, 3, 4];

fn main() -> Result<(), Failure> {
    #[cfg(feature = "mpi")]
    if mpi::under_mpirun() {
        return mpi::rank();
    }
    println!("resnet34, {WEIGHTS} weights; medians of {}; ms; bytes that one worker sends", rounds());
    println!("in one process: ms a worker");
    header();
    for size in SIZES {
        measure(&mut InProcess::new(size), size, None)?;
    }
    #[cfg(feature = "mpi")]
    for size in SIZES {
        mpi::launch(size)?;
    }
    Ok(())
}

/// Of which medians are taken.
fn rounds() -> usize {
    std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(9)
}

fn header() {
    println!(
        "{:>7} {:<11} {:>5} {:>11} {:>9} {:>9} {:>7} {:>9} {:>7}",
        "workers", "mask", "keep", "bytes", "merge", "copy", "ratio", "alltoall", "ratio"
    );
}

/// Sends so many bytes to each other rank, the same in all ranks.
type AllToAll<'a> = Option<&'a mut dyn FnMut(usize) -> f64>;

/// Runs all cases, and prints them at the root. Times are divided by `share`.
fn measure(workers: &mut dyn Communicator, share: usize, mut all_to_all: AllToAll) -> Result<(), Failure> {
    for ratio in RATIOS {
        let kept = (WEIGHTS as f64 * ratio) as usize;
        for interleaved in [false, true] {
            if interleaved && kept == WEIGHTS {
                continue;
            }
            case(workers, share, ratio, kept, interleaved, &mut all_to_all)?;
        }
    }
    Ok(())
}

fn case(
    workers: &mut dyn Communicator,
    share: usize,
    ratio: f64,
    kept: usize,
    interleaved: bool,
    all_to_all: &mut AllToAll,
) -> Result<(), Failure> {
    let size = workers.size();
    let mut base = vec![0.5_f32; kept];
    let lengths = vec![kept; size];
    let (mut times, mut copies, mut alls) = (vec![], vec![], vec![]);
    let sent = |workers: &dyn Communicator| workers.traffic().sent;
    let mut bytes = 0;
    for round in 0..=rounds() {
        // What a device hands over, made before the clock starts.
        let mut handed: Vec<Vec<f32>> = workers.local().map(|rank| vec![rank as f32; kept]).collect();
        let first = workers.local().start;
        workers.barrier()?;
        let (before, began) = (sent(workers), Instant::now());
        let local = &mut |rank: usize| Ok(std::mem::take(&mut handed[rank - first]));
        match interleaved {
            true => workers.all_gather(&lengths, local, &mut |_, values| {
                base.iter_mut().zip(values).for_each(|(base, value)| *base = *value);
            })?,
            false => workers.merge(&mut base, Aggregate::Mean, local)?,
        }
        let seconds = began.elapsed().as_secs_f64();
        bytes = sent(workers) - before;
        workers.barrier()?;
        let copy = copy(bytes as usize);
        workers.barrier()?;
        // As many as a merge sends, but that its parts need not be of one length.
        let each = size_of::<f32>() * if interleaved { kept } else { 2 * kept / size };
        let all = all_to_all.as_mut().map(|all_to_all| all_to_all(each));
        // The first is warm-up.
        if round > 0 {
            times.push(seconds / share as f64);
            copies.push(copy);
            alls.extend(all);
        }
    }
    let (merge, copy) = (median(times), median(copies));
    if workers.is_root() {
        let mask = match (interleaved, kept) {
            (_, WEIGHTS) => "dense",
            (true, _) => "interleaved",
            _ => "same",
        };
        print!(
            "{size:>7} {mask:<11} {:>4}% {bytes:>11} {:>9.3} {:>9.3} {:>7.2}",
            100.0 * ratio,
            1e3 * merge,
            1e3 * copy,
            merge / copy
        );
        match alls.is_empty() {
            true => println!(),
            false => {
                let all = median(alls);
                println!(" {:>9.3} {:>7.2}", 1e3 * all, merge / all);
            }
        }
    }
    Ok(())
}

/// Seconds to copy so many bytes, every rank at the same time, between buffers that are there already.
fn copy(bytes: usize) -> f64 {
    let (from, mut to) = (vec![1_u8; bytes], vec![2_u8; bytes]);
    let began = Instant::now();
    to.copy_from_slice(std::hint::black_box(&from));
    std::hint::black_box(&to);
    began.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(feature = "mpi")]
mod mpi {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use ::mpi::collective::{CommunicatorCollectives, SystemOperation};
    use ::mpi::topology::SimpleCommunicator;
    use fishmask::distributed::Communicator;
    use fishmask::distributed::mpi::{Mpi, abort};

    use super::{Failure, WEIGHTS, header, measure, median, rounds};

    pub fn under_mpirun() -> bool {
        ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].iter().any(|name| std::env::var_os(name).is_some())
    }

    pub fn launch(size: usize) -> Result<(), Failure> {
        let mut command = Command::new("mpirun");
        command.args(["--allow-run-as-root", "--oversubscribe", "-n", &size.to_string()]);
        let status = command.arg(std::env::current_exe()?).args(std::env::args().skip(1)).status()?;
        if !status.success() {
            return Err(format!("mpirun ended with {status}").into());
        }
        Ok(())
    }

    pub fn rank() -> Result<(), Failure> {
        bench().inspect_err(|error| {
            eprintln!("error: {error}");
            abort(1);
        })
    }

    fn bench() -> Result<(), Failure> {
        let mut workers = Mpi::start(Duration::from_secs(120))?;
        if workers.is_root() {
            println!("{} ranks on MPI: ms, of rank 0", workers.size());
            header();
        }
        let size = workers.size();
        // Buffers that are there already, as a merge's are.
        let mut buffers = [vec![], vec![]];
        let mut all_to_all = |block: usize| {
            buffers.iter_mut().for_each(|buffer| buffer.resize(size * block, 1_u8));
            let [from, to] = &mut buffers;
            let began = Instant::now();
            SimpleCommunicator::world().all_to_all_into(&from[..], &mut to[..]);
            began.elapsed().as_secs_f64()
        };
        measure(&mut workers, 1, Some(&mut all_to_all))?;
        let (values, mut sums, mut times) = (vec![1.0_f32; WEIGHTS], vec![0.0_f32; WEIGHTS], vec![]);
        for _ in 0..=rounds() {
            workers.barrier()?;
            let began = Instant::now();
            SimpleCommunicator::world().all_reduce_into(&values, &mut sums, SystemOperation::sum());
            times.push(began.elapsed().as_secs_f64());
        }
        let all_reduce = median(times.split_off(1));
        if workers.is_root() {
            println!("{:>7} MPI_Allreduce, dense {:>23.3}", workers.size(), 1e3 * all_reduce);
        }
        workers.finish()?;
        Ok(())
    }
}

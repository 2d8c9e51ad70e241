//! Communicators on MPI: each case starts this program again under `mpirun`, and compares what its ranks do
//! with the same workers in one process, bit for bit, or looks at how the job ends.
//!
//! `cargo test --features mpi --test mpi [-- NAME]`

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fishmask::distributed::mpi::{Mpi, abort};
use fishmask::distributed::{Aggregate, Communicator, Error, InProcess, WINDOW};

/// Tells this program that it is a rank, and of which case.
const CASE: &str = "FISHMASK_TEST_CASE";
/// Of cases in which a rank does not answer. Others leave time for a machine that is busy.
const SHORT: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(120);
/// What starting and ending a job may take beside.
const SLACK: Duration = Duration::from_secs(20);

fn main() {
    if let Ok(case) = std::env::var(CASE) {
        return rank(&case);
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let mut failed = vec![];
    for case in CASES.iter().filter(|case| wanted.is_empty() || wanted.iter().any(|w| case.name.contains(w)))
    {
        for &ranks in case.ranks {
            let began = Instant::now();
            let result = run(case, ranks);
            let seconds = began.elapsed().as_secs_f64();
            match result {
                Ok(note) => println!("test {} with {ranks} ranks ... ok ({seconds:.1} s){note}", case.name),
                Err(why) => {
                    println!("test {} with {ranks} ranks ... FAILED ({seconds:.1} s)\n{why}", case.name);
                    failed.push(case.name);
                }
            }
        }
    }
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// A job and how it must end.
struct Case {
    name: &'static str,
    ranks: &'static [usize],
    /// Beside those that every job has.
    flags: &'static [&'static str],
    /// What some line of its output must hold, in this order, one line only; none for a job that must
    /// succeed.
    says: &'static [&'static str],
    ends: Ends,
    run: fn(Mpi),
}

#[derive(Clone, Copy, PartialEq)]
enum Ends {
    Well,
    /// Likewise, after longer than [`SHORT`], which is the timeout.
    Slowly,
    /// At once: no other rank waits for its timeout.
    Badly,
    /// After a timeout of [`SHORT`].
    Late,
}

impl Case {
    fn timeout(&self) -> Duration {
        match self.ends {
            Ends::Late | Ends::Slowly => SHORT,
            Ends::Well | Ends::Badly => LONG,
        }
    }
}

const CASES: &[Case] = &[
    Case {
        name: "operations",
        ranks: &[1, 2, 3, 4],
        flags: &[],
        says: &[],
        ends: Ends::Well,
        run: operations,
    },
    Case { name: "signals", ranks: &[3], flags: &[], says: &[], ends: Ends::Well, run: signals },
    Case {
        name: "bytes_on_the_wire",
        ranks: &[2],
        flags: &["--mca", "pml", "ob1", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo"],
        says: &[],
        ends: Ends::Well,
        run: bytes_on_the_wire,
    },
    Case {
        name: "disagreement",
        ranks: &[3],
        flags: &[],
        says: &["the mask of rank 1 on ", " is not that of rank 0 on "],
        ends: Ends::Badly,
        run: disagreement,
    },
    Case {
        name: "elsewhere",
        ranks: &[2],
        flags: &[],
        says: &["the net of rank 1 on ", " is not that of rank 0 on "],
        ends: Ends::Badly,
        run: elsewhere,
    },
    Case {
        name: "version",
        ranks: &[3],
        flags: &[],
        says: &["the program's version (0.0.2, not ", ") of rank 2 on "],
        ends: Ends::Badly,
        run: |_| {},
    },
    Case {
        name: "lengths",
        ranks: &[2],
        flags: &[],
        says: &["rank 1 on ", " has 499 values where 500 are exchanged"],
        ends: Ends::Badly,
        run: lengths,
    },
    Case { name: "errors_return", ranks: &[2], flags: &[], says: &[], ends: Ends::Well, run: errors_return },
    Case {
        name: "hang",
        ranks: &[2, 4],
        flags: &[],
        says: &["rank 1 on ", " has not answered for 3 s while waiting for every rank"],
        ends: Ends::Late,
        run: |mpi| hang(mpi, 1),
    },
    Case {
        name: "root_hangs",
        ranks: &[3],
        flags: &[],
        says: &["rank 0 on ", " has not answered for 3 s while waiting for every rank"],
        ends: Ends::Late,
        run: |mpi| hang(mpi, 0),
    },
    Case { name: "slow", ranks: &[4], flags: &[], says: &[], ends: Ends::Slowly, run: slow },
    Case {
        name: "merge_hangs",
        ranks: &[3],
        flags: &[],
        says: &["rank 1 on ", " has not answered for 3 s while merging"],
        ends: Ends::Late,
        run: merge_hangs,
    },
    Case {
        name: "not_at_the_end",
        ranks: &[2],
        flags: &[],
        says: &["rank 1 on ", " has not answered for 3 s while waiting for every rank"],
        ends: Ends::Late,
        run: not_at_the_end,
    },
    Case {
        name: "end_hangs",
        ranks: &[2],
        flags: &[],
        says: &["signal 6"],
        ends: Ends::Late,
        run: end_hangs,
    },
    Case {
        name: "exits",
        ranks: &[3],
        flags: &[],
        says: &["Process name: ", ",1]"],
        ends: Ends::Badly,
        run: |mpi| ends(mpi, || std::process::exit(1)),
    },
    Case {
        name: "panics",
        ranks: &[3],
        flags: &[],
        says: &["a panic of rank 1"],
        ends: Ends::Badly,
        run: |mpi| ends(mpi, || panic!("a panic of rank 1")),
    },
    Case {
        name: "killed",
        ranks: &[3],
        flags: &[],
        says: &["process rank 1", " on signal 9"],
        ends: Ends::Badly,
        run: |mpi| ends(mpi, kill),
    },
    Case {
        name: "not_under_mpi",
        ranks: &[0],
        flags: &[],
        says: &["start the program with `mpirun -n W` before it"],
        ends: Ends::Badly,
        run: |_| {},
    },
];

/// Runs a case's job, and says what is wrong with its end.
fn run(case: &Case, ranks: usize) -> Result<String, String> {
    let program = std::env::current_exe().unwrap();
    let mut command = match ranks {
        0 => Command::new(&program),
        _ => {
            let mut command = Command::new("mpirun");
            command.args(["--allow-run-as-root", "--oversubscribe", "-n", &ranks.to_string()]);
            command.args(case.flags).arg(&program);
            command
        }
    };
    let began = Instant::now();
    let job = command.env(CASE, case.name).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = job.spawn().map_err(|error| format!("mpirun: {error}; run scripts/install-mpi.sh"))?;
    let (well, waits) = (matches!(case.ends, Ends::Well | Ends::Slowly), case.timeout() == SHORT);
    let limit = if waits { SHORT + SLACK } else { LONG / 2 };
    let id = child.id();
    // A job that outlives its limit fails the test, and must not outlive it too.
    let (over, watch) = std::sync::mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        let late = watch.recv_timeout(limit).is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Timeout);
        if late {
            let _ = Command::new("kill").arg(id.to_string()).status();
        }
        late
    });
    let read = |mut from: Box<dyn std::io::Read + Send>| {
        thread::spawn(move || {
            let mut text = vec![];
            let _ = from.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let out = read(Box::new(child.stdout.take().unwrap()));
    let err = read(Box::new(child.stderr.take().unwrap()));
    let status = child.wait().unwrap();
    let took = began.elapsed();
    drop(over);
    let late = watch.join().unwrap();
    let (out, err) = (out.join().unwrap(), err.join().unwrap());
    let lines: Vec<&str> = out.lines().chain(err.lines()).collect();
    let told = lines.iter().filter(|line| {
        let mut rest = **line;
        case.says.iter().all(|part| match rest.split_once(part) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    });
    let wrong = if late {
        Some(format!("the job was not over after {limit:?}"))
    } else if status.success() != well {
        Some(format!("the job ended with {status}"))
    } else if !case.says.is_empty() && told.clone().count() != 1 {
        Some(format!("{} lines said {:?}", told.count(), case.says))
    } else if waits && took < SHORT {
        Some(format!("over after {took:?}, before the timeout"))
    } else {
        None
    };
    match wrong {
        Some(wrong) => Err(format!("{wrong}\n--- stdout\n{out}--- stderr\n{err}---")),
        None => {
            Ok(out.lines().filter_map(|line| line.strip_prefix("note: ")).map(|n| format!("; {n}")).collect())
        }
    }
}

/// A rank of a case.
fn rank(name: &str) {
    let case = CASES.iter().find(|case| case.name == name).unwrap();
    let second = std::env::var("OMPI_COMM_WORLD_RANK").is_ok_and(|rank| rank == "2");
    let started = match (name, second) {
        ("version", true) => Mpi::start_as("0.0.2", case.timeout()),
        _ => Mpi::start(case.timeout()),
    };
    (case.run)(ok(started));
}

/// What a program does with its errors.
fn ok<R>(result: Result<R, Error>) -> R {
    result.unwrap_or_else(|error| {
        thread::sleep(error.grace());
        eprintln!("error: {error}");
        abort(1)
    })
}

/// A vector of a rank, or of none, the same in every process. Magnitudes differ, so that the order of a sum
/// shows in its bits.
fn values(rank: usize, length: usize) -> Vec<f32> {
    let mut state = (rank as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ length as u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length).map(|_| next() as i32 as f32 * 2_f32.powi(next() as i32 % 16)).collect()
}

const BASE: usize = 99;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Everything, beside the same in one process; then the traffic of both.
fn operations(mut mpi: Mpi) {
    let size = mpi.size();
    let mut one = InProcess::new(size);
    let rank = mpi.local().start;
    assert_eq!(mpi.is_root(), rank == 0);
    let host = |rank| mpi.name(rank).split_once(" on ").map(|(_, host)| host.to_string());
    assert_eq!(mpi.local_rank(), (0..rank).filter(|&other| host(other) == host(rank)).count());
    assert!(mpi.name(rank).starts_with(&format!("rank {rank} on ")), "{}", mpi.name(rank));

    for length in [0, 1, 2, 3, 5, 1000, WINDOW + 3, 5 * WINDOW + 3] {
        let start = values(BASE, length);
        let all: Vec<Vec<f32>> = (0..size).map(|rank| values(rank, length)).collect();
        for how in [Aggregate::Mean, Aggregate::Sum] {
            let merge = |workers: &mut dyn Communicator| {
                let mut base = start.clone();
                workers.merge(&mut base, how, &mut |rank| Ok(all[rank].clone())).unwrap();
                bits(&base)
            };
            assert!(merge(&mut mpi) == merge(&mut one), "{how:?} of {length} values");
        }
        // Windows follow each other in merges alone.
        if length > 2 * WINDOW {
            break;
        }
        let lengths: Vec<usize> = (0..size).map(|rank| length.saturating_sub(3 * rank)).collect();
        let gather = |workers: &mut dyn Communicator| {
            let mut seen = vec![];
            let visit = &mut |rank, values: &[f32]| seen.push((rank, bits(values)));
            workers.all_gather(&lengths, &mut |rank| Ok(all[rank][..lengths[rank]].to_vec()), visit).unwrap();
            seen
        };
        assert!(gather(&mut mpi) == gather(&mut one), "gathering {lengths:?}");
        for (from, theirs) in all.iter().enumerate() {
            let fetch = |workers: &mut dyn Communicator| {
                let mut seen = vec![];
                let visit = &mut |values: &[f32]| {
                    seen.extend(bits(values));
                    Ok(())
                };
                workers.fetch(from, length, &mut || Ok(theirs.clone()), visit).unwrap();
                seen
            };
            let (found, expected) = (fetch(&mut mpi), fetch(&mut one));
            assert!(found == if rank == 0 { expected } else { vec![] }, "fetching {length} of rank {from}");
            let given = mpi.give(from, length, &mut || Ok(theirs.clone())).unwrap();
            one.give(from, length, &mut || Ok(theirs.clone())).unwrap();
            let expected = (rank == from).then(|| bits(theirs));
            assert!(given.as_deref().map(bits) == expected, "giving {length} to rank {from}");
        }
        let content: Vec<u8> = bytemuck::cast_slice(&start).to_vec();
        let mut bytes = if rank == 0 { content.clone() } else { vec![1; 7] };
        mpi.broadcast(&mut bytes).unwrap();
        assert!(bytes == content, "broadcasting {length} values");
        one.broadcast(&mut bytes).unwrap();
        assert_eq!(mpi.agree("the bytes", &bytes, None).unwrap(), None);
        one.agree("the bytes", &bytes, None).unwrap();
    }
    let (found, expected) = (mpi.traffic(), one.traffic());
    if rank == 0 {
        assert_eq!((found.sent, found.received), (expected.sent, expected.received));
    }
    mpi.finish().unwrap();
    // What is called after the end is refused, not handed to MPI.
    if size > 1 {
        assert!(matches!(mpi.barrier(), Err(Error::Start { .. })));
    }
}

/// The signal of the lowest rank that has one.
fn signals(mut mpi: Mpi) {
    let rank = mpi.local().start;
    let told = [None, Some(15), Some(2)][rank];
    assert_eq!(mpi.agree("the step", b"7", told).unwrap(), Some(15));
    assert_eq!(mpi.agree("the step", b"8", None).unwrap(), None);
    mpi.finish().unwrap();
}

/// Bytes that the system counts for the loopback device, sent.
fn loopback() -> Option<u64> {
    let devices = std::fs::read_to_string("/proc/net/dev").ok()?;
    let counts = devices.lines().find_map(|line| line.trim().strip_prefix("lo:"))?;
    counts.split_whitespace().nth(8)?.parse().ok()
}

/// Messages through TCP: the bytes counted, beside those of the system. Others may send too, which only adds:
/// the least of three counts.
fn bytes_on_the_wire(mut mpi: Mpi) {
    let length = 4 * WINDOW + 1;
    if mpi.agree("whether /proc/net/dev counts", &[u8::from(loopback().is_some())], None).is_err()
        || loopback().is_none()
    {
        println!("note: bytes_on_the_wire cannot run here: no /proc/net/dev");
        return ok(mpi.finish());
    }
    let mut ratios = vec![];
    for _ in 0..3 {
        ok(mpi.barrier());
        let (system, counted) = (loopback(), mpi.traffic().sent);
        let mut base = values(BASE, length);
        ok(mpi.barrier());
        ok(mpi.merge(&mut base, Aggregate::Mean, &mut |rank| Ok(values(rank, length))));
        ok(mpi.barrier());
        // Both ranks send as much.
        let counted = 2 * (mpi.traffic().sent - counted);
        let system = loopback().zip(system).map(|(after, before)| after - before);
        ratios.push(system.unwrap() as f64 / counted as f64);
    }
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    assert!((0.95..1.05).contains(&least), "{ratios:?}");
    if mpi.is_root() {
        println!("note: the system counts {least:.4} of the program's bytes");
    }
    ok(mpi.finish());
}

fn disagreement(mut mpi: Mpi) {
    let rank = mpi.local().start;
    ok(mpi.agree("the net", b"resnet9", None));
    ok(mpi.agree("the mask", &[rank.min(1) as u8], None));
    unreachable!("rank {rank} agreed");
}

/// Ranks that agree on the value, of different things.
fn elsewhere(mut mpi: Mpi) {
    ok(mpi.agree(["the net", "the mask"][mpi.local().start], b"7", None));
    unreachable!("ranks in different places agreed");
}

fn lengths(mut mpi: Mpi) {
    ok(two_lengths(&mut mpi));
    unreachable!("ranks merged vectors of two lengths");
}

/// Rank 0 waits for half of 1000 and gets half of 998; rank 1 gets too much, which MPI reports.
fn two_lengths(mpi: &mut Mpi) -> Result<(), Error> {
    let length = 1000 - 2 * mpi.local().start;
    mpi.merge(&mut vec![0.0; length], Aggregate::Mean, &mut |_| Ok(vec![0.0; length]))
}

/// MPI's own errors come back, for the program to report, rather than end the process.
fn errors_return(mut mpi: Mpi) {
    match (mpi.local().start, two_lengths(&mut mpi)) {
        (0, Err(Error::Length { .. })) => {}
        (1, Err(error @ Error::Mpi { .. })) => assert!(!error.grace().is_zero(), "{error}"),
        (rank, other) => panic!("{other:?} at rank {rank}"),
    }
    ok(mpi.finish());
}

fn hang(mut mpi: Mpi, which: usize) {
    ok(mpi.barrier());
    if mpi.local().start == which {
        thread::sleep(LONG);
    }
    ok(mpi.barrier());
}

/// The last rank comes later than the timeout, but each within it after the one before: as long as messages
/// come, nobody is taken for dead. What ranks wait and exchange is counted.
fn slow(mut mpi: Mpi) {
    ok(mpi.barrier());
    thread::sleep(SHORT * mpi.local().start as u32 * 2 / 5);
    ok(mpi.barrier());
    if mpi.is_root() {
        assert!(mpi.traffic().waiting >= SHORT.as_secs_f64(), "{:?}", mpi.traffic());
    }
    let local = &mut |_| {
        thread::sleep(Duration::from_millis(50));
        Ok(vec![1.0])
    };
    ok(mpi.merge(&mut [0.0], Aggregate::Mean, local));
    assert!(mpi.traffic().exchanging >= 0.05, "{:?}", mpi.traffic());
    ok(mpi.finish());
}

fn merge_hangs(mut mpi: Mpi) {
    let length = 3 * WINDOW;
    let mut base = vec![0.0; length];
    let local = &mut |rank| {
        if rank == 1 {
            thread::sleep(LONG);
        }
        Ok(vec![0.0; length])
    };
    ok(mpi.merge(&mut base, Aggregate::Mean, local));
}

/// A rank that never comes to the end.
fn not_at_the_end(mut mpi: Mpi) {
    if mpi.local().start == 1 {
        thread::sleep(LONG);
    }
    ok(mpi.finish());
}

/// A rank that is through with everything but leaving MPI.
fn end_hangs(mut mpi: Mpi) {
    if mpi.local().start == 1 {
        ok(mpi.barrier());
        thread::sleep(LONG);
    }
    ok(mpi.finish());
}

/// Rank 1 ends, while the others wait for it.
fn ends(mut mpi: Mpi, how: impl FnOnce()) {
    ok(mpi.barrier());
    if mpi.local().start == 1 {
        how();
    }
    ok(mpi.barrier());
}

fn kill() {
    let _ = Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
    thread::sleep(LONG);
}

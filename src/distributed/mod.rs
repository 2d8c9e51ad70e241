//! Workers that train apart and put their changes together every so often (docs/METHOD.md, "Several
//! workers").
//!
//! A [`Communicator`] knows nothing of networks or masks: it merges, gathers and hands round vectors of f32.
//! Its workers all live in this process ([`InProcess`]), or each in a process of its own on MPI (`mpi`, a
//! cargo feature). Both add in the same order, rank after rank, so that they give the same bits.

mod in_process;
#[cfg(feature = "mpi")]
pub mod mpi;
pub mod traffic;

use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{checkpoint, device};

pub use in_process::InProcess;
pub use traffic::Traffic;

/// Elements of a vector that are exchanged at a time: 4 MiB. Larger windows are no faster, and smaller ones
/// wait more.
pub const WINDOW: usize = 1 << 20;

/// How workers' changes are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Aggregate {
    /// Their mean.
    #[default]
    Mean,
    /// Their sum, for masks that share no weight.
    Sum,
}

/// Why workers could not exchange.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A worker's values could not be read from its device.
    #[error(transparent)]
    Backend(#[from] device::Error),
    /// What was fetched could not be written, or what is to be given not read.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// A vector is not as long as the others.
    #[error("{worker} has {found} values where {expected} are exchanged")]
    Length {
        /// Whose it is.
        worker: String,
        /// The length agreed on.
        expected: usize,
        /// Its length.
        found: usize,
    },
    /// Processes that should be alike are not.
    #[error(
        "{what} of {other} is not that of {root}: start every rank with the same program, flags and data"
    )]
    Differs {
        /// What they disagree about.
        what: String,
        /// The first rank.
        root: String,
        /// The lowest rank that differs from it.
        other: String,
        /// How long this process leaves the reporting to another.
        grace: Duration,
    },
    /// Processes have not answered in time.
    #[error(
        "{} not answered for {seconds} s while {doing}: the process hangs, the network fails, \
         or --exchange-timeout is \
         shorter than the slowest rank takes",
        have(ranks)
    )]
    Silent {
        /// Those that are waited for.
        ranks: Vec<String>,
        /// For so long.
        seconds: f64,
        /// What was going on.
        doing: &'static str,
        /// As in [`Error::Differs`].
        grace: Duration,
    },
    /// The program was started by itself.
    #[error(
        "this process was not started by MPI: start the program with `mpirun -n W` before it, \
         W being the number of workers"
    )]
    NotUnderMpi,
    /// MPI was started before in this process, or cannot be used from more than one thread.
    #[error("MPI cannot be started: {reason}")]
    Start {
        /// Why.
        reason: String,
    },
    /// MPI reports an error.
    #[error("MPI failed while {doing}: {reason}")]
    Mpi {
        /// What was going on.
        doing: &'static str,
        /// MPI's own words.
        reason: String,
        /// As in [`Error::Differs`].
        grace: Duration,
    },
}

impl Error {
    /// How long a process waits until it reports this and ends the job: zero for the process that should
    /// speak, and long enough for others that by then it has.
    pub fn grace(&self) -> Duration {
        match self {
            Error::Differs { grace, .. } | Error::Silent { grace, .. } | Error::Mpi { grace, .. } => *grace,
            _ => Duration::ZERO,
        }
    }
}

/// Who has.
fn have(ranks: &[String]) -> String {
    match ranks {
        [one] => format!("{one} has"),
        // Of a thousand ranks the first few tell which host or switch it is.
        [some @ .., last] if some.len() < 8 => format!("{} and {last} have", some.join(", ")),
        _ => format!(
            "{} and {} other ranks have",
            ranks[..8.min(ranks.len())].join(", "),
            ranks.len().saturating_sub(8)
        ),
    }
}

/// What binds the workers of a run, in ranks from 0.
///
/// Every operation but [`Communicator::fetch`] and [`Communicator::give`] is collective: all processes call
/// it, with the same lengths, in the same order. After an error nothing but the process's end is of use.
pub trait Communicator {
    /// Workers of the run.
    fn size(&self) -> usize;

    /// The ranks whose workers this process runs: all of them, or one.
    fn local(&self) -> Range<usize>;

    /// Whether this process prints and writes.
    fn is_root(&self) -> bool {
        self.local().start == 0
    }

    /// A worker's name in messages, with its host where it has one of its own.
    fn name(&self, rank: usize) -> String;

    /// Puts the workers' changes into `base`, which is the same in every process before and after: `base[i]
    /// += sum / size` (or `sum` itself), with `sum = 0 + (values of rank 0 - base)[i] + (values of rank 1 -
    /// base)[i] ...` in this order, in f32.
    ///
    /// `local` gives the values of one of this process's workers, as many as `base` has, and is called once a
    /// rank, in order. Takes memory for one such vector and the sum, or less.
    ///
    /// # Errors
    /// When `local` fails, lengths differ, or a process does not answer; `base` is then of no use.
    fn merge(
        &mut self,
        base: &mut [f32],
        how: Aggregate,
        local: &mut dyn FnMut(usize) -> Result<Vec<f32>, Error>,
    ) -> Result<(), Error>;

    /// Hands each rank's values, `lengths[rank]` of them, to `visit(rank, values)`, ranks ascending.
    ///
    /// Takes memory for all of them, which is at most one flat vector for masks that share no weight.
    ///
    /// # Errors
    /// As [`Communicator::merge`].
    fn all_gather(
        &mut self,
        lengths: &[usize],
        local: &mut dyn FnMut(usize) -> Result<Vec<f32>, Error>,
        visit: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), Error>;

    /// The root receives a rank's vector of `length` values and gives it to `visit`, in pieces, in order.
    /// Only the root and that rank need call it, and others return at once. `local` is called in the rank's
    /// process, `visit` in the root's.
    ///
    /// # Errors
    /// When `local` or `visit` fails, the length differs, or the other process does not answer.
    fn fetch(
        &mut self,
        rank: usize,
        length: usize,
        local: &mut dyn FnMut() -> Result<Vec<f32>, Error>,
        visit: &mut dyn FnMut(&[f32]) -> Result<(), Error>,
    ) -> Result<(), Error>;

    /// The reverse of [`Communicator::fetch`]: the root gives a rank a vector. It is returned where the
    /// rank's worker runs. `root` is called in the root's process.
    ///
    /// # Errors
    /// When `root` fails, the length differs, or the other process does not answer.
    fn give(
        &mut self,
        rank: usize,
        length: usize,
        root: &mut dyn FnMut() -> Result<Vec<f32>, Error>,
    ) -> Result<Option<Vec<f32>>, Error>;

    /// Replaces `bytes` by the root's, of whatever length.
    ///
    /// # Errors
    /// When a process does not answer.
    fn broadcast(&mut self, bytes: &mut Vec<u8>) -> Result<(), Error>;

    /// Checks that `value` is the same in every process; `what` it is appears in the error, which is the same
    /// in every process too. Gives the signal of the lowest rank that was told to stop, if one was.
    ///
    /// Processes wait here for slower ones: its time is [`Traffic::waiting`].
    ///
    /// # Errors
    /// When a value differs from the root's, or a process does not answer.
    fn agree(&mut self, what: &str, value: &[u8], stop: Option<i32>) -> Result<Option<i32>, Error>;

    /// Waits until every process is here.
    ///
    /// # Errors
    /// When one does not come.
    fn barrier(&mut self) -> Result<(), Error> {
        self.agree("the place in the program", &[], None).map(drop)
    }

    /// What exchanges took since the beginning.
    fn traffic(&self) -> Traffic;

    /// Ends in order: waits for every process and leaves MPI. To be called last, by every process; one that
    /// fails ends without.
    ///
    /// # Errors
    /// When a process does not come.
    fn finish(&mut self) -> Result<(), Error>;
}

/// `sum += values - base`, the changes of one worker.
fn add_changes(sum: &mut [f32], values: &[f32], base: &[f32]) {
    for ((sum, value), base) in sum.iter_mut().zip(values).zip(base) {
        *sum += value - base;
    }
}

/// Puts the sum of the changes of `size` workers into the base.
fn apply(base: &mut [f32], sum: &[f32], how: Aggregate, size: usize) {
    match how {
        Aggregate::Mean => {
            let size = size as f32;
            base.iter_mut().zip(sum).for_each(|(base, sum)| *base += sum / size);
        }
        Aggregate::Sum => base.iter_mut().zip(sum).for_each(|(base, sum)| *base += sum),
    }
}

/// The windows that a vector is exchanged in.
fn windows(length: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length).step_by(WINDOW).map(move |start| start..length.min(start + WINDOW))
}

/// The part of a window that a rank adds up.
fn segment(window: &Range<usize>, rank: usize, size: usize) -> Range<usize> {
    let [start, end] = [rank, rank + 1].map(|rank| window.start + window.len() * rank / size);
    start..end
}

/// That a worker gave as many values as are exchanged.
fn expect_length(values: &[f32], expected: usize, worker: impl Fn() -> String) -> Result<(), Error> {
    match values.len() {
        found if found == expected => Ok(()),
        found => Err(Error::Length { worker: worker(), expected, found }),
    }
}

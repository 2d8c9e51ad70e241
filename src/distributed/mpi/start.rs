//! How processes find each other, and how they end.

use std::time::Duration;

use mpi::environment::{self, Threading, Universe};
use mpi::topology::{Communicator as _, SimpleCommunicator};

use crate::distributed::Error;

/// Set by launchers: Open MPI's, those of the PMI and PMIx protocols (MPICH, Intel MPI), Slurm's.
const LAUNCHERS: [&str; 5] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"];
/// How long MPI may take to end a job until the process ends by itself.
const ABORT: Duration = Duration::from_secs(10);

/// MPI, started.
pub(super) fn start() -> Result<Universe, Error> {
    // Open MPI sets some of them itself when it starts.
    let launched = LAUNCHERS.iter().any(|name| std::env::var_os(name).is_some());
    // Only this thread calls MPI; the others compute.
    let Some((universe, threading)) = environment::initialize_with_threading(Threading::Funneled) else {
        return Err(Error::Start { reason: "it was started before in this process".into() });
    };
    if threading < Threading::Funneled {
        return Err(Error::Start { reason: "this MPI was built without support for threads".into() });
    }
    match universe.world().size() {
        1 if !launched => Err(Error::NotUnderMpi),
        _ => Ok(universe),
    }
}

/// This process's rank among those on its machine, by which it chooses its GPU.
pub(super) fn local_rank(world: &SimpleCommunicator) -> usize {
    world.split_shared(world.rank()).rank() as usize
}

/// Who a process is: its program's version and its host. The layout must stay as it is, for it is how
/// versions notice each other.
pub(super) const GREETING: usize = 320;
const VERSION: usize = 64;

pub(super) fn greeting(version: &str, host: &str) -> Vec<u8> {
    let mut bytes = vec![0; GREETING];
    let (left, right) = bytes.split_at_mut(VERSION);
    for (to, from) in [(left, version), (right, host)] {
        to.iter_mut().zip(from.bytes()).for_each(|(to, from)| *to = from);
    }
    bytes
}

/// Version and host of a greeting.
pub(super) fn greeted(bytes: &[u8]) -> [String; 2] {
    let (version, host) = bytes.split_at(VERSION.min(bytes.len()));
    [version, host].map(|bytes| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_string())
}

/// Leaves MPI, which waits for all processes to do so; when one does not within `timeout`, this one ends, and
/// the job with it.
pub(super) fn finish(universe: Universe, timeout: Duration) {
    let guard = Watchdog::new(timeout);
    drop(universe);
    drop(guard);
}

/// Ends the job: every process of it, everywhere. For a process that has failed and said why.
pub fn abort(code: i32) -> ! {
    if environment::is_initialized() && !environment::is_finalized() {
        let _guard = Watchdog::new(ABORT);
        SimpleCommunicator::world().abort(code)
    }
    std::process::exit(code)
}

/// Ends the process unless dropped in time, for calls of MPI that may never return.
struct Watchdog {
    _over: std::sync::mpsc::Sender<()>,
}

impl Watchdog {
    fn new(limit: Duration) -> Watchdog {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            if receiver.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                // Not `exit`, whose handlers might wait for MPI. The launcher then ends the others.
                std::process::abort();
            }
        });
        Watchdog { _over: sender }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn greetings_carry_version_and_host() {
        let bytes = super::greeting("0.1.0", "host-b");
        assert_eq!(bytes.len(), super::GREETING);
        assert_eq!(super::greeted(&bytes), ["0.1.0", "host-b"]);
        let long = "h".repeat(500);
        assert_eq!(super::greeted(&super::greeting("1", &long))[1], "h".repeat(256));
    }
}

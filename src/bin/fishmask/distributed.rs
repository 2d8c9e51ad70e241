//! One worker a process, on MPI.

use std::cell::OnceCell;
use std::process::ExitCode;
use std::time::Duration;

use fishmask::device::Device;
use fishmask::distributed::Communicator;
use fishmask::settings::Config;

/// The flags of a process that is one of several.
#[derive(clap::Args)]
pub struct DistributedFlags {
    /// This process is one of those that `mpirun -n W train --distributed ...` has started: it runs one
    /// worker of W
    #[arg(long)]
    pub distributed: bool,
    /// Seconds after which a process that does not answer ends the run, everywhere; what the first rank does
    /// alone, such as saving, must take less [default: 300]
    #[arg(long, value_name = "SECONDS", requires = "distributed")]
    exchange_timeout: Option<f64>,
    /// Whether another process, the root, is to tell of errors that all have, and this one's name.
    #[arg(skip)]
    joined: OnceCell<(bool, String)>,
}

/// Seconds that processes wait for each other unless told otherwise: what the root does alone must fit in it.
const TIMEOUT: f64 = 300.0;
/// How long a process leaves it to the root to tell of an error that both have.
#[cfg(feature = "mpi")]
const GRACE: Duration = Duration::from_secs(2);

/// This process's place among others.
pub struct Joined {
    pub comm: Box<dyn Communicator>,
    /// Its rank on this machine.
    local_rank: usize,
}

impl DistributedFlags {
    /// Joins the other processes, if there are any.
    pub fn join(&self) -> anyhow::Result<Option<Joined>> {
        if !self.distributed {
            return Ok(None);
        }
        let seconds = self.exchange_timeout.unwrap_or(TIMEOUT);
        let timeout = Duration::try_from_secs_f64(seconds).ok().filter(|timeout| !timeout.is_zero());
        let joined = join(timeout.unwrap_or(Duration::from_secs_f64(TIMEOUT)))?;
        let name = joined.comm.name(joined.comm.local().start);
        let _ = self.joined.set((!joined.comm.is_root(), name));
        match timeout {
            Some(_) => Ok(Some(joined)),
            None => anyhow::bail!("--exchange-timeout {seconds}: must be a number of seconds above 0"),
        }
    }

    /// Ends a process: as [`crate::finish::finish`] but, after an error, names it, and ends the job's other
    /// processes too.
    pub fn finish(&self, result: anyhow::Result<ExitCode>) -> ExitCode {
        match (result, self.joined.get()) {
            (Err(error), Some((follows, name))) => abort(error, *follows, name),
            (result, _) => crate::finish::finish(result),
        }
    }
}

impl Joined {
    /// The device of this process, when the run's is `device`: of several GPUs, each process on a machine
    /// takes its own.
    pub fn device(&self, device: Device) -> anyhow::Result<Device> {
        Ok(device.of_process(self.local_rank)?)
    }

    /// Whether the root goes on with a run.
    pub fn agree_on_resuming(&mut self, own: bool) -> anyhow::Result<bool> {
        let mut bytes = vec![u8::from(own)];
        self.comm.broadcast(&mut bytes)?;
        Ok(bytes == [1])
    }

    /// The root's configuration, for a process whose own is `config`; none when it takes whatever the root
    /// has.
    pub fn agree(&mut self, config: Option<&Config>) -> anyhow::Result<Config> {
        let mut bytes = match config {
            Some(config) => serde_json::to_vec(config)?,
            None => vec![],
        };
        self.comm.broadcast(&mut bytes)?;
        let mut root: Config = serde_json::from_slice(&bytes)?;
        let difference = config.and_then(|config| config.difference(&root));
        if let Some(config) = config {
            root.device.name = config.device.name;
        }
        match difference {
            Some((flag, own, root)) => anyhow::bail!(
                "{} has {flag}{own}, and the first rank {flag}{root}: start every rank with the same flags",
                self.comm.name(self.comm.local().start)
            ),
            None => Ok(root),
        }
    }
}

/// What to tell a user who has started several processes that know nothing of each other.
pub fn forgotten() -> Option<String> {
    let number =
        |names: [&str; 2]| names.iter().find_map(|name| std::env::var(name).ok()?.parse::<usize>().ok());
    let processes = number(["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"]).filter(|processes| *processes > 1)?;
    let first = number(["OMPI_COMM_WORLD_RANK", "PMI_RANK"]) == Some(0);
    first.then(|| {
        format!(
            "mpirun has started {processes} processes, and each trains a run of its own: give --distributed \
             to train one run together"
        )
    })
}

#[cfg(feature = "mpi")]
fn join(timeout: Duration) -> anyhow::Result<Joined> {
    let mpi = fishmask::distributed::mpi::Mpi::start(timeout)?;
    Ok(Joined { local_rank: mpi.local_rank(), comm: Box::new(mpi) })
}

#[cfg(not(feature = "mpi"))]
fn join(_: Duration) -> anyhow::Result<Joined> {
    anyhow::bail!(
        "--distributed: this program was built without MPI; run scripts/install-mpi.sh and build with \
         `cargo build --release --features mpi`"
    )
}

/// Tells of an error and ends the job. Of several processes with the same error the root tells of it: others
/// wait until the job is likely to be gone.
#[cfg(feature = "mpi")]
fn abort(error: anyhow::Error, follows: bool, name: &str) -> ExitCode {
    use fishmask::distributed::Error;

    let own = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    let within = error.chain().find_map(|cause| cause.downcast_ref::<fishmask::Error>()?.between_processes());
    match own.or(within) {
        // It names who is meant.
        Some(error) => std::thread::sleep(error.grace()),
        None if follows => std::thread::sleep(GRACE),
        None => {}
    }
    let named = own.or(within).is_some();
    crate::finish::finish(Err(if named { error } else { error.context(name.to_string()) }));
    fishmask::distributed::mpi::abort(1)
}

#[cfg(not(feature = "mpi"))]
fn abort(error: anyhow::Error, _: bool, _: &str) -> ExitCode {
    crate::finish::finish(Err(error))
}

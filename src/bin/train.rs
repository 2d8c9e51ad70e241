//! Trains a network on CIFAR-10 and leaves a run folder.

mod common;
#[path = "common/distributed.rs"]
mod distributed;

use std::io::stdout;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use distributed::{DistributedFlags, Joined};
use fishmask::checkpoint::chain::Chain;
use fishmask::data::Source;
use fishmask::device::Cpu;
use fishmask::device::Cuda;
use fishmask::device::gpu::Gpu;
use fishmask::graph::ModelId;
use fishmask::optim::{self, TrainingBackend};
use fishmask::train::listeners::{Bar, DawnLog, Metrics, Table};
use fishmask::train::{self, Config, Device, Flags, Listener, Outcome, Reasons, RunFolder, Stop, summary};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

/// Train a CIFAR-10 ResNet.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    data: common::DataFlags,
    /// Folder for the run's files; must be new or empty [default: runs/TIME-PRESET, the time in UTC]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Go on with a run that was stopped, as its config.json says
    #[arg(long, value_name = "RUN_DIR", conflicts_with = "run_dir")]
    resume: Option<PathBuf>,
    /// Threads [default: one a core]; the result does not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    several: DistributedFlags,
    /// Print the plan without training
    #[arg(long)]
    summary: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.several.finish(run(&cli))
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    common::use_threads(cli.threads)?;
    let mut joined = cli.several.join()?;
    let root = joined.as_ref().is_none_or(|joined| joined.comm.is_root());
    let mut flags = cli.flags.clone();
    if let Some(joined) = &joined {
        let (ranks, workers) = (joined.comm.size(), flags.workers.workers.take());
        if let Some(workers) = workers.filter(|&workers| workers != ranks) {
            anyhow::bail!(
                "--workers {workers}: mpirun has started {ranks} processes, which run one worker each"
            );
        }
        flags.workers.workers = Some(ranks);
    }
    let folder = cli.resume.as_deref().filter(|_| root).map(RunFolder::open).transpose()?;
    let begun = "as the run was begun";
    let (mut config, mut reasons) = match (&folder, &cli.resume) {
        (Some((_, config)), _) => {
            (Some(config.clone()), Reasons { device: begun.into(), preset: begun.into() })
        }
        (None, Some(_)) => (None, Reasons::default()),
        (None, None) => {
            let (config, reasons) = Config::new(&flags, Device::first_gpu)?;
            (Some(config), reasons)
        }
    };
    if let Some(joined) = &mut joined {
        config = Some(joined.agree(config.as_ref())?);
    }
    let Some(config) = config else { anyhow::bail!("there is no configuration") };
    if cli.resume.is_some() {
        if let Some(joined) = joined.as_ref().filter(|joined| joined.comm.size() != config.worker_count()) {
            let (run, ranks) = (config.worker_count(), joined.comm.size());
            anyhow::bail!(
                "the run has {run} workers, and mpirun has started {ranks} processes: start as many as workers"
            );
        }
        config.agrees(&flags)?;
    }
    if cli.summary {
        let local = joined.as_ref().map_or(config.worker_count(), |joined| joined.comm.local().len());
        joined.as_mut().map_or(Ok(()), |joined| joined.comm.finish())?;
        return if root { summarise(&config, local) } else { Ok(ExitCode::SUCCESS) };
    }
    let mut device = config.device()?;
    if let Some(joined) = &joined {
        device = joined.device(device)?;
        reasons.device += ", for each rank";
    }
    let folder = folder.map(|(folder, _)| folder);
    optim::with_device(device, Training { cli, config, reasons, root, joined, resumed: folder })?
}

/// A run that is to begin or to go on.
struct Training<'a> {
    cli: &'a Cli,
    config: Config,
    reasons: Reasons,
    /// Whether this process prints and writes.
    root: bool,
    joined: Option<Joined>,
    resumed: Option<RunFolder>,
}

impl optim::Work for Training<'_> {
    type Output = anyhow::Result<ExitCode>;

    fn on<B: TrainingBackend>(self, backend: B) -> anyhow::Result<ExitCode> {
        let Training { cli, mut config, reasons, root, mut joined, resumed } = self;
        let is_resumed = cli.resume.is_some();
        let mut folder = match resumed {
            None if root => {
                let default = || RunFolder::default_path(&config.preset, jiff::Timestamp::now());
                Some(RunFolder::create(&cli.run_dir.clone().unwrap_or_else(default))?)
            }
            resumed => resumed,
        };

        let source = if config.data == train::SYNTHETIC { Source::Synthetic } else { Source::Auto };
        let load = || cli.data.load(source);
        // Only one of several fetches the data.
        let mut dataset = match &mut joined {
            Some(joined) => joined.root_first(load)?,
            None => load()?,
        };
        if is_resumed && dataset.name != config.data {
            anyhow::bail!("the run was begun on {}, and there is only {} here", config.data, dataset.name);
        }
        config.data = dataset.name.into();
        let images = config.images(dataset.train.len())?;
        dataset.train = dataset.train.truncated(images);
        if let Some(joined) = &mut joined {
            joined.comm.agree("the data set", &dataset.fingerprint(), None)?;
        }

        let stop = stop_on_signals()?;
        let comm = joined.map(|joined| joined.comm);
        let outcome = match &mut folder {
            // The root's listeners hear of the run.
            None => train::run(backend, &config, dataset, Path::new(""), None, comm, &mut [], &stop)?,
            Some(folder) => {
                let mut state = None;
                if is_resumed {
                    let layout = config.model.graph(config.width)?.layout;
                    let chain = Chain::read(
                        &folder.checkpoints(),
                        ModelId::new(config.model, config.width),
                        &layout,
                    )?;
                    state = chain.load_latest()?;
                    folder.cut_back(state.as_ref().map_or(0, |state| state.progress.at.epoch))?;
                } else {
                    folder.begin(&config)?;
                }
                let mut bar = Bar::stderr();
                let mut table = Table::new(stdout(), reasons);
                let mut metrics = Metrics::new(folder.metrics()?);
                let mut log = DawnLog::append(folder.logs()?)?;
                // The bar first: it makes way for the table's row. The files before the table: a row that shows is kept.
                let listeners: &mut [&mut dyn Listener] = &mut [&mut bar, &mut metrics, &mut log, &mut table];
                train::run(backend, &config, dataset, folder.path(), state, comm, listeners, &stop)?
            }
        };
        Ok(match outcome {
            Outcome::Finished(_) => ExitCode::SUCCESS,
            // As shells count: 130 for SIGINT, 143 for SIGTERM.
            Outcome::Interrupted(signal) => ExitCode::from(128 + signal as u8),
        })
    }
}

/// Prints the plan, for all of CIFAR-10's images unless fewer are asked for.
fn summarise(config: &Config, workers: usize) -> anyhow::Result<ExitCode> {
    let images = config.train_images.unwrap_or(50_000) + 10_000;
    let out = &mut stdout().lock();
    match config.device()? {
        Device::Auto | Device::Cpu => summary::print::<Cpu>(out, config, workers, images)?,
        // The kernels are the same on both.
        Device::Cuda(_) | Device::Emulated => summary::print::<Cuda<Gpu>>(out, config, workers, images)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The first SIGINT, SIGTERM or SIGUSR1, which mpirun hands on, stops the run after its step, or that of several processes
/// after their next merge; a second one ends the program at once.
fn stop_on_signals() -> std::io::Result<Stop> {
    let (stop, again) = (Stop::default(), Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM, SIGUSR1] {
        flag::register_conditional_shutdown(signal, 128 + signal, again.clone())?;
        flag::register(signal, again.clone())?;
        flag::register_usize(signal, stop.0.clone(), signal as usize)?;
    }
    Ok(stop)
}

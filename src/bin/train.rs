//! Trains a network on CIFAR-10 and leaves a run folder.

mod common;
#[path = "common/distributed.rs"]
mod distributed;

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use distributed::DistributedFlags;
use fishmask::Run;
use fishmask::backend::cpu::Cpu;
use fishmask::backend::cuda::Cuda;
use fishmask::driver::cuda::Gpu;
use fishmask::records::{Bar, RunFolder, Table, summary};
use fishmask::settings::{Config, Device, Flags, Reasons};
use fishmask::train::{Outcome, Stop};
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
    /// Folder for the run's files; must be new or empty [default: runs/TIME-RECIPE, the time in UTC]
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
    let run = cli.resume.as_deref().filter(|_| root).map(Run::resume).transpose()?;
    let begun = "as the run was begun";
    let (mut config, mut reasons) = match (&run, &cli.resume) {
        (Some(run), _) => {
            (Some(run.config().clone()), Reasons { device: begun.into(), recipe: begun.into() })
        }
        (None, Some(_)) => (None, Reasons::default()),
        (None, None) => {
            let (config, reasons) = Config::new(&flags, common::first_gpu)?;
            (Some(config), reasons)
        }
    };
    if let Some(joined) = &mut joined {
        config = Some(joined.agree(config.as_ref())?);
    }
    let Some(config) = config else { anyhow::bail!("there is no configuration") };
    if cli.resume.is_some() {
        if let Some(joined) = joined.as_ref().filter(|joined| joined.comm.size() != config.workers.count) {
            let (run, ranks) = (config.workers.count, joined.comm.size());
            anyhow::bail!(
                "the run has {run} workers, and mpirun has started {ranks} processes: start as many as workers"
            );
        }
        config.agrees(&flags)?;
    }
    if cli.summary {
        let local = joined.as_ref().map_or(config.workers.count, |joined| joined.comm.local().len());
        joined.as_mut().map_or(Ok(()), |joined| joined.comm.finish())?;
        return if root { summarise(&config, local) } else { Ok(ExitCode::SUCCESS) };
    }
    let mut device = config.device.name;
    if let Some(joined) = &joined {
        device = joined.device(device)?;
        reasons.device += ", for each rank";
    }
    let mut run = match run {
        Some(run) => run,
        None if root => {
            let default = || RunFolder::default_path(&config.recipe, jiff::Timestamp::now());
            let folder = cli.run_dir.clone().unwrap_or_else(default);
            Run::new(config).folder(folder)
        }
        None => Run::new(config),
    };
    if let Some(joined) = joined {
        run = run.comm(joined.comm);
    }
    // The bar before the table, for whose row it makes way.
    let run = run.device(device).load(|source| Ok(cli.data.load(source)?)).stop(stop_on_signals()?);
    Ok(match run.listen(Bar::stderr()).listen(Table::new(stdout(), reasons)).run()? {
        Outcome::Finished(_) => ExitCode::SUCCESS,
        // As shells count: 130 for SIGINT, 143 for SIGTERM.
        Outcome::Interrupted(signal) => ExitCode::from(128 + signal as u8),
    })
}

/// Prints the plan, for all of CIFAR-10's images unless fewer are asked for.
fn summarise(config: &Config, workers: usize) -> anyhow::Result<ExitCode> {
    let images = config.data.images.unwrap_or(50_000) + 10_000;
    let out = &mut stdout().lock();
    match config.device.name {
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

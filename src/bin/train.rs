//! Trains a network on CIFAR-10 and leaves a run folder.

mod common;

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use fishmask::backend::{Backend, cpu::Cpu};
use fishmask::checkpoint::full;
use fishmask::data::Source;
use fishmask::train::listeners::{Bar, DawnLog, Metrics, Table};
use fishmask::train::{self, Config, Flags, Outcome, RunFolder, Stop, config};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Train a CIFAR-10 ResNet.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    data: common::DataFlags,
    /// Folder for the run's files; must be new or empty [default: runs/<UTC time>-<preset>]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Go on with a run that was stopped, as its config.json says
    #[arg(long, value_name = "RUN_DIR", conflicts_with = "run_dir")]
    resume: Option<PathBuf>,
    /// Threads [default: one a core]; the result does not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print the plan without training
    #[arg(long)]
    summary: bool,
}

fn main() -> ExitCode {
    common::finish(run(&Cli::parse()))
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    common::use_threads(cli.threads)?;
    let resumed = cli.resume.as_deref().map(RunFolder::open).transpose()?;
    let (mut config, reason) = match &resumed {
        Some((_, config)) => {
            config.agrees(&cli.flags)?;
            (config.clone(), "as the run was begun".to_string())
        }
        None => Config::new(&cli.flags)?,
    };
    if cli.summary {
        let batches = train::batches(&config);
        train::summary::print(&mut stdout().lock(), &config, batches, Cpu::scratch_bytes)?;
        return Ok(ExitCode::SUCCESS);
    }
    let is_resumed = resumed.is_some();
    let mut folder = match resumed {
        Some((folder, _)) => folder,
        None => {
            let default = || RunFolder::default_path(&config.preset, jiff::Timestamp::now());
            RunFolder::create(&cli.run_dir.clone().unwrap_or_else(default))?
        }
    };

    let source = if config.data == config::SYNTHETIC { Source::Synthetic } else { Source::Auto };
    let mut dataset = cli.data.load(source)?;
    if is_resumed && dataset.name != config.data {
        anyhow::bail!("the run was begun on {}, and there is only {} here", config.data, dataset.name);
    }
    config.data = dataset.name.into();
    let images = config.images(dataset.train.len())?;
    dataset.train = dataset.train.truncated(images);

    let mut state = None;
    if is_resumed {
        let layout = config.model.graph(config.width)?.layout;
        let latest = full::load_latest(&folder.checkpoints(), (config.model, config.width), &layout)?;
        state = latest.map(|(_, state)| state);
        folder.cut_back(state.as_ref().map_or(0, |state| state.epoch))?;
    } else {
        folder.begin(&config)?;
    }

    let mut bar = Bar::stderr();
    let mut table = Table::new(stdout(), reason);
    let mut metrics = Metrics::new(folder.metrics()?);
    let mut log = DawnLog::append(folder.logs()?)?;
    let stop = stop_on_signals()?;
    // The bar first: it makes way for the table's row. The files before the table: a row that shows is kept.
    let outcome = train::run(
        Cpu::new(),
        &config,
        dataset,
        folder.path(),
        state,
        &mut [&mut bar, &mut metrics, &mut log, &mut table],
        &stop,
    )?;
    Ok(match outcome {
        Outcome::Finished(_) => ExitCode::SUCCESS,
        // As shells count: 130 for SIGINT, 143 for SIGTERM.
        Outcome::Interrupted(signal) => ExitCode::from(128 + signal as u8),
    })
}

/// The first SIGINT or SIGTERM stops the run after its step; a second one ends the program at once.
fn stop_on_signals() -> std::io::Result<Stop> {
    let (stop, again) = (Stop::default(), Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 128 + signal, again.clone())?;
        flag::register(signal, again.clone())?;
        flag::register_usize(signal, stop.0.clone(), signal as usize)?;
    }
    Ok(stop)
}

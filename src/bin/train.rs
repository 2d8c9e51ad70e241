//! Trains a network on CIFAR-10 and leaves a run folder.

mod common;

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use fishmask::backend::Sparse;
use fishmask::backend::cpu::Cpu;
use fishmask::backend::cuda::Cuda;
use fishmask::checkpoint::chain::Chain;
use fishmask::data::Source;
use fishmask::driver::cuda::Gpu;
use fishmask::train::listeners::{Bar, DawnLog, Metrics, Table};
use fishmask::train::{
    self, Config, Device, Flags, Listener, Outcome, Reasons, RunFolder, Stop, config, summary,
};
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
    let (config, reasons) = match &resumed {
        Some((_, config)) => {
            config.agrees(&cli.flags)?;
            let reason = "as the run was begun";
            (config.clone(), Reasons { device: reason.into(), preset: reason.into() })
        }
        None => Config::new(&cli.flags, common::first_gpu)?,
    };
    if cli.summary {
        return summarise(&config);
    }
    let device = config.device()?;
    common::with_device(device, Training { cli, config, reasons, resumed: resumed.map(|(folder, _)| folder) })
}

/// A run that is to begin or to go on.
struct Training<'a> {
    cli: &'a Cli,
    config: Config,
    reasons: Reasons,
    resumed: Option<RunFolder>,
}

impl common::Work for Training<'_> {
    fn on<B: Sparse>(self, backend: B) -> anyhow::Result<ExitCode> {
        let Training { cli, mut config, reasons, resumed } = self;
        let is_resumed = resumed.is_some();
        let mut folder = match resumed {
            Some(folder) => folder,
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
            let chain = Chain::read(&folder.checkpoints(), (config.model, config.width), &layout)?;
            state = chain.load_latest()?;
            folder.cut_back(state.as_ref().map_or(0, |state| state.progress.epoch))?;
        } else {
            folder.begin(&config)?;
        }

        let mut bar = Bar::stderr();
        let mut table = Table::new(stdout(), reasons);
        let mut metrics = Metrics::new(folder.metrics()?);
        let mut log = DawnLog::append(folder.logs()?)?;
        let stop = stop_on_signals()?;
        // The bar first: it makes way for the table's row. The files before the table: a row that shows is kept.
        let listeners: &mut [&mut dyn Listener] = &mut [&mut bar, &mut metrics, &mut log, &mut table];
        Ok(match train::run(backend, &config, dataset, folder.path(), state, listeners, &stop)? {
            Outcome::Finished(_) => ExitCode::SUCCESS,
            // As shells count: 130 for SIGINT, 143 for SIGTERM.
            Outcome::Interrupted(signal) => ExitCode::from(128 + signal as u8),
        })
    }
}

/// Prints the plan, for all of CIFAR-10's images unless fewer are asked for.
fn summarise(config: &Config) -> anyhow::Result<ExitCode> {
    let images = config.train_images.unwrap_or(50_000) + 10_000;
    let out = &mut stdout().lock();
    match config.device()? {
        Device::Auto | Device::Cpu => summary::print::<Cpu>(out, config, images)?,
        // The kernels are the same on both.
        Device::Cuda(_) | Device::Emulated => summary::print::<Cuda<Gpu>>(out, config, images)?,
    }
    Ok(ExitCode::SUCCESS)
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

//! `train`, and `fishmask train`: trains a network and leaves a run folder.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use fishmask::checkpoint::chain::Chain;
use fishmask::data::DataSource;
use fishmask::device::gpu::Gpu;
use fishmask::device::{Cpu, Cuda, Device};
use fishmask::optim::{self, TrainingBackend};
use fishmask::settings::{Config, ConfigError, Reasons, Request, Resolved, Values, arguments};
use fishmask::train::listeners::{Bar, DawnLog, Metrics, Table};
use fishmask::train::{self, Listener, Outcome, RunFolder, Stop, summary};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

use crate::distributed::{DistributedFlags, Joined};
use crate::finish::tell;
use crate::images::{DataFlags, use_threads};

/// Arguments that are not settings.
#[derive(Args)]
struct Train {
    #[command(flatten)]
    data: DataFlags,
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
    /// Print the effective recipe as TOML, each value with where it comes from, without training
    #[arg(long, conflicts_with = "resume")]
    print_config: bool,
}

/// The program, or subcommand, of this name.
pub fn command(name: &'static str) -> Command {
    let command = Command::new(name).about("Train a CIFAR-10 ResNet").version(env!("FISHMASK_VERSION"));
    let command = arguments(command, |_| true).next_help_heading("Run");
    Train::augment_args(command).after_help(
        "Examples:\n  train --recipe quick --mask fisher --keep-ratio 0.02 --run-dir runs/masked\n  \
         train --recipe mine.toml --set optimizer.lr=0.1 --print-config",
    )
}

/// Trains as the arguments say.
pub fn run(matches: &ArgMatches) -> ExitCode {
    match Train::from_arg_matches(matches) {
        Ok(args) => args.several.finish(train(&args, matches)),
        Err(error) => crate::finish::finish(Err(error.into())),
    }
}

fn train(args: &Train, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    use_threads(args.threads)?;
    let mut joined = args.several.join()?;
    let root = joined.as_ref().is_none_or(|joined| joined.comm.is_root());
    let mut request = Request::new(matches)?;
    if root {
        tell(&request.notes);
    }
    if let Some(joined) = &joined {
        request = request.with_ranks(joined.comm.size())?;
    }
    let folder = args.resume.as_deref().filter(|_| root).map(RunFolder::open).transpose()?;
    let begun = "as the run was begun";
    let mut reasons = Reasons { device: begun.into(), recipe: begun.into() };
    let (mut config, mut values) = (folder.as_ref().map(|(_, config)| config.clone()), None);
    if args.resume.is_none() {
        let resolved = request.resolve(Device::first_gpu)?;
        if args.print_config {
            joined.as_mut().map_or(Ok(()), |joined| joined.comm.finish())?;
            if root {
                stdout().write_all(resolved.recipe().as_bytes())?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let Resolved { config: own, reasons: why, values: from } = resolved;
        (config, reasons, values) = (Some(own), why, Some(from));
    }
    if let Some(joined) = &mut joined {
        config = Some(joined.agree(config.as_ref())?);
    }
    let Some(config) = config else { anyhow::bail!("there is no configuration") };
    if args.resume.is_some() {
        if let Some(joined) = joined.as_ref().filter(|joined| joined.comm.size() != config.workers.count) {
            let (run, ranks) = (config.workers.count, joined.comm.size());
            anyhow::bail!(
                "the run has {run} workers, and mpirun has started {ranks} processes: start as many"
            );
        }
        config.agrees(&request)?;
    }
    if args.summary {
        let local = joined.as_ref().map_or(config.workers.count, |joined| joined.comm.local().len());
        joined.as_mut().map_or(Ok(()), |joined| joined.comm.finish())?;
        return if root { summarise(&config, local) } else { Ok(ExitCode::SUCCESS) };
    }
    let mut device = config.device.name;
    if let Some(joined) = &joined {
        device = joined.device(device)?;
        reasons.device += ", for each rank";
    }
    let folder = folder.map(|(folder, _)| folder);
    optim::with_device(device, Training { args, config, reasons, values, root, joined, resumed: folder })?
}

/// A run that is to begin or to go on.
struct Training<'a> {
    args: &'a Train,
    config: Config,
    reasons: Reasons,
    /// Where a new run's values come from.
    values: Option<Values>,
    /// Whether this process prints and writes.
    root: bool,
    joined: Option<Joined>,
    resumed: Option<RunFolder>,
}

impl optim::Work for Training<'_> {
    type Output = anyhow::Result<ExitCode>;

    fn on<B: TrainingBackend>(self, backend: B) -> anyhow::Result<ExitCode> {
        let Training { args, mut config, reasons, values, root, mut joined, resumed } = self;
        let is_resumed = args.resume.is_some();
        let mut folder = match resumed {
            None if root => {
                let default = || RunFolder::default_path(&config.recipe, jiff::Timestamp::now());
                Some(RunFolder::create(&args.run_dir.clone().unwrap_or_else(default))?)
            }
            resumed => resumed,
        };

        let load = || Ok(args.data.load(config.data.set)?);
        // Only one of several fetches the data.
        let mut dataset = match &mut joined {
            Some(joined) => joined.root_first(load)?,
            None => load()?,
        };
        let found = DataSource::named(dataset.set().name).unwrap_or(config.data.set);
        if is_resumed && found != config.data.set {
            anyhow::bail!("the run was begun on {}, and there is only {found} here", config.data.set);
        }
        config.data.set = found;
        let named = |error: ConfigError| match &values {
            Some(values) => values.name(error),
            None => error,
        };
        let images = config.images(dataset.train.len()).map_err(named)?;
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
                    let layout = config.network.graph()?.layout;
                    let chain = Chain::read(&folder.checkpoints(), config.network, &layout)?;
                    state = chain.load_latest()?;
                    folder.cut_back(state.as_ref().map_or(0, |state| state.progress.at.epoch))?;
                } else {
                    folder.begin(&config)?;
                }
                let mut bar = Bar::stderr();
                let mut table = Table::new(stdout(), reasons);
                let mut metrics = Metrics::new(folder.metrics()?);
                let mut log = DawnLog::append(folder.logs()?)?;
                // The bar first: it makes way for the table's row. The files before the table: a row that
                // shows is kept.
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
    let [training, test] = config.data.set.set().images;
    let images = config.data.images.unwrap_or(training) + test;
    let out = &mut stdout().lock();
    match config.device.name {
        Device::Auto | Device::Cpu => summary::print::<Cpu>(out, config, workers, images)?,
        // The kernels are the same on both.
        Device::Cuda(_) | Device::Emulated => summary::print::<Cuda<Gpu>>(out, config, workers, images)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The first SIGINT, SIGTERM or SIGUSR1, which mpirun hands on, stops the run after its step, or that of
/// several processes after their next merge; a second one ends the program at once.
fn stop_on_signals() -> std::io::Result<Stop> {
    let (stop, again) = (Stop::default(), Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM, SIGUSR1] {
        flag::register_conditional_shutdown(signal, 128 + signal, again.clone())?;
        flag::register(signal, again.clone())?;
        flag::register_usize(signal, stop.0.clone(), signal as usize)?;
    }
    Ok(stop)
}

//! `train`, and `fishmask train`: trains a network and leaves a run folder.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use fishmask::device::gpu::Gpu;
use fishmask::device::{Cpu, Cuda, Device};
use fishmask::records::{Bar, RunFolder, Table, summary};
use fishmask::settings::{Config, Reasons, Request, Resolved, arguments, counted};
use fishmask::train::{Cause, Outcome};
use fishmask::{Run, data};

use crate::distributed::DistributedFlags;
use crate::finish::tell;
use crate::images::{DataFlags, use_threads};
use crate::refusal::{named, refuse};
use crate::resume;
use crate::stop;

// Arguments that are not settings. No doc comment: clap would take it for the command's description.
#[derive(Args)]
struct Train {
    #[command(flatten)]
    data: DataFlags,
    /// Folder for the run's files; must be new or empty, or with --resume auto a run's [default:
    /// runs/TIME-RECIPE, the time in UTC]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Go on with a run that was stopped, as its config.json says; `auto` goes on with the run in --run-dir,
    /// begins it if it is not there, and has nothing to do if it is finished
    #[arg(long, value_name = "RUN_DIR|auto")]
    resume: Option<PathBuf>,
    /// Stop with a checkpoint after so many minutes, with exit code 124
    #[arg(long, value_name = "M")]
    max_minutes: Option<f64>,
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
         train --run-dir runs/job --resume auto --max-minutes 55\n  \
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
    let run_dir = args.run_dir.as_deref().map(resume::at_home);
    let wanted = Place::of(args.resume.as_deref(), run_dir.as_deref())?;
    let stop = stop::on_signals()?;
    if let Some(minutes) = args.max_minutes {
        stop::after(&stop, minutes)?;
    }
    use_threads(args.threads)?;
    let mut joined = args.several.join()?;
    let root = joined.as_ref().is_none_or(|joined| joined.comm.is_root());
    let mut request = Request::new(matches)?;
    if root {
        tell(&request.notes);
    }
    if let Some(joined) = &joined {
        request = request.with_ranks(joined.comm.size())?;
    } else if let Some(hint) = crate::distributed::forgotten() {
        tell(&[hint]);
    }
    // Whether there is a run to go on with, the root knows.
    let resumed = match (&mut joined, wanted.resumed()) {
        (Some(joined), resumed) => joined.agree_on_resuming(resumed.is_some())?.then_some(wanted.path()),
        (None, resumed) => resumed.map(Some),
    };
    let run = match resumed.flatten().filter(|_| root) {
        Some(folder) => Some(Run::resume(folder, &request)?),
        None => None,
    };
    let begun = "as the run was begun";
    let mut reasons = Reasons { device: begun.into(), recipe: begun.into() };
    let (mut config, mut values) = (run.as_ref().map(|run| run.config().clone()), None);
    if resumed.is_none() {
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
    if resumed.is_some() {
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
    // Where nothing was said of the data, a machine that cannot get it may try the program on made-up
    // pictures.
    let said = values.as_ref().is_none_or(|values| values.is_given("data.set"));
    let mut run = match run {
        Some(run) => run,
        None if root => {
            let run = Run::new(config);
            match wanted.path() {
                Some(folder) => run.folder(folder),
                None => run.folder_by_time(),
            }
        }
        None => Run::new(config),
    };
    let ranks = joined.as_ref().map(|joined| joined.comm.size());
    if let Some(joined) = joined {
        run = run.comm(joined.comm);
    }
    let table =
        Table::new(stdout(), reasons).resume_by(Box::new(move |folder| resume::command(folder, ranks)));
    let load = |set| args.data.load(set, !said, stop.0.clone());
    // The bar before the table, for whose row it makes way.
    let run = run.device(device).load(load).stop(stop.clone()).listen(Bar::stderr()).listen(table);
    let run = run.tell(|note| tell(&[note.to_string()]));
    match run.run() {
        Ok(outcome) => ended(&outcome, root),
        Err(fishmask::Error::Data(data::Error::Interrupted { signal })) => {
            let cause = Cause::new(signal);
            writeln!(stdout(), "stopped by {cause} before training began; nothing is kept")?;
            Ok(stop::code(cause))
        }
        Err(error) => Err(match &values {
            Some(values) => named(error, values),
            None => error.into(),
        }),
    }
}

/// The exit code of a run that has ended well.
fn ended(outcome: &Outcome, root: bool) -> anyhow::Result<ExitCode> {
    match outcome {
        Outcome::Finished(_) => Ok(ExitCode::SUCCESS),
        Outcome::Interrupted(cause) => Ok(stop::code(*cause)),
        Outcome::NothingLeft { epochs } => {
            if root {
                let done = counted(*epochs, "epoch");
                writeln!(stdout(), "the run's training of {done} is done: there is nothing left to train")?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What `--run-dir` and `--resume` say together.
enum Place<'a> {
    /// A new run in this folder, or in one that is named by the time.
    New(Option<&'a Path>),
    /// The run in this folder.
    Run(PathBuf),
    /// The run in this folder if there is one, else a new one.
    Auto(&'a Path),
}

impl<'a> Place<'a> {
    fn of(resume: Option<&Path>, run_dir: Option<&'a Path>) -> anyhow::Result<Place<'a>> {
        Ok(match (resume, run_dir) {
            (None, run_dir) => Place::New(run_dir),
            (Some(word), Some(run_dir)) if word == Path::new("auto") => Place::Auto(run_dir),
            (Some(word), None) if word == Path::new("auto") => {
                return Err(refuse("--resume auto".into(), "give the run's folder too: --run-dir DIR").into());
            }
            (Some(folder), None) => Place::Run(resume::at_home(folder)),
            (Some(folder), Some(run_dir)) => {
                let shown = format!("--resume {} --run-dir {}", folder.display(), run_dir.display());
                let need = "a run goes on in its own folder: give --resume alone, or --resume auto";
                return Err(refuse(shown, need).into());
            }
        })
    }

    /// The folder, if one was named.
    fn path(&self) -> Option<&Path> {
        match self {
            Place::New(folder) => *folder,
            Place::Run(folder) => Some(folder),
            Place::Auto(folder) => Some(folder),
        }
    }

    /// The folder of a run that is to go on.
    fn resumed(&self) -> Option<&Path> {
        match self {
            Place::New(_) => None,
            Place::Run(folder) => Some(folder),
            Place::Auto(folder) => RunFolder::is_run(folder).then_some(*folder),
        }
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

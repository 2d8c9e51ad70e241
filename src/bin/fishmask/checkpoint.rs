//! `fishmask checkpoint`: looks after the checkpoints of a run.

use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgMatches, Command, FromArgMatches, Subcommand};
use fishmask::checkpoint::chain::{Chain, Checkpoint, Kind, diff};
use fishmask::checkpoint::{Moment, RunLock, weights};
use fishmask::records::{accuracies, check_output};
use fishmask::settings::counted;

#[derive(Subcommand)]
enum Action {
    /// Show them all, with what each takes
    List {
        /// Run folder
        run: PathBuf,
    },
    /// Write one as a file of weights that PyTorch loads
    Restore {
        /// Run folder
        run: PathBuf,
        /// Epochs completed
        #[arg(long, value_name = "N")]
        epoch: u32,
        /// Steps done of the next
        #[arg(long, value_name = "S", default_value = "0")]
        step: u32,
        /// The file to write
        #[arg(long, value_name = "F")]
        out: PathBuf,
    },
    /// Check every file, hash and parent
    Verify {
        /// Run folder
        run: PathBuf,
    },
    /// Remove all but the newest, and what those do not need
    Prune {
        /// Run folder
        run: PathBuf,
        /// Checkpoints to keep
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        keep_last: u32,
    },
    /// Show by layer which weights changed between two checkpoints
    Diff {
        /// Run folder
        run: PathBuf,
        /// Epochs completed, as 3, or with steps of the next, as 3:120
        a: Moment,
        /// As A
        b: Moment,
    },
}

/// The subcommand.
pub fn command() -> Command {
    let about = "List, restore, verify, prune and compare a run's checkpoints";
    let command =
        Command::new("checkpoint").about(about).subcommand_required(true).arg_required_else_help(true);
    Action::augment_subcommands(command).after_help(
        "Examples:\n  fishmask checkpoint list runs/a\n  \
         fishmask checkpoint restore runs/a --epoch 3 --out epoch3.safetensors\n  \
         fishmask checkpoint diff runs/a 3 3:120",
    )
}

/// Does what the arguments say.
pub fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let action = &Action::from_arg_matches(matches)?;
    match action {
        Action::List { run } => list(&find(run)?, &accuracies(run))?,
        Action::Restore { run, epoch, step, out } => {
            let chain = find(run)?;
            check_output(out, &[chain.folder()])?;
            let restored = chain.load(Moment::new(*epoch, *step))?;
            weights::save(out, chain.id(), chain.layout(), &restored.weights, &restored.running)?;
            let name = file_name(&restored.path);
            writeln!(stdout(), "{}: weights and running statistics of {name}", out.display())?;
        }
        Action::Verify { run } => return verify(&find(run)?),
        Action::Prune { run, keep_last } => {
            // A folder that is no run's gets no lock. What there was before the lock may have changed since.
            find(run)?;
            let _lock = RunLock::take(run)?;
            let pruned = find(run)?.prune(*keep_last as usize)?;
            for path in &pruned.written {
                writeln!(stdout(), "wrote   {}", file_name(path))?;
            }
            for path in &pruned.removed {
                writeln!(stdout(), "removed {}", file_name(path))?;
            }
            writeln!(stdout(), "removed {}, {} bytes", counted(pruned.removed.len(), "file"), pruned.bytes)?;
        }
        Action::Diff { run, a, b } => changes(&find(run)?, *a, *b)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The checkpoints of a run, or of the folder itself.
fn find(run: &Path) -> anyhow::Result<Chain> {
    let inner = run.join("checkpoints");
    Ok(Chain::find(if inner.is_dir() { &inner } else { run })?)
}

fn list(chain: &Chain, accuracies: &BTreeMap<u32, f64>) -> anyhow::Result<()> {
    let (out, dense) = (&mut stdout().lock(), chain.dense_bytes() as f64);
    writeln!(out, "{}, {} weights", chain.id(), chain.layout().weight_count())?;
    // A column more where there are such files.
    let any_workers = chain.checkpoints().iter().any(|c| chain.workers(c).is_some());
    let column = |text: &str| if any_workers { format!(" {text:>14}") } else { String::new() };
    writeln!(
        out,
        "{:>5} {:>5}  {:<5} {:>10} {:>12} {:>8} {:>7}{}",
        "epoch",
        "step",
        "kind",
        "kept",
        "bytes",
        "of dense",
        "test %",
        column("workers' bytes")
    )?;
    for checkpoint in chain.checkpoints() {
        let Checkpoint { kind, progress, kept, bytes, .. } = checkpoint;
        let kind = match kind {
            Kind::Base => "base",
            Kind::Delta { .. } => "delta",
            Kind::Full { .. } => "full",
        };
        let known = accuracies.get(&progress.at.epoch).filter(|_| progress.at.step == 0);
        let accuracy = progress.test_accuracy.or(known.copied()).map_or("-".into(), |a| format!("{a:.2}"));
        let (Moment { epoch, step }, share) = (progress.at, 100.0 * *bytes as f64 / dense);
        let workers = column(&chain.workers(checkpoint).map_or("-".into(), |file| file.bytes.to_string()));
        writeln!(
            out,
            "{epoch:>5} {step:>5}  {kind:<5} {kept:>10} {bytes:>12} {share:>7.2}% {accuracy:>7}{workers}"
        )?;
    }
    for error in chain.broken() {
        writeln!(out, "{error}")?;
    }
    Ok(())
}

fn verify(chain: &Chain) -> anyhow::Result<ExitCode> {
    let out = &mut stdout().lock();
    let verified = chain.verify();
    for file in &verified {
        match &file.result {
            Ok(()) => writeln!(out, "good  {}", file_name(&file.path))?,
            // The error names a file, which may be one that this one needs.
            Err(error) => writeln!(out, "BAD   {}: {error}", file_name(&file.path))?,
        }
    }
    let (bad, all) = (verified.iter().filter(|file| file.result.is_err()).count(), verified.len());
    if bad == 0 {
        writeln!(out, "all {all} files are good")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{bad} of {all} files are bad")?;
    Ok(ExitCode::FAILURE)
}

fn changes(chain: &Chain, a: Moment, b: Moment) -> anyhow::Result<()> {
    let (a, b) = (chain.load(a)?.weights, chain.load(b)?.weights);
    let rows = diff(chain.layout(), &a, &b);
    let (weights, changed) = rows.iter().fold((0, 0), |(w, c), row| (w + row.weights, c + row.changed));
    let largest = rows.iter().map(|row| row.largest).max_by(f32::total_cmp).unwrap_or_default();
    let name = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("layer".len());
    let out = &mut stdout().lock();
    writeln!(
        out,
        "{:<name$} {:>10} {:>10} {:>7} {:>14}",
        "layer", "weights", "changed", "share", "largest change"
    )?;
    let mut line = |layer: &str, weights: usize, changed: usize, largest: f32| {
        let share = 100.0 * changed as f64 / weights as f64;
        writeln!(out, "{layer:<name$} {weights:>10} {changed:>10} {share:>6.2}% {largest:>14.3e}")
    };
    rows.iter().try_for_each(|row| line(&row.name, row.weights, row.changed, row.largest))?;
    Ok(line("all", weights, changed, largest)?)
}

/// A path's last part.
fn file_name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

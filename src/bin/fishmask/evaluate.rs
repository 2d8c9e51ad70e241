//! `fishmask evaluate`: loss, accuracy by class and, if wanted, confusion and logits of a model.

use std::io::{self, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgGroup, ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use fishmask::data::Set;
use fishmask::records::Meter;
use fishmask::settings::{Request, arguments};
use fishmask::{Evaluated, Evaluation, checkpoint};

use crate::finish::tell;
use crate::images::{DataFlags, use_threads};
use crate::refusal::refuse;
use crate::source::SourceFlags;

/// The settings that have a flag here; `--recipe` and `--set` give others of the network.
const KEYS: [&str; 4] = ["network.model", "network.width", "data.set", "device.name"];

// Arguments that are not settings. No doc comment: clap would take it for the command's description.
#[derive(Args)]
struct Evaluate {
    #[command(flatten)]
    source: SourceFlags,
    #[command(flatten)]
    data: DataFlags,
    /// Images to evaluate on
    #[arg(long, value_enum, default_value = "test")]
    split: Split,
    /// Only the first so many of them [default: all]
    #[arg(long, value_name = "IMAGES")]
    count: Option<usize>,
    /// Print how many images of each class are taken for each
    #[arg(long)]
    confusion: bool,
    /// Write the logits, f32 (N, 10) in the data's order, as tensor `logits` of a safetensors file
    #[arg(long, value_name = "OUT")]
    logits: Option<PathBuf>,
    /// Images in a step; the result does not depend on it
    #[arg(long, value_name = "IMAGES", default_value = "500")]
    batch_size: usize,
    /// Threads [default: one a core]; the result does not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// A part of the data set.
#[derive(Clone, Copy, ValueEnum)]
enum Split {
    /// The test images
    Test,
    /// The training images
    Train,
}

/// The subcommand.
pub fn command() -> Command {
    let command = Command::new("evaluate").about("Evaluate a run, or weights, this program's or PyTorch's");
    let command = arguments(command, |setting| KEYS.contains(&setting.key));
    let source = ArgGroup::new("source").args(["run", "weights"]).required(true);
    Evaluate::augment_args(command).group(source).after_help(
        "Examples:\n  fishmask evaluate runs/a --confusion\n  \
         fishmask evaluate runs/a --epoch 3 --split train --count 1000\n  \
         fishmask evaluate --model resnet9 --width 16 --weights final.safetensors",
    )
}

/// Evaluates as the arguments say.
pub fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let args = Evaluate::from_arg_matches(matches)?;
    let request = Request::new(matches)?;
    tell(&request.notes);
    request.only(&KEYS)?;
    if args.batch_size == 0 {
        return Err(refuse("--batch-size 0".into(), "a step needs at least 1 image").into());
    }
    use_threads(args.threads)?;
    // The weights first: they are quick to refuse, and the data may have to be fetched.
    let (resolved, saved) = args.source.read(request, &[])?;
    args.source.check_output(&saved, args.logits.as_deref())?;
    let config = resolved.config;
    let evaluation = Evaluation::of(saved)?.device(config.device.name).batch_size(args.batch_size);
    let mut meter = Meter::stderr();
    let evaluation =
        evaluation.watch(move |done, images| meter.show("evaluating", "images", done as u64, images as u64));
    let mut shown = None;
    let result = evaluation.keep_logits(args.logits.is_some()).run(|| {
        let dataset = args.data.load(config.data.set, false, Arc::default())?;
        let set = dataset.set();
        let (split, name) = match args.split {
            Split::Test => (dataset.test, "test"),
            Split::Train => (dataset.train, "training"),
        };
        let (count, all) = (args.count.unwrap_or(split.len()), split.len());
        if !(1..=all).contains(&count) {
            let need = format!("must be from 1 to the {all} {name} images of {}", set.name);
            return Err(refuse(format!("--count {count}"), need).into());
        }
        shown = Some((set, name, all));
        Ok(split.truncated(count))
    })?;
    if let Some(path) = &args.logits {
        checkpoint::save_tensor(path, "logits", vec![result.images, result.classes], &result.logits)?;
    }
    let Some((set, split, all)) = shown else { anyhow::bail!("there are no images") };
    let (n, name, out) = (result.images, set.name, &mut stdout().lock());
    // Programs read this line.
    writeln!(out, "{name}, {n} {split} images: loss {:.4}, accuracy {:.2}%", result.loss, result.accuracy)?;
    if n < all {
        writeln!(out, "the first {n} of {all} {split} images")?;
    }
    by_class(out, set, &result)?;
    if args.confusion {
        confusion(out, set, &result)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a line a class: images, and the share of them that is right.
fn by_class(out: &mut dyn Write, set: &Set, result: &Evaluated) -> io::Result<()> {
    let width = set.classes.iter().map(|name| name.len()).max().unwrap_or(0);
    writeln!(out, "\n{:width$}  images  accuracy", "class")?;
    for (class, row) in result.confusion.chunks(result.classes).enumerate() {
        let images: u64 = row.iter().sum();
        let share = match images {
            0 => "-".into(),
            _ => format!("{:.2}%", 100.0 * row[class] as f64 / images as f64),
        };
        writeln!(out, "{:width$}  {images:6}  {share:>8}", set.classes[class])?;
    }
    Ok(())
}

/// Prints how many images of each class are taken for each.
fn confusion(out: &mut dyn Write, set: &Set, result: &Evaluated) -> io::Result<()> {
    let width = set.classes.iter().map(|name| name.len()).max().unwrap_or(0);
    writeln!(out, "\nimages of each class (rows) by the class they are taken for (columns)")?;
    write!(out, "{:width$}", "")?;
    set.classes.iter().try_for_each(|name| write!(out, "  {name:>6}"))?;
    writeln!(out)?;
    for (class, row) in result.confusion.chunks(result.classes).enumerate() {
        write!(out, "{:width$}", set.classes[class])?;
        for (images, name) in row.iter().zip(set.classes) {
            let width = name.len().max(6);
            write!(out, "  {images:>width$}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

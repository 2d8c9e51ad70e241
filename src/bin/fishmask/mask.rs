//! `fishmask mask`: scores a model's weights and chooses a mask; compares masks.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgGroup, ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use fishmask::Selection;
use fishmask::graph::scoring::Statistics;
use fishmask::mask::{Order, file, table};
use fishmask::records::Meter;
use fishmask::settings::{Request, arguments};

use crate::finish::tell;
use crate::images::{DataFlags, use_threads};
use crate::refusal::named;
use crate::source::SourceFlags;

/// The settings that have a flag here; `--recipe` and `--set` give them too.
const KEYS: [&str; 9] = [
    "network.model",
    "network.width",
    "data.set",
    "train.seed",
    "mask.keep_ratio",
    "mask.samples",
    "mask.target",
    "mask.power",
    "device.name",
];

// Arguments that are not settings. No doc comment: clap would take it for the command's description.
#[derive(Args)]
struct Mask {
    /// Print how far two masks agree, layer by layer, and stop
    #[arg(long, num_args = 2, value_names = ["A", "B"], exclusive = true)]
    compare: Option<Vec<PathBuf>>,
    #[command(flatten)]
    source: SourceFlags,
    /// Where scores and mask go [default: nowhere]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Whether images come as an epoch shuffles them or as they lie
    #[arg(long, value_enum, default_value = "shuffled")]
    sample_order: Order,
    /// Whether they are augmented as in training
    #[arg(long, value_enum, default_value = "on")]
    augment: Switch,
    /// Whether batch norm uses the running statistics or each image's own
    #[arg(long, value_enum, default_value = "running")]
    bn: Bn,
    #[command(flatten)]
    data: DataFlags,
    /// Threads [default: one a core]; the result does not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Bn {
    Running,
    Sample,
}

/// The subcommand.
pub fn command() -> Command {
    let about = "Score weights by the Fisher information of training images and choose which to keep, or \
                 compare two such masks";
    let command = arguments(Command::new("mask").about(about), |setting| KEYS.contains(&setting.key));
    let source = ArgGroup::new("source").args(["run", "weights", "compare"]).required(true);
    Mask::augment_args(command).group(source).after_help(
        "Examples:\n  fishmask mask runs/a --keep-ratio 0.02 --out mask.safetensors\n  \
         fishmask mask --recipe quick --weights final.safetensors --out mask.safetensors\n  \
         fishmask mask --compare one.safetensors other.safetensors",
    )
}

/// Chooses or compares as the arguments say.
pub fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let args = Mask::from_arg_matches(matches)?;
    if let Some([a, b]) = args.compare.as_deref() {
        return compare(a, b);
    }
    let request = Request::new(matches)?;
    tell(&request.notes);
    request.only(&KEYS)?;
    use_threads(args.threads)?;
    // What is chosen here is a Fisher mask, whatever recipe or run trains.
    let request = request.with(&[("mask.kind", "fisher")])?;
    let (resolved, saved) = args.source.read(request, &[("data.images", "all")])?;
    args.source.check_output(&saved, args.out.as_deref())?;
    let mut meter = Meter::stderr();
    let selection = Selection::of(&resolved.config, saved)?
        .order(args.sample_order)
        .augment(args.augment == Switch::On)
        .statistics(match args.bn {
            Bn::Running => Statistics::Running,
            Bn::Sample => Statistics::Own,
        })
        .watch(move |done, samples| meter.show("scoring", "samples", done as u64, samples as u64));
    let selected = selection.run(|| {
        let train = args.data.load(resolved.config.data.set, false, Arc::default())?.train;
        let images = resolved.config.images(train.len())?;
        Ok(train.truncated(images))
    });
    let selected = selected.map_err(|error| named(error, &resolved.values))?;
    args.out.as_ref().map_or(Ok(()), |out| selected.save(out))?;

    let rows = table::rows(&selected.layout, &selected.mask, &selected.scores);
    let longest = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let out = &mut stdout().lock();
    writeln!(
        out,
        "{:longest$}  {:>9}  {:>9}  {:>7}  {:>8}",
        "layer", "weights", "kept", "share", "of score"
    )?;
    for row in rows.iter().chain([&table::total(&rows)]) {
        let share = 100.0 * row.kept as f64 / row.weights as f64;
        let (name, weights, kept, score) = (&row.name, row.weights, row.kept, 100.0 * row.score);
        writeln!(out, "{name:longest$}  {weights:9}  {kept:9}  {share:6.2}%  {score:7.2}%")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints how many weights two masks share.
fn compare(a: &Path, b: &Path) -> anyhow::Result<ExitCode> {
    let ((about, first), (other, second)) = (file::load(a)?, file::load(b)?);
    let (id, other) = (about.id, other.id);
    if id != other {
        anyhow::bail!(
            "{} is of {id}, and {} of {other}: masks of one network can be compared",
            a.display(),
            b.display()
        );
    }
    let layout = id.graph()?.layout;
    let width = layout.parameters.iter().map(|p| p.name.len()).max().unwrap_or(0);
    let out = &mut stdout().lock();
    writeln!(
        out,
        "{:width$}  {:>9}  {:>9}  {:>9}  {:>9}  {:>7}",
        "layer", "weights", "A", "B", "both", "of A"
    )?;
    let ranges = layout.parameters.iter().map(|p| (p.name.as_str(), p.range()));
    for (name, range) in ranges.chain([("all", 0..layout.weight_count())]) {
        let [a, b, both] = [first.kept(&range), second.kept(&range), first.shared(&second, &range)];
        // Where A keeps nothing, there is no share of it.
        let share = if a == 0 { "-".into() } else { format!("{:.2}%", 100.0 * both as f64 / a as f64) };
        writeln!(out, "{name:width$}  {:9}  {a:9}  {b:9}  {both:9}  {share:>7}", range.len())?;
    }
    Ok(ExitCode::SUCCESS)
}

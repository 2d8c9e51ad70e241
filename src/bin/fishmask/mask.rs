//! `fishmask mask`: scores a model's weights and chooses a mask; compares masks.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use fishmask::Selection;
use fishmask::device::Device;
use fishmask::graph::scoring::Statistics;
use fishmask::mask::{Order, file, table};
use fishmask::settings::{Request, arguments};

use crate::finish::tell;
use crate::images::{DataFlags, use_threads};
use crate::refusal::{named, refuse};

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
    /// Weights, such as a run's final.safetensors
    #[arg(long, value_name = "FILE", required_unless_present = "compare")]
    weights: Option<PathBuf>,
    /// Where scores and mask go
    #[arg(long, value_name = "FILE", required_unless_present = "compare")]
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
    Mask::augment_args(command).after_help(
        "Examples:\n  fishmask mask --recipe quick --weights final.safetensors --out mask.safetensors\n  \
         fishmask mask --compare one.safetensors other.safetensors",
    )
}

/// Chooses or compares as the arguments say.
pub fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let args = Mask::from_arg_matches(matches)?;
    if let Some([a, b]) = args.compare.as_deref() {
        return compare(a, b);
    }
    let (Some(weights), Some(out)) = (&args.weights, &args.out) else {
        return Err(refuse("--weights and --out".into(), "give both, or --compare A B").into());
    };
    let request = Request::new(matches)?;
    tell(&request.notes);
    request.only(&KEYS)?;
    request.require(&["network.model", "network.width"])?;
    use_threads(args.threads)?;
    // What is chosen here is a Fisher mask, whatever the recipe trains.
    let resolved =
        request.with(&[("mask.kind", "fisher"), ("data.images", "all")])?.resolve(Device::first_gpu)?;
    let selection = Selection::new(&resolved.config, weights)?
        .order(args.sample_order)
        .augment(args.augment == Switch::On)
        .statistics(match args.bn {
            Bn::Running => Statistics::Running,
            Bn::Sample => Statistics::Own,
        });
    let selected = selection.run(|| Ok(args.data.load(resolved.config.data.set)?.train));
    let selected = selected.map_err(|error| named(error, &resolved.values))?;
    selected.save(out)?;

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

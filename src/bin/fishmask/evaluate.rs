//! `fishmask evaluate`: loss, accuracy and, if wanted, the logits of a file of weights.

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use fishmask::device::Device;
use fishmask::settings::{Request, arguments};
use fishmask::{Evaluation, checkpoint};

use crate::finish::tell;
use crate::images::{DataFlags, use_threads};
use crate::refusal::refuse;

/// The settings that have a flag here; `--recipe` and `--set` give others of the network.
const KEYS: [&str; 4] = ["network.model", "network.width", "data.set", "device.name"];

/// Arguments that are not settings.
#[derive(Args)]
struct Evaluate {
    /// Weights, such as a run's final.safetensors
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    #[command(flatten)]
    data: DataFlags,
    /// Images to evaluate on
    #[arg(long, value_enum, default_value = "test")]
    split: Split,
    /// Only the first so many [default: all]
    #[arg(long, value_name = "IMAGES")]
    count: Option<usize>,
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
    let command = Command::new("evaluate").about("Evaluate weights, this program's or PyTorch's");
    let command = arguments(command, |setting| KEYS.contains(&setting.key));
    Evaluate::augment_args(command).after_help(
        "Examples:\n  fishmask evaluate --model resnet9 --width 16 --weights runs/a/final.safetensors\n  \
         fishmask evaluate --recipe dawn --weights runs/b/final.safetensors --split train --count 1000",
    )
}

/// Evaluates as the arguments say.
pub fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let args = Evaluate::from_arg_matches(matches)?;
    let request = Request::new(matches)?;
    tell(&request.notes);
    request.only(&KEYS)?;
    request.require(&["network.model", "network.width"])?;
    if args.batch_size == 0 {
        return Err(refuse("--batch-size 0".into(), "a step needs at least 1 image").into());
    }
    use_threads(args.threads)?;
    let config = request.resolve(Device::first_gpu)?.config;
    // The weights first: they are quick to refuse, and the data may have to be fetched.
    let evaluation = Evaluation::new(config.network, &args.weights)?;
    let evaluation = evaluation.device(config.device.name).batch_size(args.batch_size);
    let mut shown = (String::new(), "");
    let result = evaluation.keep_logits(args.logits.is_some()).run(|| {
        let dataset = args.data.load(config.data.set)?;
        let set = dataset.set().name;
        let (split, name) = match args.split {
            Split::Test => (dataset.test, "test"),
            Split::Train => (dataset.train, "training"),
        };
        let count = args.count.unwrap_or(split.len());
        if !(1..=split.len()).contains(&count) {
            let need = format!("must be from 1 to the {} {name} images of {set}", split.len());
            return Err(refuse(format!("--count {count}"), need).into());
        }
        shown = (set.to_string(), name);
        Ok(split.truncated(count))
    })?;
    if let Some(path) = &args.logits {
        checkpoint::save_tensor(path, "logits", vec![result.images, result.classes], &result.logits)?;
    }
    let ((set, split), n) = (shown, result.images);
    let (loss, accuracy) = (result.loss, result.accuracy);
    writeln!(stdout(), "{set}, {n} {split} images: loss {loss:.4}, accuracy {accuracy:.2}%")?;
    Ok(ExitCode::SUCCESS)
}

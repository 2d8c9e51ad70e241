//! The model that a subcommand reads: a file of weights, or a run's.

use std::path::{Path, PathBuf};

use fishmask::Saved;
use fishmask::device::Device;
use fishmask::records::check_output;
use fishmask::settings::{Request, Resolved};

use crate::finish::tell;

/// What a run's config.json says for good.
const OF_RUN: [&str; 4] = ["network.model", "network.width", "data.set", "data.images"];

/// Where a model's weights are.
#[derive(clap::Args)]
pub struct SourceFlags {
    /// A run's folder, whose config.json says model, width and data: its final weights, or else its newest
    /// checkpoint's
    #[arg(value_name = "RUN")]
    run: Option<PathBuf>,
    /// The run's checkpoint after so many epochs
    #[arg(long, value_name = "N", requires = "run", conflicts_with = "weights")]
    epoch: Option<u32>,
    /// Weights, such as a run's final.safetensors; give --model and --width, or the --recipe, with them
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
}

impl SourceFlags {
    /// Reads the model, and resolves what is asked for upon the run's settings or, of a file of weights, upon
    /// the recipe's and those of `file`.
    pub fn read(&self, request: Request, file: &[(&str, &str)]) -> anyhow::Result<(Resolved, Saved)> {
        let (resolved, saved) = match (&self.run, &self.weights) {
            (Some(run), _) => {
                let (config, saved) = Saved::run(run, self.epoch)?;
                (request.upon(&config, &OF_RUN, Device::first_gpu)?, saved)
            }
            (None, Some(weights)) => {
                request.require(&["network.model", "network.width"])?;
                let resolved = request.with(file)?.resolve(Device::first_gpu)?;
                let saved = Saved::file(resolved.config.network, weights)?;
                (resolved, saved)
            }
            (None, None) => anyhow::bail!("give a RUN, or its --weights"),
        };
        tell(&saved.notes);
        Ok((resolved, saved))
    }

    /// Whether a file may be written where a model is read.
    pub fn check_output(&self, saved: &Saved, output: Option<&Path>) -> anyhow::Result<()> {
        let run = self.run.as_ref().map(|run| run.join("checkpoints"));
        let read: Vec<&Path> = [Some(&*saved.path), run.as_deref()].into_iter().flatten().collect();
        Ok(output.map_or(Ok(()), |output| check_output(output, &read))?)
    }
}

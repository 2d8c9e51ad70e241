//! What a run keeps on disk: checkpoints, masks, workers' states, the final weights.

use std::path::{Path, PathBuf};

use super::folder::{CHECKPOINTS, FINAL};
use crate::checkpoint::chain::{self, Part, Values, WorkersState, Writer};
use crate::checkpoint::full::{self, State};
use crate::checkpoint::{Hash, Progress, weights};
use crate::device::Precision;
use crate::graph::{Layout, ModelId};
use crate::mask::Mask;
use crate::optim::UpdateRule;
use crate::settings::Config;
use crate::train::{Error, Keep, Snapshot, WorkerSource};

/// Keeps a run in its folder or, without one, nothing.
pub struct Keeping {
    folder: PathBuf,
    model: ModelId,
    keeper: Keeper,
}

/// How checkpoints are kept.
enum Keeper {
    /// Under the strict rule: the values of each mask, which build on the values before it. Full checkpoints
    /// until then.
    Chain(Box<Writer>),
    /// Else: all weights, and the name of the mask in force.
    Full {
        /// The mask's file.
        mask: Option<Hash>,
    },
    /// In a process that is not the root, and without a folder.
    Nothing,
}

impl Keeping {
    /// Keeps a run in `folder`, which exists, or nothing.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn new(config: &Config, layout: &Layout, folder: Option<&Path>) -> Result<Keeping, Error> {
        let model = config.network;
        let keeper = match folder {
            None => Keeper::Nothing,
            Some(folder) if config.is_masked() && config.mask.rule == UpdateRule::Strict => {
                let f16 = config.checkpoint.values == Precision::F16;
                let values = if f16 { Values::F16 } else { Values::F32 };
                Keeper::Chain(Box::new(Writer::open(&folder.join(CHECKPOINTS), model, layout, values)?))
            }
            Some(_) => Keeper::Full { mask: None },
        };
        Ok(Keeping { folder: folder.unwrap_or(Path::new("")).to_path_buf(), model, keeper })
    }
}

impl Keep for Keeping {
    fn folder(&self) -> Option<&Path> {
        (!matches!(self.keeper, Keeper::Nothing)).then_some(&*self.folder)
    }

    fn base(&mut self, progress: &Progress, model: &mut dyn Snapshot) -> Result<Option<PathBuf>, Error> {
        let Keeper::Chain(chain) = &mut self.keeper else { return Ok(None) };
        let running = model.running()?;
        chain.base(progress, &running, |parameter| model.parameter(parameter)).map(Some)
    }

    fn mask(&mut self, mask: &Mask, model: &mut dyn Snapshot) -> Result<(), Error> {
        match &mut self.keeper {
            Keeper::Chain(chain) => {
                let running = model.running()?;
                chain.mask(mask.indices(), &running, |parameter| model.parameter(parameter))?;
            }
            Keeper::Full { mask: file } => {
                let folder = self.folder.join(CHECKPOINTS);
                *file = Some(chain::save_mask(&folder, self.model, model.layout(), mask.indices())?);
            }
            Keeper::Nothing => {}
        }
        Ok(())
    }

    fn checkpoint(
        &mut self,
        progress: &Progress,
        model: &mut dyn Snapshot,
    ) -> Result<Option<PathBuf>, Error> {
        let folder = self.folder.join(CHECKPOINTS);
        let mask = match &mut self.keeper {
            Keeper::Chain(chain) if chain.is_masked() => {
                let (velocity, running) = (model.velocity()?, model.running()?);
                let source = |parameter: &_| model.parameter(parameter);
                let path = chain.delta(progress, velocity.as_deref(), &running, source)?;
                // Writing a full checkpoint removes the states of old ones itself.
                chain::prune_workers(&folder, progress.at)?;
                return Ok(Some(path));
            }
            Keeper::Chain(_) => None,
            Keeper::Full { mask } => *mask,
            Keeper::Nothing => return Ok(None),
        };
        let (weights, velocity, running) = (model.weights()?, model.velocity()?, model.running()?);
        let state = State { progress: *progress, weights, velocity, running, mask };
        Ok(Some(full::save(&folder, self.model, model.layout(), &state)?))
    }

    fn workers(&mut self, state: &WorkersState, source: &mut WorkerSource) -> Result<(), Error> {
        if let Keeper::Nothing = self.keeper {
            // The root is waiting for the tensors of this process's workers.
            let all = (0..state.workers.len()).flat_map(|rank| Part::ALL.map(|part| (rank, part)));
            return all.into_iter().try_for_each(|(rank, part)| source(rank, part, &mut |_| {}));
        }
        chain::save_workers(&self.folder.join(CHECKPOINTS), self.model, state, source)?;
        Ok(())
    }

    fn end(&mut self, model: &mut dyn Snapshot) -> Result<(), Error> {
        if let Keeper::Nothing = self.keeper {
            return Ok(());
        }
        let (weights, running) = (model.weights()?, model.running()?);
        Ok(weights::save(&self.folder.join(FINAL), model.layout(), &weights, &running)?)
    }
}

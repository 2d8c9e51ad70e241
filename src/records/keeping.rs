//! What a run keeps on disk: checkpoints, masks, workers' states, the final weights.

use std::path::{Path, PathBuf};

use super::RunFolder;
use super::folder::{BEST, CHECKPOINTS, FINAL};
use crate::checkpoint::chain::{self, Part, Values, WorkersState, Writer};
use crate::checkpoint::full::{self, State};
use crate::checkpoint::{self, Hash, Origin, Progress, weights};
use crate::device::Precision;
use crate::graph::{Layout, ModelId};
use crate::mask::Mask;
use crate::optim::UpdateRule;
use crate::settings::Config;
use crate::train::{EpochReport, Error, Keep, Snapshot, WorkerSource};

/// Keeps a run in its folder or, without one, nothing.
pub struct Keeping {
    folder: PathBuf,
    model: ModelId,
    keeper: Keeper,
    /// What the run's checkpoints come from.
    origin: Option<Origin>,
    /// The run's folder, and the settings to be written there when training begins.
    run: Option<(RunFolder, Config)>,
    /// The mask that the run was given, to be stored when training begins.
    given: Option<Mask>,
    /// The best test accuracy so far, where its weights are kept.
    best: Option<f64>,
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
        let best = (config.checkpoint.best && folder.is_some()).then_some(f64::NEG_INFINITY);
        let folder = folder.unwrap_or(Path::new("")).to_path_buf();
        Ok(Keeping { folder, model, keeper, origin: None, run: None, given: None, best })
    }

    /// Keeps a run, of these settings, in its folder. Each checkpoint says what it comes from, and the best
    /// test accuracy so far is that of the folder's metrics.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn of_run(run: RunFolder, config: Config, layout: &Layout, origin: Origin) -> Result<Keeping, Error> {
        let mut keeping = Keeping::new(&config, layout, Some(run.path()))?;
        keeping.origin = Some(origin);
        keeping.best = keeping.best.map(|worst| run.accuracies().into_values().fold(worst, f64::max));
        keeping.run = Some((run, config));
        Ok(keeping)
    }

    /// Stores the mask that the run was given, so that it goes on without the mask's file.
    pub fn with_mask(mut self, mask: Option<Mask>) -> Self {
        self.given = mask;
        self
    }

    /// Writes that the session has ended.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn close(mut self) -> Result<(), checkpoint::Error> {
        self.run.take().map_or(Ok(()), |(run, mut config)| run.end(&mut config))
    }

    /// Writes the weights alone.
    fn save(&self, name: &str, model: &mut dyn Snapshot) -> Result<(), Error> {
        let (weights, running) = (model.weights()?, model.running()?);
        Ok(weights::save(&self.folder.join(name), self.model, model.layout(), &weights, &running)?)
    }

    /// Where a run is, with what it comes from.
    fn with_origin(&self, progress: &Progress) -> Progress {
        Progress { origin: self.origin, ..*progress }
    }
}

impl Keep for Keeping {
    fn folder(&self) -> Option<&Path> {
        (!matches!(self.keeper, Keeper::Nothing)).then_some(&*self.folder)
    }

    fn begin(&mut self) -> Result<(), Error> {
        let Some((run, config)) = &mut self.run else { return Ok(()) };
        run.begin(config)?;
        if let Some(mask) = &self.given {
            let layout = config.network.graph()?.layout;
            chain::save_mask(&run.checkpoints(), self.model, &layout, mask.indices())?;
        }
        Ok(())
    }

    fn epoch(&mut self, report: &EpochReport, model: &mut dyn Snapshot) -> Result<(), Error> {
        if self.best.is_none_or(|best| report.test_accuracy <= best) {
            return Ok(());
        }
        self.best = Some(report.test_accuracy);
        self.save(BEST, model)
    }

    fn base(&mut self, progress: &Progress, model: &mut dyn Snapshot) -> Result<Option<PathBuf>, Error> {
        let progress = &self.with_origin(progress);
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
        let progress = &self.with_origin(progress);
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
        self.save(FINAL, model)
    }
}

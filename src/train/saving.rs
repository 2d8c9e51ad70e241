//! What a run keeps on disk: checkpoints, masks, the final weights. The root writes; other processes send it what it needs.

use std::path::{Path, PathBuf};

use super::merging::Merging;
use super::worker::Worker;
use super::{Error, Rule};
use crate::checkpoint::chain::{self, Restored, Values, Velocity, Writer};
use crate::checkpoint::full::{self, State};
use crate::checkpoint::{Hash, Moment, Progress, weights};
use crate::device::Precision;
use crate::graph::{Layout, ModelId, Network};
use crate::mask::Mask;
use crate::optim::TrainingBackend;
use crate::settings::Config;

/// A run's folder, and what has been written to it.
pub(super) struct Saving {
    folder: PathBuf,
    pub(super) id: ModelId,
    /// Whether this process writes.
    pub(super) root: bool,
    /// Whether masks' values are kept, rather than all weights.
    pub(super) strict: bool,
    /// Whether checkpoints hold what resuming takes.
    resumable: bool,
    /// Under the strict rule, what keeps the values of masks.
    chain: Option<Writer>,
    /// Else the mask that full checkpoints name.
    mask_file: Option<Hash>,
    /// The place of the last checkpoint.
    pub at: Moment,
}

impl Saving {
    /// For a run's `folder`, which the root has; `at` is the checkpoint that is resumed.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn new(
        config: &Config,
        layout: &Layout,
        folder: &Path,
        at: Option<Moment>,
        root: bool,
    ) -> Result<Saving, Error> {
        let id = config.network;
        let strict = config.is_masked() && config.mask.rule == Rule::Strict;
        let values = if config.checkpoint.values == Precision::F16 { Values::F16 } else { Values::F32 };
        let open = || Writer::open(&folder.join("checkpoints"), id, layout, values);
        Ok(Saving {
            folder: folder.to_path_buf(),
            id,
            root,
            strict,
            resumable: config.is_resumable(),
            chain: (strict && root).then(open).transpose()?,
            mask_file: None,
            at: at.unwrap_or_default(),
        })
    }

    /// Whether a mask's values are kept by themselves, which build on the values before it.
    pub fn keeps_values(&self) -> bool {
        self.strict
    }

    pub(super) fn checkpoints(&self) -> PathBuf {
        self.folder.join("checkpoints")
    }

    /// Under a strict mask a delta; a full checkpoint else. Of several workers, first, what each of them has. Returns the
    /// root's file.
    ///
    /// # Errors
    /// When it cannot be written, or the device or another process fails.
    pub fn checkpoint<B: TrainingBackend>(
        &mut self,
        network: &mut Network<B>,
        workers: &mut [Worker<B>],
        merging: Option<&mut Merging<B>>,
        mask: Option<&Mask>,
        mut progress: Progress,
    ) -> Result<Option<PathBuf>, Error> {
        self.at = progress.at;
        let running = network.read_running()?;
        let mut velocity = None;
        match merging {
            None => {
                let alone = workers.iter_mut().next().filter(|_| self.resumable);
                velocity = alone.map(|worker| worker.update.velocity(network)).transpose()?;
                progress.totals = workers.iter().map(|worker| worker.totals).next().unwrap_or_default();
            }
            Some(merging) if self.resumable => {
                merging.uncounted(|merging| {
                    self.save_workers(network, workers, merging, mask, &progress, &running)
                })?;
            }
            Some(_) => {}
        }
        if !self.root {
            return Ok(None);
        }
        Ok(Some(match &mut self.chain {
            Some(chain) if mask.is_some() => {
                let source = |p: &_| network.parameter(p).map_err(Error::from);
                let path = chain.delta(&progress, velocity.as_deref(), &running, source)?;
                // Full checkpoints see to theirs.
                chain::prune_workers(&self.folder.join("checkpoints"), progress.at)?;
                path
            }
            _ => {
                let (weights, mask) = (network.read_weights()?, self.mask_file);
                let state = State { progress, weights, velocity, running, mask };
                full::save(&self.checkpoints(), self.id, &network.graph().layout, &state)?
            }
        }))
    }

    /// Writes all weights, for deltas to build on. Returns the root's file.
    ///
    /// # Errors
    /// When it cannot be written, or the device fails.
    pub fn write_base<B: TrainingBackend>(
        &mut self,
        network: &Network<B>,
        progress: Progress,
    ) -> Result<Option<PathBuf>, Error> {
        let Some(chain) = &mut self.chain else { return Ok(None) };
        let running = network.read_running()?;
        Ok(Some(chain.base(&progress, &running, |p| network.parameter(p).map_err(Error::from))?))
    }

    /// Takes a mask that comes into force, or does so again, into the root's checkpoints.
    ///
    /// # Errors
    /// When it cannot be written, or the device fails.
    pub fn keep_mask<B: TrainingBackend>(
        &mut self,
        network: &Network<B>,
        mask: Option<&Mask>,
    ) -> Result<(), Error> {
        let Some(mask) = mask.filter(|_| self.root) else { return Ok(()) };
        let folder = self.checkpoints();
        match &mut self.chain {
            Some(chain) => {
                let running = network.read_running()?;
                chain.mask(mask.indices(), &running, |p| network.parameter(p).map_err(Error::from))?;
            }
            None => {
                let layout = &network.graph().layout;
                self.mask_file = Some(chain::save_mask(&folder, self.id, layout, mask.indices())?);
            }
        }
        Ok(())
    }

    /// Writes `final.safetensors`.
    ///
    /// # Errors
    /// When it cannot be written, or the device fails.
    pub fn write_final<B: TrainingBackend>(&self, network: &Network<B>) -> Result<(), Error> {
        let (weights, running) = (network.read_weights()?, network.read_running()?);
        let layout = &network.graph().layout;
        Ok(weights::save(&self.folder.join("final.safetensors"), layout, &weights, &running)?)
    }

    /// Gives the workers what the checkpoint holds that the network and masks have been made from.
    ///
    /// # Errors
    /// When it holds no velocity, cannot be read, or the device or another process fails.
    pub fn resume<B: TrainingBackend>(
        &mut self,
        network: &mut Network<B>,
        workers: &mut [Worker<B>],
        merging: Option<&mut Merging<B>>,
        mask: Option<&Mask>,
        restored: Restored,
    ) -> Result<(), Error> {
        match merging {
            Some(_) if !self.resumable => return Err(Error::NoVelocity),
            Some(merging) => merging
                .uncounted(|merging| self.restore_workers(network, workers, merging, mask, &restored))?,
            None => {
                let (Velocity::Kept(velocity) | Velocity::Dense(velocity)) = restored.velocity else {
                    return Err(Error::NoVelocity);
                };
                for worker in workers {
                    worker.totals = restored.progress.totals;
                    worker.update.resume(network, &velocity)?;
                }
            }
        }
        self.keep_mask(network, mask)
    }
}

//! What training asks to have kept on disk, and of whom.

use std::path::{Path, PathBuf};

use super::{EpochReport, Error};
use crate::checkpoint::Progress;
use crate::checkpoint::chain::{Part, WorkersState};
use crate::graph::Layout;
use crate::graph::layout::Parameter;
use crate::mask::Mask;

/// Keeps a run: training calls it at the moments when something must be written.
///
/// Where several processes train, each has a keeper and all are called alike, but only the root's writes.
pub trait Keep {
    /// The folder of the run, if it has one.
    fn folder(&self) -> Option<&Path>;

    /// Makes what is kept a run's: everything is ready to train.
    ///
    /// # Errors
    /// When a file cannot be written.
    fn begin(&mut self) -> Result<(), Error>;

    /// Takes notice of an epoch's report, whose model it may keep.
    ///
    /// # Errors
    /// As [`Keep::base`].
    fn epoch(&mut self, report: &EpochReport, model: &mut dyn Snapshot) -> Result<(), Error>;

    /// Writes all weights before the first mask, for the values of masks to build on. Returns the file, if
    /// one was written.
    ///
    /// # Errors
    /// When the file cannot be written, or the device cannot be read.
    fn base(&mut self, progress: &Progress, model: &mut dyn Snapshot) -> Result<Option<PathBuf>, Error>;

    /// Writes a mask that comes into force, or that a resumed run goes on with.
    ///
    /// # Errors
    /// As [`Keep::base`].
    fn mask(&mut self, mask: &Mask, model: &mut dyn Snapshot) -> Result<(), Error>;

    /// Writes a checkpoint of the model. Returns the file, if one was written.
    ///
    /// # Errors
    /// As [`Keep::base`].
    fn checkpoint(&mut self, progress: &Progress, model: &mut dyn Snapshot)
    -> Result<Option<PathBuf>, Error>;

    /// Writes the states of several workers, which a checkpoint of their merged model follows. `source` hands
    /// over one tensor of one worker, in pieces; it must be called for every worker, and for each [`Part`] in
    /// order, in every process, because the processes send their workers' tensors to the root.
    ///
    /// # Errors
    /// As [`Keep::base`], and when another process does not answer.
    fn workers(&mut self, state: &WorkersState, source: &mut WorkerSource) -> Result<(), Error>;

    /// Writes the final weights.
    ///
    /// # Errors
    /// As [`Keep::base`].
    fn end(&mut self, model: &mut dyn Snapshot) -> Result<(), Error>;
}

/// Hands over one tensor of the worker of a rank: `source(rank, part, take)` calls `take` with its values,
/// piece by piece.
pub type WorkerSource<'a> = dyn FnMut(usize, Part, &mut dyn FnMut(&[f32])) -> Result<(), Error> + 'a;

/// The model at one moment. Values are read from the device when they are asked for.
pub trait Snapshot {
    /// The layout of its flat vector.
    fn layout(&self) -> &Layout;

    /// One parameter's weights, in memory order.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn parameter(&mut self, parameter: &Parameter) -> Result<Vec<f32>, Error>;

    /// All weights, in memory order.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn weights(&mut self) -> Result<Vec<f32>, Error>;

    /// All running statistics.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn running(&mut self) -> Result<Vec<f32>, Error>;

    /// The velocity of a single worker: one value a weight, in memory order, or, under the strict rule, one a
    /// kept weight in the mask's order. None where checkpoints leave it out, and of several workers, which
    /// have their own.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn velocity(&mut self) -> Result<Option<Vec<f32>>, Error>;
}

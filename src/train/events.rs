//! What a run tells its listeners while it trains.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Cause, Error};
use crate::checkpoint::Moment;
use crate::data::Set;
use crate::mask::Kind;
use crate::settings::Config;

/// An epoch's row in the table and in `metrics.jsonl`. Losses are means over images, accuracies percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// Epochs done.
    pub epoch: u32,
    /// The learning rate at the epoch's last step, for the mean loss.
    pub lr: f64,
    /// Mean loss over the epoch's steps, in training mode.
    pub train_loss: f64,
    /// Accuracy over the epoch's steps, in training mode.
    pub train_accuracy: f64,
    /// Mean loss over every test image, with running statistics.
    pub test_loss: f64,
    /// Accuracy over every test image, with running statistics.
    pub test_accuracy: f64,
    /// Wall time of this epoch's training, drawing and augmenting its images included.
    pub train_seconds: f64,
    /// Wall time of this epoch's evaluation.
    pub test_seconds: f64,
    /// Wall time of preprocessing, training and exchanging since the run began, evaluation left out
    /// (DAWNBench's count).
    pub total_seconds: f64,
    /// Training images divided by `train_seconds`.
    pub images_per_second: f64,
    /// Weights that were trained, by all workers together.
    pub kept: usize,
    /// What several workers exchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Exchange>,
}

/// What workers exchanged in an epoch. Bytes and seconds are those of one worker, that of the lowest rank.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// Merges in the epoch.
    pub merges: u32,
    /// Bytes sent: merges, agreements, selections of masks and reports, but neither evaluation nor saving.
    pub sent: u64,
    /// Bytes received, counted like `sent`.
    pub received: u64,
    /// `sent` in percent of what merging all weights as often would have sent; 0 without a merge.
    pub share_of_dense: f64,
    /// Wall time spent waiting for the slowest worker before merges.
    pub waiting_seconds: f64,
    /// Wall time spent exchanging.
    pub exchanging_seconds: f64,
}

/// A merge: workers have put their changes together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MergeReport {
    /// The epoch, from 1.
    pub epoch: u32,
    /// Steps that every worker has done in it.
    pub step: u32,
    /// Wall time of the merge.
    pub seconds: f64,
}

/// A mask that has been selected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskReport {
    /// The first epoch that is trained with it, from 1.
    pub epoch: u32,
    /// How it was chosen.
    pub kind: Kind,
    /// Samples that scored the weights.
    pub samples: usize,
    /// Weights that the mask keeps.
    pub kept: usize,
    /// Weights of the model.
    pub weights: usize,
    /// Kept weights that the mask before kept as well, if there was one.
    pub stayed: Option<usize>,
    /// Wall time of the selection.
    pub seconds: f64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done; the report is the last one's.
    Finished(EpochReport),
    /// A signal or a limit stopped the run. Its checkpoint is written, unless checkpoints leave out what
    /// resuming needs.
    Interrupted(Cause),
    /// All epochs were done before: there was nothing left to train.
    NothingLeft {
        /// Epochs of the run.
        epochs: u32,
    },
}

/// A run that is about to train.
#[derive(Clone, Copy, Debug)]
pub struct Started<'a> {
    /// The run's settings.
    pub config: &'a Config,
    /// The device in words.
    pub device: &'a str,
    /// The data set.
    pub data: &'static Set,
    /// Training images and test images.
    pub images: [usize; 2],
    /// Steps of each worker in an epoch.
    pub steps: u32,
    /// The workers' names by rank; empty for a single worker.
    pub workers: &'a [String],
    /// Weights of the model.
    pub parameters: usize,
    /// The moment of the checkpoint that is resumed.
    pub resumed: Option<Moment>,
    /// The run's folder, if it keeps one.
    pub folder: Option<&'a Path>,
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Training is about to begin.
    Started(&'a Started<'a>),
    /// A training step is done.
    Step {
        /// The epoch that the step belongs to, from 1.
        epoch: u32,
        /// Steps done in this epoch, by all workers of this process together.
        step: u32,
        /// Steps in an epoch, of all workers of this process together.
        steps: u32,
        /// Images in a step.
        images: usize,
    },
    /// Samples are scored, to select a mask.
    Scored {
        /// Samples scored so far, by the workers of this process.
        done: usize,
        /// Samples that they score in all.
        samples: usize,
    },
    /// Test images are evaluated.
    Tested {
        /// Images evaluated so far, by the workers of this process.
        done: usize,
        /// Images that they evaluate in all.
        images: usize,
    },
    /// Workers have merged.
    Merge(&'a MergeReport),
    /// A mask is in force.
    Mask(&'a MaskReport),
    /// An epoch is trained and evaluated, and its checkpoint, if there is to be one, written.
    Epoch(&'a EpochReport),
    /// A checkpoint is safely on disk.
    Checkpoint(&'a Path),
    /// The run is over; nothing follows.
    Ended {
        /// How it ended.
        outcome: &'a Outcome,
        /// The run's folder, if it keeps one.
        folder: Option<&'a Path>,
    },
}

/// Hears a run's events.
pub trait Listener {
    /// Takes notice of an event.
    ///
    /// # Errors
    /// When what it records or shows cannot be written.
    fn hear(&mut self, event: &Event) -> Result<(), Error>;
}

impl<L: Listener + ?Sized> Listener for &mut L {
    fn hear(&mut self, event: &Event) -> Result<(), Error> {
        (**self).hear(event)
    }
}

impl<L: Listener + ?Sized> Listener for Box<L> {
    fn hear(&mut self, event: &Event) -> Result<(), Error> {
        (**self).hear(event)
    }
}

/// All that listen to a run in this process. Only the root's are told.
pub(super) struct Audience<'a> {
    /// Record what happens.
    pub recorders: Vec<Box<dyn Listener + 'a>>,
    /// Show what happens.
    pub listeners: Vec<Box<dyn Listener + 'a>>,
    pub root: bool,
}

impl Audience<'_> {
    /// Tells the root's recorders of an event, in order.
    pub fn record(&mut self, event: &Event) -> Result<(), Error> {
        let told = self.recorders.iter_mut().filter(|_| self.root);
        told.into_iter().try_for_each(|listener| listener.hear(event))
    }

    /// Tells those of the root's listeners that show it, in order.
    pub fn show(&mut self, event: &Event) -> Result<(), Error> {
        let told = self.listeners.iter_mut().filter(|_| self.root);
        told.into_iter().try_for_each(|listener| listener.hear(event))
    }

    /// Tells all of the root's listeners.
    pub fn tell(&mut self, event: &Event) -> Result<(), Error> {
        self.record(event)?;
        self.show(event)
    }
}

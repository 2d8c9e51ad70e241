//! What a run says while it trains. The table, the progress bar and the log files listen.

use std::path::Path;

use super::Config;
use crate::mask::Kind;

/// One epoch's row in the table and in `metrics.jsonl`. Losses are means over images, accuracies percent.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EpochReport {
    /// Epochs done.
    pub epoch: u32,
    /// The schedule's value at the epoch's last step (for the mean loss).
    pub lr: f64,
    /// Mean over the epoch's steps, in training mode.
    pub train_loss: f64,
    /// Likewise.
    pub train_accuracy: f64,
    /// Over every test image, with running statistics.
    pub test_loss: f64,
    /// Likewise.
    pub test_accuracy: f64,
    /// Wall time of this epoch's training, drawing and augmenting its images included.
    pub train_seconds: f64,
    /// Wall time of this epoch's evaluation.
    pub test_seconds: f64,
    /// Wall time of preprocessing and training since the run began, evaluation out (DAWNBench's count).
    pub total_seconds: f64,
    /// Training images a second of `train_seconds`.
    pub images_per_second: f64,
    /// Weights that were trained.
    pub kept: usize,
}

/// A mask that has been selected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskReport {
    /// The epoch that it is the first to serve, from 1.
    pub epoch: u32,
    /// How it was chosen.
    pub kind: Kind,
    /// Samples that scored the weights.
    pub samples: usize,
    /// Weights that are kept.
    pub kept: usize,
    /// Of so many.
    pub weights: usize,
    /// Those of them that the mask before kept as well, if there was one.
    pub stayed: Option<usize>,
    /// Wall time of the selection; the epoch's training time counts it.
    pub seconds: f64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done; the last one's report.
    Finished(EpochReport),
    /// A signal stopped it after a step; its checkpoint is written. The signal's number.
    Interrupted(i32),
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Training is about to begin.
    Started {
        /// What is run.
        config: &'a Config,
        /// The device in words.
        device: &'a str,
        /// The data set's name.
        data: &'a str,
        /// Training images and test images.
        images: [usize; 2],
        /// Parameters of the model.
        parameters: usize,
        /// Epochs and steps already done, when a run is resumed.
        resumed: Option<(u32, u32)>,
        /// The run's folder.
        folder: &'a Path,
    },
    /// A training step is done.
    Step {
        /// The epoch it belongs to, from 1.
        epoch: u32,
        /// Steps done in this epoch.
        step: u32,
        /// Steps in an epoch.
        steps: u32,
        /// Images in a step.
        batch: usize,
    },
    /// A mask is in force.
    Mask(&'a MaskReport),
    /// An epoch is trained and evaluated.
    Epoch(&'a EpochReport),
    /// A checkpoint is safely on disk.
    Checkpoint(&'a Path),
    /// The run is over; nothing follows.
    Ended {
        /// How.
        outcome: &'a Outcome,
        /// The run's folder.
        folder: &'a Path,
    },
}

/// Hears a run's events.
pub trait Listener {
    /// Takes notice of an event.
    ///
    /// # Errors
    /// When what it keeps cannot be written; the run then stops.
    fn hear(&mut self, event: &Event) -> Result<(), super::Error>;
}

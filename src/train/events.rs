//! What a run says while it trains. The table, the progress bar and the log files listen.

use std::path::Path;

use crate::checkpoint::Moment;
use crate::mask::Kind;
use crate::settings::Config;

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
    /// Wall time of preprocessing, training and exchanging since the run began, evaluation out (DAWNBench's count).
    pub total_seconds: f64,
    /// Training images a second of `train_seconds`.
    pub images_per_second: f64,
    /// Weights that were trained, by all workers together.
    pub kept: usize,
    /// What several workers exchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Exchange>,
}

/// What workers exchanged in an epoch. Bytes and seconds are those of one worker, that of the lowest rank.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Exchange {
    /// Merges.
    pub merges: u32,
    /// Bytes sent, those of agreeing and of selecting masks included, those of saving not.
    pub sent: u64,
    /// Bytes received, likewise.
    pub received: u64,
    /// `sent` in percent of what merging all weights as often would have sent; 0 without a merge.
    pub share_of_dense: f64,
    /// Wall time spent waiting for the slowest worker before merges.
    pub waiting_seconds: f64,
    /// Wall time spent exchanging.
    pub exchanging_seconds: f64,
}

/// Workers have put their changes together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MergeReport {
    /// The epoch, from 1.
    pub epoch: u32,
    /// Steps that every worker has done in it.
    pub step: u32,
    /// Wall time.
    pub seconds: f64,
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
    /// Wall time of the selection.
    pub seconds: f64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done; the last one's report.
    Finished(EpochReport),
    /// A signal stopped it; its checkpoint is written, unless they do not hold what resuming takes. The signal's number.
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
        /// Steps of each worker in an epoch.
        steps: u32,
        /// The workers' names by rank; none for a single one.
        workers: &'a [String],
        /// Parameters of the model.
        parameters: usize,
        /// Where a resumed run goes on.
        resumed: Option<Moment>,
        /// The run's folder.
        folder: &'a Path,
    },
    /// A training step is done.
    Step {
        /// The epoch it belongs to, from 1.
        epoch: u32,
        /// Steps done in this epoch, by all workers of this process together.
        step: u32,
        /// Steps in an epoch, likewise.
        steps: u32,
        /// Images in a step.
        batch: usize,
    },
    /// Workers have merged.
    Merge(&'a MergeReport),
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

//! What a run is asked to do, after presets and checks.

use serde::{Deserialize, Serialize};

use crate::graph::Model;

/// A validated configuration. `config.json` holds it; resuming compares it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The preset its defaults came from.
    pub preset: String,
    /// The network.
    pub model: Model,
    /// Its stem channels.
    pub width: usize,
    /// Passes over the training images.
    pub epochs: u32,
    /// Images in a step.
    pub batch_size: usize,
    /// The schedule's peak, for the mean loss.
    pub lr: f64,
    /// Epoch at which the peak is reached.
    pub peak_epoch: f64,
    /// Share of the velocity that stays.
    pub momentum: f64,
    /// Decay for the mean loss.
    pub weight_decay: f64,
    /// Share of the target spread over all classes.
    pub label_smoothing: f64,
    /// The first so many training images; all when none.
    pub train_images: Option<usize>,
    /// Name of the data set.
    pub data: String,
    /// What trains.
    pub device: String,
    /// Of every random choice.
    pub seed: u64,
    /// Epochs between checkpoints.
    pub checkpoint_every: u32,
}

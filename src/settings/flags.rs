//! The flags that say what is trained and how.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use super::{Device, MaskFlags, Precision, Preset, WorkerFlags};
use crate::graph::Model;

/// The flags that say what is trained and how. Those not given take the preset's value.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct Flags {
    /// Recipe for the flags that are not given [default: auto, which is dawn on a GPU and quick on a CPU]
    #[arg(long, value_enum)]
    pub preset: Option<Preset>,
    /// Network [default: resnet9; small-checkpoints resnet34]
    #[arg(long, value_enum)]
    pub model: Option<Model>,
    /// Channels of the network's stem; all others scale with it [default: dawn 64, quick 16]
    #[arg(long, value_name = "CHANNELS")]
    pub width: Option<usize>,
    /// Passes over the training images [default: dawn 24, workers 50, quick 8]
    #[arg(long, value_name = "N")]
    pub epochs: Option<u32>,
    /// Images in a step [default: dawn 512, quick 128]
    #[arg(long, value_name = "IMAGES")]
    pub batch_size: Option<usize>,
    /// The schedule's peak, for the mean loss [default: dawn 0.4, quick 0.2]
    #[arg(long, allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// Epoch of the peak [default: dawn 5, quick 20% of the epochs]
    #[arg(long, value_name = "EPOCH", allow_negative_numbers = true)]
    pub peak_epoch: Option<f64>,
    /// Share of the velocity that stays at each step [default: 0.9]
    #[arg(long, allow_negative_numbers = true)]
    pub momentum: Option<f64>,
    /// Decay, for the mean loss [default: 0.0005]
    #[arg(long, allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,
    /// Share of the target spread over all classes [default: 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub label_smoothing: Option<f64>,
    /// Train on the first so many images [default: dawn all, quick 10000]
    #[arg(long, value_name = "N")]
    pub train_images: Option<usize>,
    /// Which weights are trained.
    #[command(flatten)]
    pub mask: MaskFlags,
    /// How many train it.
    #[command(flatten)]
    pub workers: WorkerFlags,
    /// Data set [default: cifar10]
    #[arg(long, value_enum)]
    pub data: Option<DataSource>,
    /// What trains: auto, cpu, cuda, cuda:N or emulated (the GPU's kernels on the CPU: slow) [default: auto, which is
    /// cuda where it can be used, else cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// How activations are stored [default: f16 on cuda and emulated, f32 on cpu]
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
    /// Seed of every random choice [default: 0]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Epochs between checkpoints; 0 writes one only at the end and when stopped [default: 1]
    #[arg(long, value_name = "EPOCHS")]
    pub checkpoint_every: Option<u32>,
}

/// Which data set is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DataSource {
    /// CIFAR-10.
    #[default]
    Cifar10,
    /// Procedural pictures in ten classes.
    Synthetic,
}

impl DataSource {
    /// The data set of this name, which [`crate::data::Dataset::name`] gives.
    pub fn named(name: &str) -> DataSource {
        if name == SYNTHETIC { DataSource::Synthetic } else { DataSource::Cifar10 }
    }
}

impl Display for DataSource {
    /// The data set's name, as tables and files show it.
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            DataSource::Cifar10 => "CIFAR-10",
            DataSource::Synthetic => SYNTHETIC,
        })
    }
}

/// The name of the data set that is not CIFAR-10.
pub const SYNTHETIC: &str = "synthetic";

//! Recipes: values for the flags that are not given.

use super::Device;
use crate::graph::Model;
use crate::mask::Kind;

/// A recipe's name, as `--preset` takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// `dawn` on a GPU, `quick` on a CPU.
    #[default]
    Auto,
    /// cifar10-fast's: 24 epochs of all images at width 64, 94% on CIFAR-10.
    Dawn,
    /// The paper's small checkpoints: resnet34, 100 epochs of all images, a Fisher mask of 2% from 1,024 samples.
    SmallCheckpoints,
    /// The same in minutes on two cores: `quick` with a Fisher mask of 2% from 256 samples.
    SmallCheckpointsQuick,
    /// The paper's distributed training: 2 workers, 50 epochs of all images at width 64, a Fisher mask of 2% from 256
    /// samples after 5 dense epochs, merged every 100 steps.
    Workers,
    /// The same in minutes on two cores: `quick` with 2 workers, a Fisher mask of 2% after 1 dense epoch, merged every 20
    /// steps.
    WorkersQuick,
    /// A few minutes on two cores: 8 epochs of 10,000 images at width 16, 75% on CIFAR-10.
    Quick,
}

impl std::fmt::Display for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Preset::Auto => "auto",
            Preset::Dawn => "dawn",
            Preset::Quick => "quick",
            Preset::SmallCheckpoints => "small-checkpoints",
            Preset::SmallCheckpointsQuick => "small-checkpoints-quick",
            Preset::Workers => "workers",
            Preset::WorkersQuick => "workers-quick",
        })
    }
}

/// What a recipe says of each flag.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Recipe {
    pub model: Model,
    pub width: usize,
    pub epochs: u32,
    pub batch_size: usize,
    pub lr: f64,
    pub train_images: Option<usize>,
    pub mask: Kind,
    pub fisher_samples: usize,
    pub warmup_epochs: u32,
    /// How many, and the steps from one merge to the next.
    pub workers: (usize, u32),
}

impl Preset {
    /// The recipe that is meant on a device, and why, for the header.
    pub fn choose(self, device: Device) -> (Preset, String) {
        match (self, device) {
            (Preset::Auto, Device::Auto | Device::Cpu) => {
                (Preset::Quick, "auto: the device is a CPU, and dawn would take an hour or more".into())
            }
            (Preset::Auto, Device::Emulated) => {
                (Preset::Quick, "auto: the device is emulated, and dawn would take days".into())
            }
            (Preset::Auto, Device::Cuda(_)) => (Preset::Dawn, "auto: the device is a GPU".into()),
            (preset, _) => (preset, "--preset".into()),
        }
    }

    pub(super) fn recipe(self) -> Recipe {
        let dawn = Recipe {
            model: Model::Resnet9,
            width: 64,
            epochs: 24,
            batch_size: 512,
            lr: 0.4,
            train_images: None,
            mask: Kind::Dense,
            fisher_samples: 1024,
            warmup_epochs: 0,
            workers: (1, 100),
        };
        let quick =
            Recipe { width: 16, epochs: 8, batch_size: 128, lr: 0.2, train_images: Some(10_000), ..dawn };
        match self {
            Preset::Dawn => dawn,
            Preset::SmallCheckpoints => {
                Recipe { model: Model::Resnet34, epochs: 100, mask: Kind::Fisher, ..dawn }
            }
            Preset::Auto | Preset::Quick => quick,
            Preset::SmallCheckpointsQuick => Recipe { mask: Kind::Fisher, fisher_samples: 256, ..quick },
            Preset::Workers => Recipe {
                epochs: 50,
                mask: Kind::Fisher,
                fisher_samples: 256,
                warmup_epochs: 5,
                workers: (2, 100),
                ..dawn
            },
            Preset::WorkersQuick => Recipe {
                mask: Kind::Fisher,
                fisher_samples: 256,
                warmup_epochs: 1,
                workers: (2, 20),
                ..quick
            },
        }
    }

    /// The peak's epoch in a run of `epochs`. dawn's is 5 however long the run, as in the longer runs of its authors,
    /// and the same share of runs shorter than its own 24; quick's is at 20%.
    pub(super) fn peak_epoch(self, epochs: u32) -> f64 {
        let epochs = f64::from(epochs);
        match self {
            Preset::Dawn | Preset::SmallCheckpoints | Preset::Workers => (epochs * 5.0 / 24.0).min(5.0),
            Preset::Auto | Preset::Quick | Preset::SmallCheckpointsQuick | Preset::WorkersQuick => {
                epochs * 0.2
            }
        }
    }
}

//! Recipes: values for the flags that are not given.

use super::Device;

/// A recipe's name, as `--preset` takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// `dawn` on a GPU, `quick` on a CPU.
    #[default]
    Auto,
    /// cifar10-fast's: 24 epochs of all images at width 64, 94% on CIFAR-10.
    Dawn,
    /// A few minutes on two cores: 8 epochs of 10,000 images at width 16, 75% on CIFAR-10.
    Quick,
}

impl std::fmt::Display for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Preset::Auto => "auto",
            Preset::Dawn => "dawn",
            Preset::Quick => "quick",
        })
    }
}

/// What a recipe says of each flag.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Recipe {
    pub width: usize,
    pub epochs: u32,
    pub batch_size: usize,
    pub lr: f64,
    pub train_images: Option<usize>,
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
        match self {
            Preset::Dawn => Recipe { width: 64, epochs: 24, batch_size: 512, lr: 0.4, train_images: None },
            Preset::Auto | Preset::Quick => {
                Recipe { width: 16, epochs: 8, batch_size: 128, lr: 0.2, train_images: Some(10_000) }
            }
        }
    }

    /// The peak's epoch in a run of `epochs`. dawn's is 5 however long the run, as in the longer runs of its authors,
    /// and the same share of runs shorter than its own 24; quick's is at 20%.
    pub(super) fn peak_epoch(self, epochs: u32) -> f64 {
        let epochs = f64::from(epochs);
        match self {
            Preset::Dawn => (epochs * 5.0 / 24.0).min(5.0),
            Preset::Auto | Preset::Quick => epochs * 0.2,
        }
    }
}

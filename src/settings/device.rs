//! What trains, and in which precision.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The first GPU, or the CPU where there is none.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, by its number.
    Cuda(usize),
    /// The GPU's kernels on the CPU.
    Emulated,
}

impl Device {
    /// The device that is meant, and why. `gpu` says whether the first GPU can train, or why not; it is asked only when
    /// that matters.
    pub fn choose(self, gpu: impl FnOnce() -> Result<(), String>) -> (Device, String) {
        match self {
            Device::Auto => match gpu() {
                Ok(()) => (Device::Cuda(0), "auto: there is a GPU".into()),
                Err(why) => (Device::Cpu, format!("auto: {why}")),
            },
            device => (device, "--device".into()),
        }
    }

    /// The precision of its activations.
    pub fn precision(self) -> Precision {
        match self {
            Device::Auto | Device::Cpu => Precision::F32,
            Device::Cuda(_) | Device::Emulated => Precision::F16,
        }
    }
}

impl Display for Device {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Device::Emulated => f.write_str("emulated"),
        }
    }
}

impl FromStr for Device {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Device, &'static str> {
        match text {
            "auto" => return Ok(Device::Auto),
            "cpu" => return Ok(Device::Cpu),
            "cuda" => return Ok(Device::Cuda(0)),
            "emulated" => return Ok(Device::Emulated),
            _ => {}
        }
        let ordinal = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        ordinal.map(Device::Cuda).ok_or("there is no such device; use auto, cpu, cuda, cuda:N or emulated")
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(text: String) -> Result<Device, String> {
        text.parse().map_err(|need| format!("device {text}: {need}"))
    }
}

impl From<Device> for String {
    fn from(device: Device) -> String {
        device.to_string()
    }
}

/// How activations are stored. Sums and master weights are f32 in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 11 significant bits.
    F16,
    /// 24.
    F32,
}

impl Display for Precision {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str(match self {
            Precision::F16 => "f16",
            Precision::F32 => "f32",
        })
    }
}

//! Devices: memory, launches, recordings; and the list of them.
//!
//! A device that runs the same kernels is a [`Driver`] of its own folder and a line in this file's enum,
//! [`Device`], in its parser and in [`with_driver`].

mod buffers;
mod cpu;
pub mod cuda;
pub mod driver;
#[cfg(fishmask_emulated)]
#[allow(unsafe_code)]
pub mod emulated;
mod error;
#[allow(unsafe_code)]
pub mod gpu;
pub mod host;
pub mod kernels;
mod watch;

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use buffers::{Buffers, Scratch};
pub use cpu::Cpu;
pub(crate) use cpu::{matmul, scratch, simd};
pub use cuda::{Array, Cuda, Vector};
use driver::Driver;
#[cfg(fishmask_emulated)]
use emulated::Emulated;
pub use error::Error;
use gpu::Gpu;
pub use watch::{Fault, Place};

/// The name of a device.
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

/// Work for whatever driver a device has.
pub trait OnDriver {
    /// What the work returns.
    type Output;
    /// Does the work.
    fn on<D: Driver>(self, driver: D) -> Self::Output;
}

/// Opens the device that is meant, which runs kernels, and does the work on it.
///
/// # Errors
/// When the device cannot be opened, or runs no kernels.
pub fn with_driver<W: OnDriver>(device: Device, work: W) -> Result<W::Output, driver::Error> {
    match device {
        Device::Auto | Device::Cpu => Err(driver::Error::NoKernels { device: device.to_string() }),
        Device::Cuda(ordinal) => Ok(work.on(Gpu::open(ordinal)?)),
        #[cfg(fishmask_emulated)]
        Device::Emulated => Ok(work.on(Emulated::new())),
        #[cfg(not(fishmask_emulated))]
        Device::Emulated => Err(driver::Error::NoEmulated),
    }
}

impl Device {
    /// Returns the device that is meant, and why. `gpu` says whether the first GPU can train, or why not; it
    /// is asked only when that matters.
    pub fn choose(self, gpu: impl FnOnce() -> Result<(), String>) -> (Device, String) {
        match self {
            Device::Auto => match gpu() {
                Ok(()) => (Device::Cuda(0), "auto: there is a GPU".into()),
                Err(why) => (Device::Cpu, format!("auto: {why}")),
            },
            device => (device, "--device".into()),
        }
    }

    /// Says whether the first GPU can be used, or why not.
    ///
    /// # Errors
    /// The reason in words.
    pub fn first_gpu() -> Result<(), String> {
        Gpu::open(0).map(drop).map_err(|error| error.to_string())
    }

    /// Returns the device of a process, when the run's is this one and other processes on the machine take
    /// theirs: of several GPUs, each its own.
    ///
    /// # Errors
    /// When the GPUs cannot be counted.
    pub fn of_process(self, local_rank: usize) -> Result<Device, driver::Error> {
        match self {
            Device::Cuda(first) => Ok(Device::Cuda((first + local_rank) % Gpu::count()?)),
            device => Ok(device),
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

/// How activations are stored. Sums and master weights are f32 in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 11 significant bits.
    F16,
    /// 24 significant bits.
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

//! What a run is asked for: settings, recipes and flags, and the validated configuration they come to.

mod agreement;
pub mod config;
mod device;
mod flags;
mod former;
mod masking;
mod preset;
mod workers;

pub use config::{
    CheckpointSettings, Config, ConfigError, DataSettings, DeviceSettings, MaskSettings, OptimizerSettings,
    Reasons, ScheduleSettings, TrainSettings, WorkerSettings,
};
pub use device::{Device, Precision};
pub use flags::{DataSource, Flags, SYNTHETIC};
pub use former::read_config;
pub use masking::{CheckpointState, FisherTarget, MaskFlags};
pub use preset::Preset;
pub use workers::{WorkerFlags, WorkerMasks};

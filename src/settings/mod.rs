//! What a run is asked for: recipes, `--set` and flags, and the validated configuration that they come to.
//!
//! [`table::settings`] has a row for each setting, and all else here is loops over it.

mod agreement;
mod choices;
mod config;
mod error;
mod former;
mod forms;
mod print;
pub mod recipes;
mod request;
mod rules;
mod session;
mod setting;
mod start;
pub mod table;
mod values;

pub use agreement::Edit;
pub use choices::{CheckpointState, WorkerMasks, counted};
pub use config::{
    CheckpointSettings, Config, DataSettings, DeviceSettings, MaskSettings, OptimizerSettings,
    ScheduleSettings, TrainSettings, WorkerSettings,
};
pub use error::ConfigError;
pub use former::read_config;
pub use print::page;
pub use request::{Reasons, Request, Resolved, arguments};
pub use rules::threads;
pub use session::{Session, now};
pub use setting::{Setting, Takes, Written};
pub use start::StartSettings;
pub use values::{Given, Source, Values};

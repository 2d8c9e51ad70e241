//! What shows and keeps a run's events.

mod bar;
mod logs;
mod table;

pub use bar::Bar;
pub use logs::{DawnLog, Durable, Metrics};
pub use table::Table;

//! What a run leaves and shows: its folder, what is kept in it, the two log files, the table and the progress
//! bar.
//!
//! Listeners hear the events of [`crate::train`], and [`Keeping`] writes what it asks to have kept.

mod bar;
mod error;
mod folder;
mod keeping;
mod logs;
mod meter;
mod output;
mod shown;
mod status;
pub mod summary;
mod table;

pub use bar::Bar;
pub use error::FolderError;
pub use folder::{RunFolder, accuracies};
pub use keeping::Keeping;
pub use logs::{DawnLog, Durable, Metrics};
pub use meter::Meter;
pub use output::check_output;
pub use shown::Shown;
pub use status::{State, Status, StatusFile};
pub use table::Table;

/// A number with commas between its thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

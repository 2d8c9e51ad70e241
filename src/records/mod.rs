//! What a run leaves and shows: its folder, what is kept in it, the two log files, the table and the progress
//! bar.
//!
//! Listeners hear the events of [`crate::train`], and [`Keeping`] writes what it asks to have kept.

mod bar;
mod error;
mod folder;
mod keeping;
mod logs;
pub mod summary;
mod table;

pub use bar::Bar;
pub use error::FolderError;
pub use folder::RunFolder;
pub use keeping::Keeping;
pub use logs::{DawnLog, Durable, Metrics};
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

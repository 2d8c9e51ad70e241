//! The library's door.

mod error;
mod evaluate;
mod select;

pub use error::Error;
pub use evaluate::{Evaluated, Evaluation};
pub use select::{Selected, Selection};

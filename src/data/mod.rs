//! Data sets, augmentation, and batches made ahead of the training step.
//!
//! [`load`] reads one of [`sets`]; [`Prefetcher`] makes shuffled and augmented batches of it.

pub mod archive;
pub mod augment;
mod dataset;
pub mod download;
mod error;
pub mod files;
mod options;
pub mod pickle;
pub mod prefetch;
mod set;
pub mod sets;

pub use dataset::{Dataset, IMAGE, SIDE, Split};
pub use error::Error;
pub use options::{Options, Progress};
pub use prefetch::Prefetcher;
pub use set::{Pixels, Set};
pub use sets::cifar10::manifest::Manifest;
pub use sets::{DataSource, load, synthetic};

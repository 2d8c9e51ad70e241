//! Data sets, augmentation, and batches made ahead of the training step.
//!
//! [`load`] reads one of [`sets`]; [`Prefetcher`] makes shuffled and augmented batches of it.

mod agent;
pub mod archive;
pub mod augment;
mod background;
mod dataset;
pub mod download;
mod error;
pub mod files;
mod options;
pub mod pickle;
pub mod place;
pub mod prefetch;
pub mod proxy;
mod set;
pub mod sets;

pub use dataset::{Dataset, IMAGE, SIDE, Split};
pub use error::Error;
pub use options::{Options, Patience, Progress};
pub use prefetch::Prefetcher;
pub use set::{Pixels, Set};
pub use sets::cifar10::manifest::Manifest;
pub use sets::{DataSource, load, synthetic};

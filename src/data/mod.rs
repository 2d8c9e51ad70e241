//! CIFAR-10: readers, download, synthetic set, augmentation.
//!
//! [`load`] finds the data set in a folder in any of its three public layouts, or fetches it; [`Prefetcher`]
//! makes shuffled and augmented batches of it ahead of the training step.

pub mod archive;
pub mod augment;
pub mod binary;
mod dataset;
pub mod download;
mod error;
mod layout;
mod load;
pub mod manifest;
pub mod npm;
pub mod pickle;
pub mod prefetch;
pub mod python;
mod store;
pub mod synthetic;

pub use dataset::{CLASSES, Dataset, IMAGE, MEAN, SIDE, STD, Split};
pub use error::Error;
pub use load::{ARCHIVE_URL, Options, Progress, Source, load};
pub use manifest::{BATCHES, Manifest};
pub use prefetch::Prefetcher;

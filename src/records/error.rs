//! Why a folder cannot be a run's.

use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint;
use crate::settings::{ConfigError, Edit};

/// Why a folder cannot be a run's.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The system refused.
    #[error("{}: cannot {action}: {error}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        error: io::Error,
    },
    /// A new run would mix with an earlier one.
    #[error(
        "{path}: a run is already there; resume it by --resume {path}, or choose another --run-dir",
        path = .0.display()
    )]
    Exists(PathBuf),
    /// A new run would mix with files of another kind.
    #[error("{}: there are other files in it, such as {found}; choose another --run-dir", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// The first of the other files.
        found: String,
    },
    /// There is nothing to resume.
    #[error("{}: not a run folder: {reason}", path.display())]
    NotRun {
        /// The path that was to be resumed.
        path: PathBuf,
        /// Why it cannot be.
        reason: &'static str,
    },
    /// `config.json` is not one that a run wrote.
    #[error("{}: not a run's configuration: {error}", path.display())]
    BadConfig {
        /// The file.
        path: PathBuf,
        /// What does not fit, and where.
        error: serde_json::Error,
    },
    /// `config.json` holds a value that cannot be.
    #[error("{}: {error}", path.display())]
    BadValue {
        /// The file.
        path: PathBuf,
        /// The value that was refused.
        error: ConfigError,
    },
    /// An output would replace a file that is read.
    #[error("{}: this is {}, which is read; name another file", path.display(), input.display())]
    OverInput {
        /// The output.
        path: PathBuf,
        /// The file that is read, by its own name.
        input: PathBuf,
    },
    /// An output would replace or join the files of a run.
    #[error("{}: only the run {} itself writes there; name another file", path.display(), run.display())]
    OverRun {
        /// The output.
        path: PathBuf,
        /// The run's folder.
        run: PathBuf,
    },
    /// Settings that were edited after the run began.
    #[error(
        "{}: changed since the run began: {}; put it back, or repeat each change as a flag to go on with it",
        path.display(),
        listed(edits)
    )]
    Edited {
        /// The file.
        path: PathBuf,
        /// What was changed.
        edits: Vec<Edit>,
    },
    /// Another program writes to it.
    #[error(transparent)]
    InUse(checkpoint::Error),
    /// A file in it cannot be written.
    #[error(transparent)]
    File(#[from] checkpoint::Error),
}

impl FolderError {
    pub(super) fn io<'a>(path: &'a Path, action: &'static str) -> impl Fn(io::Error) -> FolderError + 'a {
        move |error| FolderError::Io { path: path.to_path_buf(), action, error }
    }
}

fn listed(edits: &[Edit]) -> String {
    let edits: Vec<String> = edits.iter().map(|e| format!("{} from {} to {}", e.key, e.was, e.is)).collect();
    edits.join(", ")
}

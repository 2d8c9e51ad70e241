//! The folder a run leaves: `config.json`, `metrics.jsonl`, `logs.tsv`, `final.safetensors`, `checkpoints/`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::{self, Problem, RunLock, atomic, lock};
use crate::settings::{Config, ConfigError, read_config};

const CONFIG: &str = "config.json";
const METRICS: &str = "metrics.jsonl";
const LOGS: &str = "logs.tsv";
const CHECKPOINTS: &str = "checkpoints";

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
    #[error("{path}: a run is already there; go on with it by --resume {path}, or choose another --run-dir", path = .0.display())]
    Exists(PathBuf),
    /// A new run would mix with files of another kind.
    #[error("{}: there are other files in it, such as {found}; choose another --run-dir", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// The first of them.
        found: String,
    },
    /// There is nothing to resume.
    #[error("{}: not a run folder: {reason}", path.display())]
    NotRun {
        /// What was to be resumed.
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
        /// Which.
        error: ConfigError,
    },
    /// Another program writes to it.
    #[error(transparent)]
    InUse(checkpoint::Error),
    /// A file in it cannot be written.
    #[error(transparent)]
    File(#[from] checkpoint::Error),
}

impl FolderError {
    fn io<'a>(path: &'a Path, action: &'static str) -> impl Fn(io::Error) -> FolderError + 'a {
        move |error| FolderError::Io { path: path.to_path_buf(), action, error }
    }
}

/// A run's folder, locked against other programs for as long as this lives.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Holds the lock.
    _lock: RunLock,
    /// What to remove if the run never begins.
    made: Made,
}

#[derive(Clone, Debug, PartialEq)]
enum Made {
    Nothing,
    /// What is in the folder.
    Content,
    /// That, and these folders: itself, then those it lies in that were not there.
    Folders(Vec<PathBuf>),
}

impl RunFolder {
    /// The default place of a new run: `runs/TIME-RECIPE`, the time in UTC, with `-2` and so on after it where that
    /// exists.
    pub fn default_path(recipe: &str, now: jiff::Timestamp) -> PathBuf {
        let base = format!("runs/{}-{recipe}", now.strftime("%Y%m%dT%H%M%SZ"));
        let later = (2..).map(|i| format!("{base}-{i}"));
        let free = std::iter::once(base.clone()).chain(later).find(|path| !Path::new(path).exists());
        free.unwrap_or(base).into()
    }

    /// Makes a new run's folder, which must be absent or empty, and makes sure that it can be written to. Until
    /// [`RunFolder::begin`], dropping this removes what was made.
    ///
    /// # Errors
    /// When there is a run or something else in it, or it cannot be written.
    pub fn create(path: &Path) -> Result<RunFolder, FolderError> {
        let absent = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let made = match path.exists() {
            true => Made::Content,
            false => Made::Folders(path.ancestors().take_while(absent).map(Path::to_path_buf).collect()),
        };
        if made == Made::Content {
            refuse_occupied(path)?;
        }
        let checkpoints = path.join(CHECKPOINTS);
        let result =
            fs::create_dir_all(&checkpoints).map_err(FolderError::io(&checkpoints, "create this folder"));
        let lock = result.and_then(|()| take_lock(path)).inspect_err(|error| {
            if !matches!(error, FolderError::InUse(_)) {
                remove(path, &made);
            }
        })?;
        // From here on, dropping it cleans up.
        let folder = RunFolder { path: path.to_path_buf(), _lock: lock, made };
        folder.probe()?;
        Ok(folder)
    }

    /// Writes `config.json`, which makes the folder a run's.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(&mut self, config: &Config) -> Result<(), FolderError> {
        let path = self.path.join(CONFIG);
        let json = serde_json::to_string_pretty(config)
            .map_err(|error| FolderError::BadConfig { path: path.clone(), error })?;
        atomic::write_bytes(&path, format!("{json}\n").as_bytes())?;
        self.made = Made::Nothing;
        Ok(())
    }

    /// Opens the folder of a run to be resumed, clears away what a kill left half written, and reads its
    /// configuration.
    ///
    /// # Errors
    /// When it is no run's, another program trains in it, or it cannot be written.
    pub fn open(path: &Path) -> Result<(RunFolder, Config), FolderError> {
        let not_run = |reason| FolderError::NotRun { path: path.to_path_buf(), reason };
        if !path.exists() {
            return Err(not_run("it does not exist"));
        }
        if !path.is_dir() {
            return Err(not_run("it is a file"));
        }
        let file = path.join(CONFIG);
        if !file.exists() {
            return Err(not_run("it has no config.json"));
        }
        let text = fs::read(&file).map_err(FolderError::io(&file, "read it"))?;
        let bad = |error| FolderError::BadConfig { path: file.clone(), error };
        let config = read_config(&text).map_err(bad)?;
        config.check().map_err(|error| FolderError::BadValue { path: file.clone(), error })?;

        let checkpoints = path.join(CHECKPOINTS);
        fs::create_dir_all(&checkpoints).map_err(FolderError::io(&checkpoints, "create this folder"))?;
        let folder = RunFolder { path: path.to_path_buf(), _lock: take_lock(path)?, made: Made::Nothing };
        folder.probe()?;
        atomic::remove_leftovers(path)?;
        atomic::remove_leftovers(&checkpoints)?;
        Ok((folder, config))
    }

    /// Removes from `metrics.jsonl` and `logs.tsv` every line that is not whole or is of an epoch after the first
    /// `epochs`, which the resumed run will train again.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn cut_back(&self, epochs: u32) -> Result<(), FolderError> {
        #[derive(serde::Deserialize)]
        struct Line {
            epoch: u32,
        }
        let done = |epoch: u32| (1..=epochs).contains(&epoch);
        self.keep_lines(METRICS, |_, line| serde_json::from_str::<Line>(line).is_ok_and(|l| done(l.epoch)))?;
        self.keep_lines(LOGS, |i, line| {
            i == 0 || line.split('\t').next().and_then(|epoch| epoch.parse().ok()).is_some_and(done)
        })
    }

    fn keep_lines(&self, name: &str, keep: impl Fn(usize, &str) -> bool) -> Result<(), FolderError> {
        let path = self.path.join(name);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(FolderError::io(&path, "read it"))?,
        };
        let mut kept = Vec::with_capacity(bytes.len());
        for (i, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            if let Some(text) = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok())
                && keep(i, text)
            {
                kept.extend_from_slice(line);
            }
        }
        if kept != bytes {
            atomic::write_bytes(&path, &kept)?;
        }
        Ok(())
    }

    /// Opens a log file to append to.
    fn append(&self, name: &str) -> Result<File, FolderError> {
        let path = self.path.join(name);
        File::options().create(true).append(true).open(&path).map_err(FolderError::io(&path, "write it"))
    }

    /// `metrics.jsonl`, to append to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn metrics(&self) -> Result<File, FolderError> {
        self.append(METRICS)
    }

    /// `logs.tsv`, to append to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn logs(&self) -> Result<File, FolderError> {
        self.append(LOGS)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its checkpoints are.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }

    /// Finds out now, rather than at the first checkpoint, whether files can be made in it.
    fn probe(&self) -> Result<(), FolderError> {
        [self.path.clone(), self.checkpoints()].iter().try_for_each(|folder| {
            tempfile::tempfile_in(folder).map(drop).map_err(FolderError::io(folder, "write in this folder"))
        })
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        remove(&self.path, &self.made);
    }
}

/// Removes what [`RunFolder::create`] made. Only empty folders go, and failing leaves no more than an empty one.
fn remove(path: &Path, made: &Made) {
    if *made != Made::Nothing {
        let _ = fs::remove_file(path.join(lock::FILE));
        let _ = fs::remove_dir(path.join(CHECKPOINTS));
    }
    if let Made::Folders(folders) = made {
        folders.iter().for_each(|folder| drop(fs::remove_dir(folder)));
    }
}

/// An existing folder may hold only what a run that never began leaves when it is killed.
fn refuse_occupied(path: &Path) -> Result<(), FolderError> {
    if path.join(CONFIG).exists() {
        return Err(FolderError::Exists(path.to_path_buf()));
    }
    let entries = fs::read_dir(path).map_err(FolderError::io(path, "use it as a run folder"))?;
    let mut names = vec![];
    for entry in entries {
        let entry = entry.map_err(FolderError::io(path, "list it"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let empty = || fs::read_dir(entry.path()).is_ok_and(|mut entries| entries.next().is_none());
        if name != lock::FILE && !atomic::is_temporary(&name) && !(name == CHECKPOINTS && empty()) {
            names.push(name);
        }
    }
    match names.into_iter().min() {
        Some(found) => Err(FolderError::Occupied { path: path.to_path_buf(), found }),
        None => Ok(()),
    }
}

/// Locks a folder.
fn take_lock(path: &Path) -> Result<RunLock, FolderError> {
    RunLock::take(path).map_err(|error| match error.problem() {
        Problem::InUse { .. } => FolderError::InUse(error),
        _ => FolderError::File(error),
    })
}

//! The folder a run leaves: `config.json`, `status.json`, `metrics.jsonl`, `logs.tsv`, `final.safetensors`,
//! `best.safetensors`, `checkpoints/`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::FolderError;
use crate::checkpoint::{self, Problem, RunLock, atomic, lock};
use crate::settings::{Config, Edit, now, read_config};

/// The run's settings, and where it was trained.
pub(super) const CONFIG: &str = "config.json";
/// A line an epoch.
pub(super) const METRICS: &str = "metrics.jsonl";
/// DAWNBench's log.
pub(super) const LOGS: &str = "logs.tsv";
/// Whether it trains, and how it ended.
pub(super) const STATUS: &str = "status.json";
/// The folder of its checkpoints.
pub(super) const CHECKPOINTS: &str = "checkpoints";
/// Its final weights.
pub(super) const FINAL: &str = "final.safetensors";
/// The weights of its best test accuracy.
pub(super) const BEST: &str = "best.safetensors";
/// In the folder of its checkpoints, the settings that these were written under.
const SETTINGS: &str = "settings.json";

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
    /// Makes the folder of a new run in its default place: `runs/TIME-RECIPE`, the time in UTC, with `-2` and
    /// so on after it where that exists. Of runs that begin at one moment each gets its own.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn create_by_time(recipe: &str, now: jiff::Timestamp) -> Result<RunFolder, FolderError> {
        // A recipe's name is its user's, and is to be one part of a path.
        let recipe = recipe.replace(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)), "-");
        let base = format!("runs/{}-{recipe}", now.strftime("%Y%m%dT%H%M%SZ"));
        let mut names = std::iter::once(base.clone()).chain((2..).map(|i| format!("{base}-{i}")));
        loop {
            let Some(path) = names.next() else { return RunFolder::create(Path::new(&base)) };
            match RunFolder::make(Path::new(&path), true)? {
                Some(folder) => return Ok(folder),
                // Another run has it.
                None => continue,
            }
        }
    }

    /// Makes a new run's folder, which must be absent or empty, and makes sure that it can be written to.
    /// Until [`RunFolder::begin`], dropping this removes what was made.
    ///
    /// # Errors
    /// When there is a run or something else in it, or it cannot be written.
    pub fn create(path: &Path) -> Result<RunFolder, FolderError> {
        let made = RunFolder::make(path, false)?;
        made.ok_or_else(|| FolderError::Exists(path.to_path_buf()))
    }

    /// As [`RunFolder::create`]; none where the folder must be new and is not.
    fn make(path: &Path, must_be_new: bool) -> Result<Option<RunFolder>, FolderError> {
        let create = FolderError::io(path, "create this folder");
        let absent = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let parents = path.ancestors().skip(1).take_while(absent).map(Path::to_path_buf);
        let mut folders: Vec<PathBuf> = parents.collect();
        // Whoever creates the folder has it: between a look and the creation another might.
        let made = loop {
            match fs::create_dir(path) {
                Ok(()) => {
                    folders.insert(0, path.to_path_buf());
                    break Made::Folders(folders);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && must_be_new => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => break Made::Content,
                // A run that fails beside this one may remove the folder that both lie in.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                    let Some(parent) = parent else { return Err(create(error)) };
                    fs::create_dir_all(parent).map_err(&create)?;
                }
                Err(error) => return Err(create(error)),
            }
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
        Ok(Some(folder))
    }

    /// Writes the settings, which makes the folder a run's: from here on it can be resumed.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn begin(&mut self, config: &Config) -> Result<(), checkpoint::Error> {
        let settings = Config { sessions: vec![], ..config.clone() };
        write(&self.path.join(CONFIG), config)?;
        write(&self.checkpoints().join(SETTINGS), &settings)?;
        self.made = Made::Nothing;
        Ok(())
    }

    /// Writes that the last session has ended.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end(&self, config: &mut Config) -> Result<(), checkpoint::Error> {
        if let Some(session) = config.sessions.last_mut() {
            session.ended = Some(now());
        }
        write(&self.path.join(CONFIG), config)
    }

    /// Whether a run that can be resumed is in this folder.
    pub fn is_run(path: &Path) -> bool {
        path.join(CONFIG).is_file()
    }

    /// Opens the folder of a run to be resumed, clears away what a kill left half written, and reads its
    /// configuration. Also returns what was edited in it since the run began.
    ///
    /// # Errors
    /// When it is no run's, another program trains in it, or it cannot be written.
    pub fn open(path: &Path) -> Result<(RunFolder, Config, Vec<Edit>), FolderError> {
        let config = RunFolder::config(path)?;
        let checkpoints = path.join(CHECKPOINTS);
        // Runs begun before it was kept have none.
        let begun = checkpoints.join(SETTINGS);
        let edits = if begun.exists() { config.edits(&read(&begun)?) } else { vec![] };
        fs::create_dir_all(&checkpoints).map_err(FolderError::io(&checkpoints, "create this folder"))?;
        let folder = RunFolder { path: path.to_path_buf(), _lock: take_lock(path)?, made: Made::Nothing };
        folder.probe()?;
        atomic::remove_leftovers(path)?;
        atomic::remove_leftovers(&checkpoints)?;
        Ok((folder, config, edits))
    }

    /// Reads the configuration of a run, whose folder stays as it is and may be in use.
    ///
    /// # Errors
    /// When the folder is no run's, or its configuration cannot be read.
    pub fn config(path: &Path) -> Result<Config, FolderError> {
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
        read(&file)
    }

    /// Where the final weights of a run are, once it is finished.
    pub fn final_weights(path: &Path) -> PathBuf {
        path.join(FINAL)
    }

    /// Where the checkpoints of a run are.
    pub fn checkpoints_of(path: &Path) -> PathBuf {
        path.join(CHECKPOINTS)
    }

    /// Removes from `metrics.jsonl` and `logs.tsv` every line that is not whole or is of an epoch after the
    /// first `epochs`, which the resumed run will train again. A whole line that says no epoch is not this
    /// program's, and stays.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn cut_back(&self, epochs: u32) -> Result<(), FolderError> {
        #[derive(serde::Deserialize)]
        struct Line {
            epoch: u32,
        }
        let stays = |epoch: Option<u32>| epoch.is_none_or(|epoch| (1..=epochs).contains(&epoch));
        self.keep_lines(METRICS, |line| stays(serde_json::from_str(line).ok().map(|Line { epoch }| epoch)))?;
        self.keep_lines(LOGS, |line| stays(line.split('\t').next().and_then(|epoch| epoch.parse().ok())))
    }

    /// Test accuracy in percent by epoch, as the metrics tell; lines that do not tell it are passed over.
    pub fn accuracies(&self) -> BTreeMap<u32, f64> {
        accuracies(&self.path)
    }

    fn keep_lines(&self, name: &str, keep: impl Fn(&str) -> bool) -> Result<(), FolderError> {
        let path = self.path.join(name);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(FolderError::io(&path, "read it"))?,
        };
        let mut kept = Vec::with_capacity(bytes.len());
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            if line.ends_with(b"\n") && keep(String::from_utf8_lossy(line).trim_end()) {
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

/// Removes what a run that never began has made. Only empty folders go, and failing leaves no more than an
/// empty one.
fn remove(path: &Path, made: &Made) {
    if *made != Made::Nothing {
        // The settings first: without them it is no run's.
        for file in [CONFIG, &format!("{CHECKPOINTS}/{SETTINGS}"), METRICS, LOGS, lock::FILE] {
            let _ = fs::remove_file(path.join(file));
        }
        let _ = fs::remove_dir(path.join(CHECKPOINTS));
    }
    if let Made::Folders(folders) = made {
        folders.iter().for_each(|folder| drop(fs::remove_dir(folder)));
    }
}

/// Test accuracy in percent by epoch, as the metrics of the run in this folder tell: a help to the reader,
/// which no fault of that file is to take away.
pub fn accuracies(run: &Path) -> BTreeMap<u32, f64> {
    let text = fs::read_to_string(run.join(METRICS)).unwrap_or_default();
    let accuracy = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some((line["epoch"].as_u64()?.try_into().ok()?, line["test_accuracy"].as_f64()?))
    };
    text.lines().filter_map(accuracy).collect()
}

/// Writes a run's settings.
fn write(path: &Path, config: &Config) -> Result<(), checkpoint::Error> {
    atomic::write(path, |out| {
        serde_json::to_writer_pretty(&mut *out, config)?;
        writeln!(out)
    })
}

/// Reads a run's settings.
fn read(file: &Path) -> Result<Config, FolderError> {
    let text = fs::read(file).map_err(FolderError::io(file, "read it"))?;
    let bad = |error| FolderError::BadConfig { path: file.to_path_buf(), error };
    let config = read_config(&text).map_err(bad)?;
    config.check().map_err(|error| FolderError::BadValue { path: file.to_path_buf(), error })?;
    Ok(config)
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
        let left = match name.as_str() {
            lock::FILE => true,
            METRICS | LOGS => entry.metadata().is_ok_and(|metadata| metadata.len() == 0),
            CHECKPOINTS => fs::read_dir(entry.path()).is_ok_and(|mut entries| entries.next().is_none()),
            name => atomic::is_temporary(name),
        };
        if !left {
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

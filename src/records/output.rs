//! Outputs that users name: none may destroy what is read, or what a run has written.

use std::fs;
use std::path::{Path, PathBuf};

use super::FolderError;
use super::folder::{BEST, CHECKPOINTS, CONFIG, FINAL, LOGS, METRICS, STATUS};
use crate::checkpoint::{followed, is_same, lock};

/// Whether a file may be written: it must be none of the files that are `read` (of a folder, any in it),
/// under whatever name or link, and none that only a run itself writes.
///
/// # Errors
/// When it is one of them.
pub fn check_output(path: &Path, read: &[&Path]) -> Result<(), FolderError> {
    let inputs = read.iter().flat_map(|read| match fs::read_dir(read) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => vec![read.to_path_buf()],
    });
    if let Some(input) = inputs.into_iter().find(|input| is_same(path, input)) {
        return Err(FolderError::OverInput { path: path.to_path_buf(), input });
    }
    match run_of(&followed(path)) {
        Some(run) => Err(FolderError::OverRun { path: path.to_path_buf(), run }),
        None => Ok(()),
    }
}

/// The run that alone writes this file, if there is one.
fn run_of(path: &Path) -> Option<PathBuf> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::canonicalize(parent).ok()?;
    let is_run = |folder: &Path| folder.join(CONFIG).is_file();
    let own = [CONFIG, STATUS, METRICS, LOGS, FINAL, BEST, lock::FILE];
    if path.file_name().is_some_and(|name| own.iter().any(|own| name == *own)) && is_run(&folder) {
        return Some(folder);
    }
    let run = folder.parent().filter(|_| folder.file_name().is_some_and(|name| name == CHECKPOINTS))?;
    is_run(run).then(|| run.to_path_buf())
}

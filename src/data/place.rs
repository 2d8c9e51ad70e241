//! The data folder while data sets are put into it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::Error;
use super::options::Progress;

/// A folder that several threads put files into. It is made when there is something to put in it, and once it
/// is [closed](Place::close) no more files begin.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    /// Folders that were made, the deepest first.
    made: Vec<PathBuf>,
    /// Folders that other processes wait for.
    locks: Vec<File>,
}

impl Place {
    /// The folder at `dir`, whether or not it is there.
    pub fn new(dir: &Path) -> Self {
        Place { dir: dir.into(), state: Mutex::default() }
    }

    /// Fails if nothing can be written to the folder, or to the one that it would be made in.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn probe(&self) -> Result<(), Error> {
        let there = self.nearest();
        let action = if there == self.dir { "write to this folder" } else { "create this folder" };
        tempfile::tempfile_in(there).map(drop).map_err(Error::io(&self.dir, action))
    }

    /// Holds the folder, or the one that it would be made in, until `self` is dropped; waits while another
    /// process does. Where folders cannot be locked, processes do not wait for one another.
    pub fn lock(&self, progress: &mut dyn FnMut(Progress)) {
        let Ok(folder) = File::open(self.nearest()) else { return };
        if let Err(TryLockError::WouldBlock) = folder.try_lock() {
            let dir = self.dir.display();
            let note = format!("{dir}: another process is preparing the data; waiting for it");
            progress(Progress::Note(note));
            if folder.lock().is_err() {
                return;
            }
        }
        self.state().locks.push(folder);
    }

    /// Makes the folder and runs `begin`, which makes a file in it. Nothing is made, and none returned, once
    /// the folder is closed.
    ///
    /// # Errors
    /// [`Error::Io`] for the folder, and those of `begin`.
    pub fn enter<T>(&self, begin: impl FnOnce() -> Result<T, Error>) -> Result<Option<T>, Error> {
        let mut state = self.state();
        if state.closed {
            return Ok(None);
        }
        let absent: Vec<_> = self.dir.ancestors().take_while(|path| !is_there(path)).collect();
        if !absent.is_empty() {
            fs::create_dir_all(&self.dir).map_err(Error::io(&self.dir, "create this folder"))?;
            state.made.extend(absent.into_iter().map(Path::to_path_buf));
            state.locks.extend(File::open(&self.dir).ok().filter(|folder| folder.try_lock().is_ok()));
        }
        begin().map(Some)
    }

    /// Lets no more files begin.
    pub fn close(&self) {
        self.state().closed = true;
    }

    /// Whether no more files may begin, and those begun are not wanted.
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Removes the folders that were made, if nothing is in them.
    pub fn remove_if_empty(&self) {
        let made = std::mem::take(&mut self.state().made);
        // The first that holds something keeps those around it.
        _ = made.iter().try_for_each(fs::remove_dir);
    }

    /// The folder, or the nearest around it that is there.
    fn nearest(&self) -> &Path {
        match self.dir.ancestors().find(|path| is_there(path)) {
            Some(path) if !path.as_os_str().is_empty() => path,
            _ => Path::new("."),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a folder is there. The empty path is the working directory's.
fn is_there(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.exists()
}

//! Finding the data set: a folder of it, or an archive.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::layout::{Found, Layout};
use crate::data::{Error, archive};

/// How names of archives end that may hold the data set whatever they are called.
const ENDINGS: [&str; 3] = [".tar", ".tar.gz", ".tgz"];

/// Looks for the data set at `path`, which is an archive of it or a folder. In a folder, and then in each
/// folder in it, a layout is its own folder, or its files as they are, or its archive; the official layout
/// comes first.
///
/// What has one of the names of CIFAR-10's files is taken for them, so that what is missing or broken is an
/// error and not a download.
///
/// # Errors
/// [`Error::Dangling`], [`Error::Empty`], [`Error::Malformed`], where nothing else is found; [`Error::Io`].
pub(super) fn find(path: &Path) -> Result<Option<Found>, Error> {
    let metadata = match fs::metadata(path) {
        Err(_) if is_there(path) => return Err(dangling(path)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        other => other.map_err(Error::io(path, "read this folder"))?,
    };
    if !metadata.is_dir() {
        return packed(path).map(Some);
    }
    let mut entries = vec![];
    for entry in fs::read_dir(path).map_err(Error::io(path, "read this folder"))? {
        entries.push(entry.map_err(Error::io(path, "read this folder"))?.path());
    }
    entries.sort();
    // What an interrupted run was making is not whole.
    entries.retain(|path| path.extension().is_none_or(|ending| ending != "part"));
    let mut damage = None;
    let others = || others(&entries);
    let nested = entries.iter().filter(|path| path.is_dir()).map(|path| well_known(path));
    for found in [well_known(path)].into_iter().chain(std::iter::once_with(others)).chain(nested) {
        match found {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
            Err(error) => damage = damage.or(Some(error)),
        }
    }
    damage.map_or(Ok(None), Err)
}

/// What has one of the usual names in a folder.
fn well_known(dir: &Path) -> Result<Option<Found>, Error> {
    for layout in Layout::ALL {
        let holds_piece = |path: &Path| layout.files().iter().any(|name| is_there(&path.join(name)));
        let folders = [dir.join(layout.folder()), dir.to_path_buf()];
        if let Some(path) = folders.into_iter().find(|path| holds_piece(path)) {
            return Ok(Some(Found { layout, path, packed: false }));
        }
        let archive = dir.join(layout.archive());
        if is_there(&archive) {
            return packed(&archive).map(Some);
        }
    }
    for layout in [Layout::Binary, Layout::Python] {
        let folder = dir.join(layout.folder());
        if folder.is_dir() {
            return Err(Error::Empty { folder, file: layout.batches()[0] });
        }
        if is_there(&folder) && !folder.exists() {
            return Err(dangling(&folder));
        }
    }
    Ok(None)
}

/// The first of these files that is an archive of the data set, under whatever name.
fn others(entries: &[PathBuf]) -> Result<Option<Found>, Error> {
    let ends = |path: &&PathBuf| ENDINGS.iter().any(|ending| path.to_string_lossy().ends_with(ending));
    // What cannot be read here may be anything.
    Ok(entries.iter().filter(ends).find_map(|path| packed(path).ok()))
}

/// An archive of the data set, by what it holds.
///
/// # Errors
/// [`Error::Malformed`] where it is none; [`Error::Dangling`], [`Error::Io`].
pub(super) fn packed(path: &Path) -> Result<Found, Error> {
    let file = open(path)?;
    let wanted: Vec<_> = Layout::ALL.iter().flat_map(|layout| layout.files()).collect();
    let first = archive::first(path, file, &wanted)?;
    let holds = |layout: &Layout| first.is_some_and(|name| layout.files().contains(&name));
    match Layout::ALL.into_iter().find(holds) {
        Some(layout) => Ok(Found { layout, path: path.into(), packed: true }),
        None => Err(Error::Malformed {
            file: path.into(),
            format: "archive of CIFAR-10",
            problem: "it holds none of its files".into(),
        }),
    }
}

/// Opens a regular file to read it; a pipe might never give anything.
///
/// # Errors
/// [`Error::Dangling`], [`Error::Missing`], [`Error::Malformed`], [`Error::Io`].
pub(super) fn open(path: &Path) -> Result<File, Error> {
    let file = fs::metadata(path).and_then(|metadata| match metadata.is_file() {
        true => File::open(path).map(Some),
        false => Ok(None),
    });
    match file {
        Ok(None) => Err(Error::Malformed {
            file: path.into(),
            format: "file",
            problem: "it is not a regular one".into(),
        }),
        Ok(Some(file)) => Ok(file),
        Err(error) if error.kind() == ErrorKind::NotFound && is_there(path) => Err(dangling(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::Missing { file: path.into() }),
        Err(error) => Err(Error::io(path, "open this file")(error)),
    }
}

/// Whether there is anything of that name, be it a link to nothing.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn dangling(path: &Path) -> Error {
    Error::Dangling { file: path.into(), target: fs::read_link(path).unwrap_or_default() }
}

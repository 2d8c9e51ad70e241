//! What the path of an output stands for: a file to be replaced, or a stream to write to.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Symbolic links that are followed, at most: as many as Linux follows.
const LINKS: usize = 40;

/// What the path of an output stands for.
pub(super) enum Target {
    /// A regular file, or none yet; no link.
    Replaced(PathBuf),
    /// A device, a pipe, or this program's own output.
    Through(Box<dyn Write>),
}

impl Target {
    /// Finds out what a path stands for; opens it if it is to be written through.
    ///
    /// # Errors
    /// When it is a folder, a link without end, or cannot be looked at or opened.
    pub fn of(path: &Path) -> io::Result<Target> {
        let is_stream = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            found => {
                let found = found?;
                if found.is_dir() {
                    return Err(io::Error::other("it is a folder"));
                }
                if let Some(own) = own_output(&found) {
                    return Ok(Target::Through(own));
                }
                !found.is_file()
            }
        };
        if is_stream {
            return Ok(Target::Through(Box::new(File::options().write(true).open(path)?)));
        }
        let path = followed(path);
        match path.is_symlink() {
            true => Err(io::Error::other("its links have no end")),
            false => Ok(Target::Replaced(path)),
        }
    }
}

/// What a path's symbolic links lead to, whether it is there or not; another link where they have no end.
pub fn followed(path: &Path) -> PathBuf {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS {
        match fs::read_link(&path) {
            Ok(to) => path = path.parent().unwrap_or(Path::new("")).join(to),
            Err(_) => break,
        }
    }
    path
}

/// This program's output or error stream, if a path leads to it: what has been written to it must stay, and
/// what is written later must follow.
#[cfg(unix)]
fn own_output(found: &fs::Metadata) -> Option<Box<dyn Write>> {
    use std::os::fd::{AsFd, BorrowedFd};

    let is_it = |stream: BorrowedFd| {
        let metadata = stream.try_clone_to_owned().and_then(|stream| File::from(stream).metadata());
        metadata.is_ok_and(|metadata| identity(&metadata) == identity(found))
    };
    if is_it(io::stdout().as_fd()) {
        return Some(Box::new(io::stdout()));
    }
    if is_it(io::stderr().as_fd()) { Some(Box::new(io::stderr())) } else { None }
}

#[cfg(not(unix))]
fn own_output(_: &fs::Metadata) -> Option<Box<dyn Write>> {
    None
}

/// Whether two paths lead to one file, through whatever links. A file that is absent is no other.
pub fn is_same(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    let found = |path: &Path| fs::metadata(path).map(|metadata| identity(&metadata));
    #[cfg(not(unix))]
    let found = |path: &Path| fs::canonicalize(path);
    matches!((found(one), found(other)), (Ok(one), Ok(other)) if one == other)
}

/// What tells a file from all others: its device and its number there.
#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;

    (metadata.dev(), metadata.ino())
}

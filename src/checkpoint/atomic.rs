//! Files that are whole or absent, whenever the program or the machine stops.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::Error;

/// How the names of temporary files end; they begin with a dot.
const SUFFIX: &str = ".partial";

/// Writes `path` through `fill`: into a temporary file beside it, synced, renamed over `path`, and the folder
/// synced. At every moment `path` is what it was before or all of the new content.
///
/// # Errors
/// When the folder or the file cannot be written, or `fill` fails; `path` is then unchanged and the temporary
/// file removed.
pub fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    write_file(path, |file| {
        let mut writer = BufWriter::new(file);
        fill(&mut writer)?;
        writer.flush()
    })
}

/// As [`write()`], through the file itself, unbuffered.
///
/// # Errors
/// As [`write()`].
pub fn write_file(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), Error> {
    let temporary = temporary(path)?;
    let result = (|| {
        let mut file = File::create(&temporary)?;
        fill(&mut file)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(folder(path))
    })();
    result.map_err(|error| {
        // The first error is the one to tell; if this removal fails too, the next run removes the file.
        let _ = fs::remove_file(&temporary);
        Error::io(path, "write it")(error)
    })
}

/// As [`write()`], from bytes at hand.
///
/// # Errors
/// As [`write()`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write(path, |writer| writer.write_all(bytes))
}

/// Removes the temporary files that a killed program left in `folder`; returns how many.
///
/// Only its one writer may call this: a file that another program is writing looks the same.
///
/// # Errors
/// When the folder cannot be read or a file not removed.
pub fn remove_leftovers(folder: &Path) -> Result<usize, Error> {
    let mut removed = 0;
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "list it"))? {
        let entry = entry.map_err(Error::io(folder, "list it"))?;
        if is_temporary(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path()).map_err(Error::io(&entry.path(), "remove it"))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Makes creations, renames and removals in a folder last through a power cut.
///
/// # Errors
/// When the system refuses.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    // Windows cannot open a folder as a file, and needs no such call.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Whether a file name is one that [`write()`] gives its temporary files.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(SUFFIX)
}

/// The folder a path lies in.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `folder/.name.pid.partial`; the process's number keeps two programs out of each other's way.
fn temporary(path: &Path) -> Result<PathBuf, Error> {
    let no_name = || Error::io(path, "write it")(io::Error::other("the path does not end in a file name"));
    let name = path.file_name().ok_or_else(no_name)?.to_string_lossy();
    Ok(folder(path).join(format!(".{name}.{}{SUFFIX}", std::process::id())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        write_bytes(&path, b"old, and longer").unwrap();
        write_bytes(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["f"]);
    }

    #[test]
    fn a_failure_half_way_leaves_the_old_content_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        write_bytes(&path, b"old").unwrap();
        let error = write(&path, |writer| {
            // More than any buffer holds, so that part of it has reached the temporary file.
            writer.write_all(&[7; 1 << 20])?;
            Err(io::Error::other("no more"))
        });
        let text = error.unwrap_err().to_string();
        assert_eq!(text, format!("{}: cannot write it: no more", path.display()));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["f"]);
    }

    #[test]
    fn under_its_name_only_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        write(&path, |writer| {
            writer.write_all(b"half")?;
            writer.flush()?;
            assert!(!path.exists());
            assert_eq!(names(folder.path()).len(), 1);
            assert!(is_temporary(&names(folder.path())[0]));
            writer.write_all(b" and half")
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"half and half");
    }

    #[test]
    fn only_leftovers_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".f.123.partial", ".hidden", "f.partial", "f"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        assert_eq!(remove_leftovers(folder.path()).unwrap(), 1);
        assert_eq!(names(folder.path()), [".hidden", "f", "f.partial"]);
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent/f");
        let error = write_bytes(&path, b"x").unwrap_err();
        assert_eq!(error.path(), path);
        assert!(write_bytes(Path::new("/"), b"x").unwrap_err().to_string().contains("file name"));
        assert!(remove_leftovers(&folder.path().join("absent")).is_err());
    }
}

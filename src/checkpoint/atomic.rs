//! Files that are whole or absent, whenever the program or the machine stops: every output is written here.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use super::Error;
use super::target::Target;

/// How the names of temporary files end; they begin with a dot.
const SUFFIX: &str = ".partial";

/// Writes `path` through `fill`: into a temporary file beside it, synced, renamed over `path`, and the folder
/// synced. At every moment `path` is what it was before or all of the new content.
///
/// A symbolic link stays, and the file that it leads to is replaced in that way. What is no regular file (a
/// device, a pipe) or is this program's own output is written to, once the whole content is there.
///
/// # Errors
/// When the folder or the file cannot be written, or `fill` fails; a regular file is then unchanged and the
/// temporary file removed.
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
    let failed = Error::io(path, "write it");
    match Target::of(path).map_err(&failed)? {
        Target::Replaced(file) => replace(&file, fill).map_err(failed),
        Target::Through(mut stream) => (|| {
            let mut whole = tempfile::tempfile()?;
            fill(&mut whole)?;
            whole.rewind()?;
            io::copy(&mut whole, &mut stream)?;
            stream.flush()
        })()
        .map_err(failed),
    }
}

/// Puts a new file in the place of `path`, which is a regular file or absent.
fn replace(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let temporary = temporary(path)?;
    let result = (|| {
        let mut file = File::create(&temporary)?;
        fill(&mut file)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(folder(path))
    })();
    result.inspect_err(|_| {
        // The first error is the one to tell; if this removal fails too, the next run removes the file.
        let _ = fs::remove_file(&temporary);
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

/// Makes creations, renames and removals in a folder last through a power cut, where the file system can.
///
/// # Errors
/// When the system refuses, unless it has no such call for folders.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    crate::data::files::sync_folder_io(folder)
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
fn temporary(path: &Path) -> io::Result<PathBuf> {
    let no_name = || io::Error::other("the path does not end in a file name");
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

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let [file, link, chain, dangling, new] =
            ["file", "link", "chain", "dangling", "new"].map(|name| folder.path().join(name));
        fs::write(&file, "old").unwrap();
        symlink("file", &link).unwrap();
        symlink(&link, &chain).unwrap();
        symlink("new", &dangling).unwrap();
        let failed = write(&chain, |_| Err(io::Error::other("no more")));
        assert!(failed.is_err() && fs::read(&file).unwrap() == b"old");
        write_bytes(&chain, b"content").unwrap();
        write_bytes(&dangling, b"content").unwrap();
        for link in [&link, &chain, &dangling] {
            assert!(fs::symlink_metadata(link).unwrap().is_symlink());
            assert_eq!(fs::read(link).unwrap(), b"content");
        }
        assert!(fs::symlink_metadata(&new).unwrap().is_file());
        assert_eq!(names(folder.path()), ["chain", "dangling", "file", "link", "new"]);
        symlink("loop", folder.path().join("loop")).unwrap();
        assert!(write_bytes(&folder.path().join("loop"), b"x").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_written_to_and_stays_a_pipe() {
        use std::os::unix::fs::FileTypeExt;
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write_bytes(&pipe, b"content").unwrap();
        assert_eq!(reader.join().unwrap(), b"content");
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
        assert_eq!(names(folder.path()), ["pipe"]);
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
        assert!(write_bytes(Path::new("/"), b"x").unwrap_err().to_string().contains("is a folder"));
        assert!(write_bytes(Path::new(""), b"x").unwrap_err().to_string().contains("file name"));
        assert!(remove_leftovers(&folder.path().join("absent")).is_err());
    }
}

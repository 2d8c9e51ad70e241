//! Files and folders on their way: their md5, making them last, and removing what is left of them.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use md5::{Digest, Md5};
use rustix::io::Errno;

use super::error::Error;

/// The md5 of all that a reader gives, in lower-case hexadecimal.
pub fn md5_of(mut reader: impl Read) -> std::io::Result<String> {
    let mut hasher = Md5::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(hex(hasher))
}

/// The md5 of bytes, in lower-case hexadecimal.
pub fn md5_of_bytes(bytes: &[u8]) -> String {
    let mut hasher = Md5::new();
    hasher.update(bytes);
    hex(hasher)
}

fn hex(hasher: Md5) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(path, "remove this file")(error))
        }
        _ => Ok(()),
    }
}

/// Removes a folder and all in it, if it is there.
pub(super) fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(path, "remove this folder")(error))
        }
        _ => Ok(()),
    }
}

/// Makes creations and renames in a folder last through a power cut.
pub(super) fn sync_folder(path: &Path) -> Result<(), Error> {
    sync_folder_io(path).map_err(Error::io(path, "sync this folder"))
}

/// Makes creations and renames in a folder last through a power cut, where the file system can do that for a
/// folder: some mounts (SMB, 9p, FUSE) refuse it with EINVAL or ENOTSUP, which is passed over.
///
/// # Errors
/// All others of the operating system.
pub fn sync_folder_io(path: &Path) -> std::io::Result<()> {
    let cannot = |error: &std::io::Error| {
        let cannot = [Errno::INVAL, Errno::NOTSUP, Errno::OPNOTSUPP];
        Errno::from_io_error(error).is_some_and(|errno| cannot.contains(&errno))
    };
    match File::open(path)?.sync_all() {
        Err(error) if cannot(&error) => Ok(()),
        outcome => outcome,
    }
}

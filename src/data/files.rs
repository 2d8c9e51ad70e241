//! Files and folders on their way: their md5, and removing what is left of them.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use md5::{Digest, Md5};

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
    File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::io(path, "sync this folder"))
}

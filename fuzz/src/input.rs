//! What the first byte of an input says, and where inputs become files.

use std::path::Path;

use tempfile::TempDir;

/// The bit of the first byte that asks for right checksums.
pub const FORGED: u8 = 0x80;

/// The bit of the first byte that says that the file has no checksum.
pub const OPEN: u8 = 0x40;

/// A folder in memory, where the system has one.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a folder for scratch files")
}

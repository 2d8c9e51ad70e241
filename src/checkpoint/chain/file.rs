//! A chain's files: under the name that their content asks for, and guarded by a hash of all of it.

use std::path::{Path, PathBuf};

use super::header::Header;
use crate::checkpoint::container::{self, Failed, OURS, Spec};
use crate::checkpoint::{Error, Hash, Problem};

/// Writes a file into `folder` under its own name. `data` writes the tensors' bytes in their order. Returns
/// the path and the hash of the data.
pub fn write<E: From<Error>>(
    folder: &Path,
    header: &Header,
    tensors: &[Spec],
    data: impl FnOnce(&mut container::Out) -> Result<(), Failed<E>>,
) -> Result<(PathBuf, Hash), E> {
    let path = folder.join(header.file_name());
    let hash = container::write(&path, &|data| header.seal(data).map(Some), tensors, data)?;
    Ok((path, hash))
}

/// A file whose guard was checked.
pub struct Guarded {
    pub header: Header,
    pub file: container::File,
    /// The hash of the data.
    pub data: Hash,
}

/// Reads a file and checks its guard and its name.
pub fn read(path: &Path) -> Result<Guarded, Error> {
    let file = container::File::read(path, OURS)?;
    let header = Header::parse(path, file.head.json.as_deref())?;
    let data = file.check(&header.check)?;
    check_name(path, &header.file_name())?;
    Ok(Guarded { header, file, data })
}

/// Whether a file has the name its content asks for.
pub fn check_name(path: &Path, name: &str) -> Result<(), Error> {
    if path.file_name().is_some_and(|found| found == name) {
        return Ok(());
    }
    Err(Error::new(path, Problem::NotChain { reason: format!("its content is that of {name}; rename it") }))
}

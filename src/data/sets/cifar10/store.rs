//! Keeping a data set in the official binary layout, whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::layout::Layout;
use crate::data::Error;
use crate::data::files::{remove_folder, sync_folder};

/// A `cifar-10-batches-bin` in the making: files are written to a folder beside it, which takes its name once
/// all are on the disk. Dropped before that, it leaves nothing.
#[derive(Debug)]
pub(super) struct Store {
    part: PathBuf,
    target: PathBuf,
}

impl Store {
    /// Begins one under `dir`, in place of what an interrupted run may have left.
    pub(super) fn begin(dir: &Path) -> Result<Self, Error> {
        let target = dir.join(Layout::Binary.folder());
        let part = target.with_extension("part");
        remove_folder(&part)?;
        fs::create_dir(&part).map_err(Error::io(&part, "create this folder"))?;
        Ok(Store { part, target })
    }

    /// Writes a batch, to the disk itself.
    pub(super) fn write(&self, batch: usize, records: &[u8]) -> Result<(), Error> {
        let path = self.part.join(Layout::Binary.batches()[batch]);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(records)?;
            file.sync_all()
        };
        write().map_err(Error::io(&path, "write this file"))
    }

    /// Gives the folder its name, and says where it is.
    pub(super) fn finish(self) -> Result<PathBuf, Error> {
        sync_folder(&self.part)?;
        fs::rename(&self.part, &self.target).map_err(Error::io(&self.target, "create this folder"))?;
        if let Some(parent) = self.target.parent() {
            sync_folder(parent)?;
        }
        Ok(self.target.clone())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the next run tries again.
        _ = remove_folder(&self.part);
    }
}

//! What a checkpoint needs beside itself, its parent and its mask, and why it is not found.

use std::path::Path;

use super::entry::{Checkpoint, Kind, MaskFile};
use super::file;
use super::header::mask_name;
use super::index::Chain;
use super::mask::read_mask;
use crate::checkpoint::{Error, Hash, Problem};

impl Chain {
    /// The checkpoint that a delta builds on: the base if several restore to the same model.
    pub(super) fn parent(&self, child: &Checkpoint, parent: Hash) -> Result<&Checkpoint, Error> {
        // A delta's parent is always older: equal models at different moments make no circle.
        let fits = |c: &&Checkpoint| {
            c.model == Some(parent) && if c.is_base() { c.at() <= child.at() } else { c.at() < child.at() }
        };
        let found = self.checkpoints.iter().filter(fits).min_by_key(|c| !c.is_base());
        found.ok_or_else(|| self.why_missing(child, parent))
    }

    /// Why a parent is not found: first because the child's head is damaged; then others may have damaged
    /// heads.
    fn why_missing(&self, child: &Checkpoint, parent: Hash) -> Error {
        let fault = |path: &Path| file::read(path).err();
        if let Some(error) = fault(&child.path) {
            return error;
        }
        let older = |c: &&Checkpoint| c.at() <= child.at() && !matches!(c.kind, Kind::Full { .. });
        let others = self.checkpoints.iter().filter(older).map(|c| &*c.path);
        let damaged = others.filter(|path| fault(path).is_some());
        let broken = self.broken.iter().map(Error::path).chain(damaged).map(Path::to_path_buf).collect();
        Error::new(&child.path, Problem::ParentMissing { parent, broken })
    }

    /// A mask's file, for a checkpoint that needs it.
    pub(super) fn mask_file(&self, mask: Hash, needs: &Checkpoint) -> Result<&MaskFile, Error> {
        let found = self.masks.iter().find(|file| file.hash == mask);
        found.ok_or_else(|| {
            // A file that is there and cannot be used is the thing to tell of.
            let name = mask_name(mask);
            let path = self.folder.join(&name);
            let fault = file::read(&needs.path).err().filter(|_| needs.model.is_some());
            let there = || read_mask(&path, self.id, &self.layout).err().filter(|_| path.exists());
            fault.or_else(there).unwrap_or_else(|| Error::new(&needs.path, Problem::MaskMissing { name }))
        })
    }
}

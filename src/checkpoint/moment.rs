//! The place in a run that a checkpoint is of, and the names of the files that carry it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;

/// A place between two steps of a run. The first is epoch 0, step 0; an epoch's end is step 0 of the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moment {
    /// Whole epochs behind it.
    pub epoch: u32,
    /// Steps of the next epoch behind it.
    #[serde(rename = "batch")]
    pub step: u32,
}

impl Moment {
    /// After so many epochs and so many steps of the next.
    pub const fn new(epoch: u32, step: u32) -> Moment {
        Moment { epoch, step }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.step {
            0 => write!(f, "epoch {}", self.epoch),
            step => write!(f, "epoch {} step {step}", self.epoch),
        }
    }
}

/// The kinds of file that are named by their moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FileKind {
    Base,
    Delta,
    Full,
    Workers,
}

impl FileKind {
    const ALL: [FileKind; 4] = [FileKind::Base, FileKind::Delta, FileKind::Full, FileKind::Workers];

    /// How the names of such files begin and end.
    fn ends(self) -> (&'static str, &'static str) {
        match self {
            FileKind::Base => ("base-", ".safetensors"),
            FileKind::Delta => ("epoch-", ".delta.safetensors"),
            FileKind::Full => ("epoch-", ".safetensors"),
            FileKind::Workers => ("epoch-", ".workers.safetensors"),
        }
    }

    /// The name of the file of a moment. Of one kind, names and moments sort alike.
    pub fn file_name(self, Moment { epoch, step }: Moment) -> String {
        let (start, end) = self.ends();
        format!("{start}{epoch:04}-step-{step:05}{end}")
    }

    /// The kind and moment that a path's last part names, if it names any.
    pub fn of(path: &Path) -> Option<(FileKind, Moment)> {
        let name = path.file_name()?.to_string_lossy();
        FileKind::ALL.into_iter().find_map(|kind| {
            let (start, end) = kind.ends();
            let (epoch, step) = name.strip_prefix(start)?.strip_suffix(end)?.split_once("-step-")?;
            Some((kind, Moment { epoch: epoch.parse().ok()?, step: step.parse().ok()? }))
        })
    }

    /// The files of these kinds in a folder, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(folder: &Path, kinds: &[FileKind]) -> Result<Vec<(Moment, PathBuf)>, Error> {
        let mut files = vec![];
        for entry in fs::read_dir(folder).map_err(Error::io(folder, "list it"))? {
            let path = entry.map_err(Error::io(folder, "list it"))?.path();
            if let Some((kind, moment)) = FileKind::of(&path)
                && kinds.contains(&kind)
            {
                files.push((moment, path));
            }
        }
        files.sort();
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_kind_and_moment_and_sort_by_it() {
        let moments = [(0, 0), (0, 7), (2, 78), (10, 0), (12345, 123_456)].map(|(e, s)| Moment::new(e, s));
        for kind in FileKind::ALL {
            let names = moments.map(|moment| kind.file_name(moment));
            assert!(names.is_sorted() && moments.is_sorted());
            for (name, moment) in names.iter().zip(moments) {
                assert_eq!(FileKind::of(&Path::new("run").join(name)), Some((kind, moment)));
            }
        }
        let name = "epoch-0002-step-00078.delta.safetensors";
        assert_eq!(FileKind::Delta.file_name(Moment::new(2, 78)), name);
        for other in ["mask-0123456789abcdef.safetensors", "epoch-2.safetensors", "base-0001-step-1.delta"] {
            assert_eq!(FileKind::of(Path::new(other)), None);
        }
        assert_eq!(moments.map(|m| m.to_string())[1..4], ["epoch 0 step 7", "epoch 2 step 78", "epoch 10"]);
    }
}

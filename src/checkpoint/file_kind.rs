//! The names of the files that carry checkpoints: each says its kind and its moment.

use std::fs;
use std::path::{Path, PathBuf};

use super::Error;
use super::moment::Moment;

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
    }
}

//! The one reader of safetensors files: the head first, and the data only of a file whose head is good.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::bytes::Bytes;
use super::head::Head;
use super::metadata::check;
use crate::checkpoint::hash::feed;
use crate::checkpoint::{Error, Hash, Problem};

/// A file in memory.
pub struct File {
    /// All before the data.
    pub head: Head,
    /// The data.
    pub data: Bytes,
    /// Where it was read from.
    pub path: PathBuf,
}

/// A tensor in a file's data.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The type of its values.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: &'a [usize],
    /// Its values, little-endian.
    pub bytes: &'a [u8],
}

impl File {
    /// Reads a file, or what a pipe gives, whose header has at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Head::of`], and when the data cannot be read or held.
    pub fn read(path: &Path, limit: u64) -> Result<File, Error> {
        let io = Error::io(path, "read it");
        let mut file = fs::File::open(path).map_err(&io)?;
        let metadata = file.metadata().map_err(&io)?;
        let length = metadata.is_file().then_some(metadata.len());
        let head = Head::of(path, &mut file, length, limit)?;
        let bytes = usize::try_from(head.bytes - head.begin)
            .map_err(|_| io(std::io::Error::from(std::io::ErrorKind::FileTooLarge)))?;
        let data = match length {
            Some(_) => Bytes::of_file(&file, head.begin, bytes),
            None => Bytes::of_pipe(&mut file, bytes),
        };
        let data = data.map_err(&io)?;
        if data.len() != bytes {
            let reason = format!("its tensors take {bytes} bytes, and there are {}", data.len());
            return Err(Error::new(path, Problem::NotSafetensors { reason }));
        }
        Ok(File { head, data, path: path.to_path_buf() })
    }

    /// A tensor by its name.
    pub fn tensor(&self, name: &str) -> Option<View<'_>> {
        let entry = self.head.tensors.get(name)?;
        let (begin, end) = entry.data_offsets;
        let bytes = self.data.get(begin as usize..end as usize)?;
        Some(View { dtype: entry.dtype, shape: &entry.shape, bytes })
    }

    /// Checks data and metadata entry by the digest that [`seal`](super::seal) put into the entry.
    ///
    /// # Errors
    /// When it is not theirs.
    pub fn check(&self, digest: &str) -> Result<Hash, Error> {
        let json = self.head.json.as_deref().unwrap_or_default();
        let mut hasher = blake3::Hasher::new();
        feed(&mut hasher, &self.data);
        check(hasher, json, digest).map_err(|problem| Error::new(&self.path, problem))
    }

    /// Whether there are tensors of these names alone.
    pub fn only(&self, names: &[&str]) -> Result<(), Error> {
        match self.head.tensors.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            Some((name, entry)) => {
                let (name, shape) = (name.clone(), entry.shape.clone());
                Err(Error::new(&self.path, Problem::Extra { name, shape, hint: String::new() }))
            }
            None => Ok(()),
        }
    }

    /// A tensor of one dimension, whose type must be one of `dtypes`.
    pub fn flat(&self, name: &str, dtypes: &[Dtype], length: Option<usize>) -> Result<View<'_>, Error> {
        let fail = |problem| Err(Error::new(&self.path, problem));
        let Some(view) = self.tensor(name) else {
            let shape = length.into_iter().collect();
            return fail(Problem::Missing { name: name.into(), shape, hint: String::new() });
        };
        if !dtypes.contains(&view.dtype) {
            return fail(Problem::dtype(name, dtypes, view.dtype));
        }
        let expected = length.unwrap_or(view.bytes.len() * 8 / view.dtype.bitsize());
        if view.shape != [expected] {
            let (name, expected, found) = (name.into(), vec![expected], view.shape.to_vec());
            return fail(Problem::Shape { name, expected, found, hint: String::new() });
        }
        Ok(view)
    }
}

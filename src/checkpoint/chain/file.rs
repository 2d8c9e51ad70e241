//! Reading and writing a chain's files: safetensors, written piece by piece.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::json;

use super::header::Header;
use crate::checkpoint::container::{self, Bytes, KEY};
use crate::checkpoint::hash::{PAYS, feed};
use crate::checkpoint::{Error, Hash, Problem, atomic};

/// A tensor to be written: name, type and shape.
pub struct Spec {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

impl Spec {
    pub fn flat(name: &str, dtype: Dtype, length: usize) -> Spec {
        Spec { name: name.into(), dtype, shape: vec![length] }
    }

    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// Where a file's data goes; all of it passes the hash.
pub struct Out<'a> {
    file: &'a mut File,
    hasher: blake3::Hasher,
    /// Bytes written since the disk was last told to take them.
    waiting: usize,
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl Out<'_> {
    /// Writes values, little-endian.
    pub fn write<E, T: bytemuck::NoUninit>(&mut self, values: &[T]) -> Result<(), Failed<E>> {
        let bytes = container::little_endian(values);
        let Out { file, hasher, .. } = self;
        let written = if bytes.len() < PAYS {
            feed(hasher, &bytes);
            file.write_all(&bytes)
        } else {
            rayon::join(|| feed(hasher, &bytes), || file.write_all(&bytes)).1
        };
        written.map_err(Failed::Io)?;
        self.waiting += bytes.len();
        self.sync_early().map_err(Failed::Io)
    }

    /// Has the disk at work on what there is while more is being made.
    fn sync_early(&mut self) -> io::Result<()> {
        const ENOUGH: usize = 16 << 20;
        if self.waiting < ENOUGH || self.syncing.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        self.finish_sync()?;
        let file = self.file.try_clone()?;
        self.syncing = Some(thread::spawn(move || file.sync_data()));
        self.waiting = 0;
        Ok(())
    }

    /// The system tells an error of what was written once: it must not be lost.
    fn finish_sync(&mut self) -> io::Result<()> {
        let ended = |thread: JoinHandle<_>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("its sync ended early")))
        };
        self.syncing.take().map_or(Ok(()), ended)
    }
}

/// Why data cannot be written.
pub enum Failed<E> {
    /// It cannot be had.
    Source(E),
    /// The system refuses.
    Io(io::Error),
}

/// Writes a file into `folder` under its own name. `data` writes the tensors' bytes in their order. Returns the path and
/// the hash of the data.
pub fn write<E: From<Error>>(
    folder: &Path,
    header: Header,
    tensors: &[Spec],
    data: impl FnOnce(&mut Out) -> Result<(), Failed<E>>,
) -> Result<(PathBuf, Hash), E> {
    let path = folder.join(header.file_name());
    let (mut failed, mut hash) = (None, None);
    let written = atomic::write_file(&path, |file| {
        // Of the final length, but with hashes that only the data will tell.
        let draft = head_bytes(header.clone(), blake3::Hasher::new(), tensors)?;
        file.write_all(&draft)?;
        let mut out = Out { file, hasher: blake3::Hasher::new(), waiting: 0, syncing: None };
        data(&mut out).map_err(|failure| match failure {
            Failed::Io(error) => error,
            Failed::Source(error) => {
                failed = Some(error);
                io::Error::other("its content cannot be had")
            }
        })?;
        out.finish_sync()?;
        let Out { file, hasher, .. } = out;
        hash = Some(Hash::of(&hasher));
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&head_bytes(header, hasher, tensors)?)
    });
    match (written, failed, hash) {
        (_, Some(error), _) => Err(error),
        (Err(error), None, _) => Err(error.into()),
        (Ok(()), None, hash) => Ok((path, hash.unwrap_or_else(|| Hash::of(&blake3::Hasher::new())))),
    }
}

/// The bytes before the data.
fn head_bytes(header: Header, hasher: blake3::Hasher, tensors: &[Spec]) -> io::Result<Vec<u8>> {
    let json = header.seal(hasher)?;
    let mut entries = serde_json::Map::from_iter([("__metadata__".to_string(), json!({ KEY: json }))]);
    let mut end = 0;
    for tensor in tensors {
        let begin = end;
        end += tensor.bytes();
        let entry = json!({
            "dtype": tensor.dtype.to_string(), "shape": tensor.shape, "data_offsets": [begin, end]
        });
        entries.insert(tensor.name.clone(), entry);
    }
    let mut text = serde_json::Value::from(entries).to_string();
    // The data begins at a multiple of 8 bytes, as the format's own library has it.
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    Ok([&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat())
}

/// A file whose guard was checked.
pub struct Guarded<'a> {
    pub header: Header,
    pub tensors: SafeTensors<'a>,
    /// Their names by place in the data.
    pub names: Vec<String>,
    /// Where the data begins in the file.
    pub begin: usize,
    /// Of the data.
    pub data: Hash,
    path: &'a Path,
}

/// Reads a file's bytes, checked: its guard, its name, and that it is of the model. `bytes` keeps them.
pub fn read<'a>(path: &'a Path, bytes: &'a mut Bytes) -> Result<Guarded<'a>, Error> {
    *bytes = container::read(path)?;
    let tensors = container::parse(path, bytes)?;
    let json = container::metadata(path, bytes)?;
    let header = Header::parse(path, json.as_deref())?;
    let length: usize = tensors.iter().map(|(_, view)| view.data().len()).sum();
    let begin = bytes.len() - length;
    let data = header.check(path, json.as_deref().unwrap_or_default(), &bytes[begin..])?;
    check_name(path, &header.file_name())?;
    Ok(Guarded { header, names: container::names(path, bytes)?, tensors, begin, data, path })
}

/// Whether a file has the name its content asks for.
pub fn check_name(path: &Path, name: &str) -> Result<(), Error> {
    if path.file_name().is_some_and(|found| found == name) {
        return Ok(());
    }
    Err(Error::new(path, Problem::NotChain { reason: format!("its content is that of {name}; rename it") }))
}

impl Guarded<'_> {
    /// Whether there are tensors of these names alone.
    pub fn only(&self, names: &[&str]) -> Result<(), Error> {
        match self.tensors.iter().find(|(name, _)| !names.contains(name)) {
            Some((name, view)) => {
                let (name, shape) = (name.into(), view.shape().to_vec());
                Err(Error::new(self.path, Problem::Extra { name, shape, hint: String::new() }))
            }
            None => Ok(()),
        }
    }

    /// The bytes of a tensor of one dimension, whose type must be one of `dtypes`.
    pub fn flat(&self, name: &str, dtypes: &[Dtype], length: Option<usize>) -> Result<(&[u8], Dtype), Error> {
        let fail = |problem| Err(Error::new(self.path, problem));
        let Ok(view) = self.tensors.tensor(name) else {
            let shape = length.into_iter().collect();
            return fail(Problem::Missing { name: name.into(), shape, hint: String::new() });
        };
        if !dtypes.contains(&view.dtype()) {
            let reason = format!("tensor {name} has dtype {}, not {:?}", view.dtype(), dtypes);
            return fail(Problem::NotChain { reason });
        }
        let expected =
            length.map_or_else(|| vec![view.data().len() * 8 / view.dtype().bitsize()], |l| vec![l]);
        if view.shape() != expected {
            let (name, found) = (name.into(), view.shape().to_vec());
            return fail(Problem::Shape { name, expected, found, hint: String::new() });
        }
        Ok((view.data(), view.dtype()))
    }
}

/// A file's metadata entry and its tensors, read without its data.
pub struct Head {
    pub json: Option<String>,
    pub tensors: BTreeMap<String, Entry>,
    /// Where the data begins in the file.
    pub begin: u64,
    /// The file's length.
    pub bytes: u64,
}

/// A tensor, as a file's head tells of it.
#[derive(Deserialize)]
pub struct Entry {
    #[serde(default)]
    pub dtype: String,
    pub shape: Vec<usize>,
    pub data_offsets: (u64, u64),
}

/// Reads a file's head. The file's length is checked, its data is not.
pub fn head(path: &Path) -> Result<Head, Error> {
    head_of(path, &mut File::open(path).map_err(Error::io(path, "read it"))?)
}

/// As [`head`], of an open file, which is left where its data begins.
pub fn head_of(path: &Path, file: &mut File) -> Result<Head, Error> {
    let io = Error::io(path, "read it");
    let bad = |reason: String| Error::new(path, Problem::NotSafetensors { reason });
    let bytes = file.metadata().map_err(&io)?.len();
    let mut length = [0; 8];
    let short = |e: io::Error| match e.kind() {
        io::ErrorKind::UnexpectedEof => bad("it is too short".into()),
        _ => io(e),
    };
    file.read_exact(&mut length).map_err(short)?;
    let length = u64::from_le_bytes(length);
    let data = bytes.checked_sub(8).and_then(|rest| rest.checked_sub(length));
    let data = data.ok_or_else(|| bad("it is too short for its header".into()))?;
    let mut text = vec![];
    file.take(length).read_to_end(&mut text).map_err(&io)?;
    let entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
    let (mut json, mut tensors, mut end) = (None, BTreeMap::new(), 0);
    for (name, value) in entries {
        if name == "__metadata__" {
            json = value.get(KEY).and_then(|json| json.as_str()).map(String::from);
            continue;
        }
        let entry: Entry = serde_json::from_value(value).map_err(|e| bad(format!("tensor {name}: {e}")))?;
        end = end.max(entry.data_offsets.1);
        tensors.insert(name, entry);
    }
    if end != data {
        return Err(bad(format!("its tensors take {end} bytes, and there are {data}")));
    }
    Ok(Head { json, tensors, begin: bytes - data, bytes })
}

//! Writing a safetensors file piece by piece, whole or not at all.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread::{self, JoinHandle};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::endian::little_endian;
use super::{KEY, OURS};
use crate::checkpoint::hash::{PAYS, feed};
use crate::checkpoint::{Error, Hash, atomic};

/// A tensor to be written: name, type and shape.
pub struct Spec {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

impl Spec {
    /// A tensor of one dimension.
    pub fn flat(name: &str, dtype: Dtype, length: usize) -> Spec {
        Spec { name: name.into(), dtype, shape: vec![length] }
    }
}

/// Where a file's data goes; all of it passes the hash.
pub struct Out<'a> {
    file: &'a mut fs::File,
    hasher: blake3::Hasher,
    bytes: usize,
    /// Bytes written since the disk was last told to take them.
    waiting: usize,
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl Out<'_> {
    /// Writes values, little-endian.
    pub fn write<E, T: bytemuck::NoUninit>(&mut self, values: &[T]) -> Result<(), Failed<E>> {
        let bytes = little_endian(values);
        let Out { file, hasher, .. } = self;
        let written = if bytes.len() < PAYS {
            feed(hasher, &bytes);
            file.write_all(&bytes)
        } else {
            rayon::join(|| feed(hasher, &bytes), || file.write_all(&bytes)).1
        };
        written.map_err(Failed::Io)?;
        self.bytes += bytes.len();
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
    /// The values to be written cannot be had.
    Source(E),
    /// The file cannot be written.
    Io(io::Error),
}

/// Says from the hasher of a file's data what the metadata entry is, if there is one.
pub type Entry<'a> = dyn Fn(blake3::Hasher) -> serde_json::Result<Option<String>> + 'a;

/// Writes a file. `data` writes the tensors' bytes in their order. Before the data, the entry of
/// no data holds the place of the data's own: both must be of one length. Returns the data's hash.
///
/// # Errors
/// When the system refuses, `data` fails, or it writes more or fewer bytes than the tensors have.
///
/// # Panics
/// If `entry` gives texts of two lengths.
pub fn write<E: From<Error>>(
    path: &Path,
    entry: &Entry,
    tensors: &[Spec],
    data: impl FnOnce(&mut Out) -> Result<(), Failed<E>>,
) -> Result<Hash, E> {
    let (mut failed, mut hash) = (None, Hash::of(&blake3::Hasher::new()));
    let written = atomic::write_file(path, |file| {
        let (draft, length) = head(entry(blake3::Hasher::new())?, tensors)?;
        file.write_all(&draft)?;
        let mut out = Out { file, hasher: blake3::Hasher::new(), bytes: 0, waiting: 0, syncing: None };
        data(&mut out).map_err(|failure| match failure {
            Failed::Io(error) => error,
            Failed::Source(error) => {
                failed = Some(error);
                io::Error::other("its content cannot be had")
            }
        })?;
        out.finish_sync()?;
        let Out { file, hasher, bytes, .. } = out;
        if bytes != length {
            return Err(io::Error::other(format!("its tensors take {length} bytes, and {bytes} were given")));
        }
        hash = Hash::of(&hasher);
        let (head, _) = head(entry(hasher)?, tensors)?;
        assert_eq!(head.len(), draft.len(), "the metadata entry keeps its length");
        if head != draft {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&head)?;
        }
        Ok(())
    });
    match (written, failed) {
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(error.into()),
        (Ok(()), None) => Ok(hash),
    }
}

/// The bytes before the data, and the data's length.
fn head(entry: Option<String>, tensors: &[Spec]) -> io::Result<(Vec<u8>, usize)> {
    let entry = entry.map(|text| HashMap::from([(KEY.to_string(), text)]));
    let mut end = 0;
    let info = |Spec { name, dtype, shape }: &Spec| {
        let begin = end;
        end += shape.iter().product::<usize>() * dtype.bitsize() / 8;
        (name.clone(), TensorInfo { dtype: *dtype, shape: shape.clone(), data_offsets: (begin, end) })
    };
    let metadata = Metadata::new(entry, tensors.iter().map(info).collect()).map_err(io::Error::other)?;
    let mut text = serde_json::to_vec(&metadata)?;
    // The data begins at a multiple of 8 bytes, as the format's own library has it.
    text.resize(text.len().next_multiple_of(8), b' ');
    if text.len() as u64 > OURS {
        return Err(io::Error::other(format!("its header would have {} bytes, over {OURS}", text.len())));
    }
    Ok(([&(text.len() as u64).to_le_bytes(), &text[..]].concat(), end))
}

/// An f32 tensor whose values are at hand.
pub struct Tensor<'a> {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: &'a [f32],
}

/// Writes one f32 tensor as a safetensors file, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn save_tensor(path: &Path, name: &str, shape: Vec<usize>, values: &[f32]) -> Result<(), Error> {
    save(path, vec![Tensor { name: name.into(), shape, values }], &|_| Ok(None))
}

/// Writes tensors sorted by name, as the format's own library does, and the metadata entry of [`write()`].
///
/// # Errors
/// When the file cannot be written.
pub fn save(path: &Path, mut tensors: Vec<Tensor>, entry: &Entry) -> Result<(), Error> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let spec = |t: &Tensor| Spec { name: t.name.clone(), dtype: Dtype::F32, shape: t.shape.clone() };
    let specs: Vec<Spec> = tensors.iter().map(spec).collect();
    write::<Error>(path, entry, &specs, |out| {
        tensors.iter().try_for_each(|tensor| out.write(tensor.values))
    })?;
    Ok(())
}

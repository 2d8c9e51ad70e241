//! Reading a safetensors file: all of it, or its head alone.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::Deserialize;

use super::KEY;
use crate::checkpoint::{Error, Problem};

/// What a file's bytes hold.
pub struct File<'a> {
    /// The tensors.
    pub tensors: SafeTensors<'a>,
    /// Their names by place in the data.
    pub names: Vec<String>,
    /// The text of the metadata entry, if there is one.
    pub json: Option<String>,
    /// Where the data begins in the file.
    pub begin: usize,
    path: &'a Path,
}

impl<'a> File<'a> {
    /// Finds the tensors and the metadata entry in a file's bytes.
    pub fn parse(path: &'a Path, bytes: &'a [u8]) -> Result<File<'a>, Error> {
        let bad = |reason: String| Error::new(path, Problem::NotSafetensors { reason });
        let unusable = |e: SafeTensorError| bad(e.to_string());
        if bytes.is_empty() {
            return Err(bad("it is empty".into()));
        }
        // The crate adds up the offsets it is told without checking for overflow.
        if offsets_beyond(bytes) {
            return Err(bad("a tensor reaches beyond the end of the file".into()));
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(unusable)?;
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(unusable)?;
        let json = metadata.metadata().as_ref().and_then(|map| map.get(KEY)).cloned();
        let begin = bytes.len() - metadata.data_len();
        Ok(File { tensors, names: metadata.offset_keys(), json, begin, path })
    }

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
            return fail(Problem::dtype(name, dtypes, view.dtype()));
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

/// Whether the header tells of data beyond the end of the file. False when there is no header to read.
fn offsets_beyond(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return false };
    let header = usize::try_from(u64::from_le_bytes(*length)).ok().and_then(|length| rest.get(..length));
    let Some(Ok(header)) = header.map(serde_json::from_slice::<HashMap<String, serde_json::Value>>) else {
        return false;
    };
    let offsets = header.values().filter_map(|entry| entry.get("data_offsets")?.as_array());
    let numbers = offsets.flatten().filter_map(serde_json::Value::as_u64);
    numbers.max().is_some_and(|end| end > bytes.len() as u64)
}

/// A file's metadata entry and its tensors, read without its data.
pub struct Head {
    pub json: Option<String>,
    pub tensors: BTreeMap<String, TensorEntry>,
    /// Where the data begins in the file.
    pub begin: u64,
    /// The file's length.
    pub bytes: u64,
}

/// A tensor, as a file's head tells of it.
#[derive(Deserialize)]
pub struct TensorEntry {
    #[serde(default)]
    pub dtype: String,
    pub shape: Vec<usize>,
    pub data_offsets: (u64, u64),
}

/// Reads a file's head. The file's length is checked, its data is not.
pub fn head(path: &Path) -> Result<Head, Error> {
    head_of(path, &mut fs::File::open(path).map_err(Error::io(path, "read it"))?)
}

/// As [`head`], of an open file, which is left where its data begins.
pub fn head_of(path: &Path, file: &mut fs::File) -> Result<Head, Error> {
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
        let entry: TensorEntry =
            serde_json::from_value(value).map_err(|e| bad(format!("tensor {name}: {e}")))?;
        end = end.max(entry.data_offsets.1);
        tensors.insert(name, entry);
    }
    if end != data {
        return Err(bad(format!("its tensors take {end} bytes, and there are {data}")));
    }
    Ok(Head { json, tensors, begin: bytes - data, bytes })
}

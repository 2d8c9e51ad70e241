//! A file's head: all before its data, read without the data.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use super::header::{Header, TensorEntry};
use super::{OURS, foreign};
use crate::checkpoint::{Error, Problem};

/// A file's metadata entry and its tensors, read without its data.
pub struct Head {
    /// The text of the metadata entry, if there is one.
    pub json: Option<String>,
    /// The tensors, which fill the data without gap or overlap, by their names.
    pub tensors: BTreeMap<String, TensorEntry>,
    /// The tensors' names by their places in the data.
    pub names: Vec<String>,
    /// Where the data begins in the file.
    pub begin: u64,
    /// The file's length.
    pub bytes: u64,
}

impl Head {
    /// Reads the head of a file of this program's, whose length is checked; its data is not read.
    ///
    /// # Errors
    /// As [`Head::of`].
    pub fn read(path: &Path) -> Result<Head, Error> {
        let mut file = fs::File::open(path).map_err(Error::io(path, "read it"))?;
        let length = file.metadata().map_err(Error::io(path, "read it"))?.len();
        Head::of(path, &mut file, Some(length), OURS)
    }

    /// Reads a head from the beginning of a file, which is left where its data begins. `length` is the
    /// file's, where it is known, and `limit` the most bytes that a header may have: a longer one is not
    /// read.
    ///
    /// # Errors
    /// When the file cannot be read or is no safetensors file, its header is too long, or its length is not
    /// what its header says.
    pub fn of(path: &Path, file: &mut fs::File, length: Option<u64>, limit: u64) -> Result<Head, Error> {
        let mut start = vec![];
        let problem = match parse(file, &mut start, length, limit) {
            Ok(Ok(head)) => return Ok(head),
            Ok(Err(reason)) => {
                // What it is instead is the better thing to say.
                let more = foreign::ENOUGH.saturating_sub(start.len()) as u64;
                let _ = file.take(more).read_to_end(&mut start);
                foreign::recognise(&start).unwrap_or(Problem::NotSafetensors { reason })
            }
            Err(error) => Problem::Io { action: "read it", error },
        };
        Err(Error::new(path, problem))
    }
}

/// Reads a head; the inner error says why there is none. `start` takes what was read of the file.
fn parse(
    file: &mut fs::File,
    start: &mut Vec<u8>,
    length: Option<u64>,
    limit: u64,
) -> io::Result<Result<Head, String>> {
    file.take(8).read_to_end(start)?;
    let Some(prefix) = start.first_chunk() else {
        let what = if start.is_empty() { "it is empty" } else { "it is too short" };
        return Ok(Err(what.into()));
    };
    let text = u64::from_le_bytes(*prefix);
    if text > limit {
        return Ok(Err(format!("its header would have {text} bytes, and {limit} are the most")));
    }
    let begin = 8 + text;
    if length.is_some_and(|length| length < begin) {
        return Ok(Err("it is too short for its header".into()));
    }
    start.reserve_exact(text as usize);
    file.take(text).read_to_end(start)?;
    if start.len() as u64 != begin {
        return Ok(Err("it is too short for its header".into()));
    }
    Ok(Header::parse(&start[8..]).and_then(|header| {
        let (names, end) = header.places()?;
        let Header { json, tensors } = header;
        if json.is_some() && text > OURS {
            return Err(format!("its header has {text} bytes, and this program's have at most {OURS}"));
        }
        let bytes = begin.checked_add(end).ok_or("its tensors are larger than any file")?;
        match length {
            Some(length) if length != bytes => {
                let data = length - begin;
                Err(format!("its tensors take {end} bytes, and there are {data}"))
            }
            _ => Ok(Head { json, tensors, names, begin, bytes }),
        }
    }))
}

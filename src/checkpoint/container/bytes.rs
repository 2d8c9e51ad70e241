//! A file's bytes.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;
use std::path::Path;

use rayon::prelude::*;

use crate::checkpoint::Error;

/// A file's bytes, at an address fit for f32.
#[derive(Default)]
pub struct Bytes {
    words: Vec<f32>,
    length: usize,
}

impl Bytes {
    fn zeros(length: usize) -> io::Result<Bytes> {
        let words = length.div_ceil(4);
        // A file beyond what memory holds is an error; what follows would end the program.
        Vec::<f32>::new().try_reserve_exact(words)?;
        Ok(Bytes { words: vec![0.0; words], length })
    }

    fn as_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.length]
    }

    /// The values from word `begin` to the end, little-endian in the file, in the memory they were read into.
    pub fn into_values(mut self, begin: usize) -> Vec<f32> {
        self.words.drain(..begin);
        if cfg!(target_endian = "big") {
            self.words.iter_mut().for_each(|v| *v = f32::from_bits(v.to_bits().swap_bytes()));
        }
        self.words
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.length]
    }
}

/// A file's bytes.
pub fn read(path: &Path) -> Result<Bytes, Error> {
    let read = || {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_file() {
            let mut bytes = Bytes::zeros(metadata.len() as usize)?;
            fill(&file, bytes.as_mut())?;
            return Ok(bytes);
        }
        // A pipe, say, has no length.
        let mut all = vec![];
        file.read_to_end(&mut all)?;
        let mut bytes = Bytes::zeros(all.len())?;
        bytes.as_mut().copy_from_slice(&all);
        Ok(bytes)
    };
    read().map_err(Error::io(path, "read it"))
}

/// Reads on all threads: of a file in the system's cache, most of the time goes into the first touch of the
/// memory that it is read into.
#[cfg(unix)]
fn fill(file: &File, bytes: &mut [u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    const PIECE: usize = 1 << 20;
    if bytes.len() <= PIECE {
        return file.read_exact_at(bytes, 0);
    }
    let pieces = bytes.par_chunks_mut(PIECE).enumerate();
    pieces.try_for_each(|(i, piece)| file.read_exact_at(piece, (i * PIECE) as u64))
}

#[cfg(not(unix))]
fn fill(mut file: &File, bytes: &mut [u8]) -> io::Result<()> {
    file.read_exact(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::container::little_endian;

    #[test]
    fn reads_every_byte_of_files_of_any_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        for length in [0, 1, 7, (1 << 20) - 1, 1 << 20, (5 << 19) + 3] {
            let bytes: Vec<u8> =
                (0..length).map(|i: u32| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
            std::fs::write(&path, &bytes).unwrap();
            assert!(*read(&path).unwrap() == bytes[..], "{length}");
        }
        let values: Vec<f32> = (0..700_000).map(|i| i as f32).collect();
        std::fs::write(&path, little_endian(&values)).unwrap();
        assert_eq!(read(&path).unwrap().into_values(3), values[3..]);
        assert!(read(folder.path()).is_err());
    }
}

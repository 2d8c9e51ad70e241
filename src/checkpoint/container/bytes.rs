//! A file's bytes.

use std::fs::File;
use std::io::{self, Read};
#[cfg(not(unix))]
use std::io::{Seek, SeekFrom};
use std::ops::Deref;

use rayon::prelude::*;

/// A file's bytes, at an address fit for f32.
#[derive(Default)]
pub struct Bytes {
    words: Vec<f32>,
    length: usize,
}

impl Bytes {
    fn zeros(length: usize) -> io::Result<Bytes> {
        let words = length.div_ceil(4);
        // More than memory holds is an error; what follows would end the program.
        Vec::<f32>::new().try_reserve_exact(words)?;
        Ok(Bytes { words: vec![0.0; words], length })
    }

    fn as_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.length]
    }

    /// The `length` bytes of a file from `begin` on.
    pub fn of_file(file: &File, begin: u64, length: usize) -> io::Result<Bytes> {
        let mut bytes = Bytes::zeros(length)?;
        fill(file, begin, bytes.as_mut())?;
        Ok(bytes)
    }

    /// The bytes that a pipe still gives, of which there should be `length`; at most one more is read.
    pub fn of_pipe(pipe: &mut File, length: usize) -> io::Result<Bytes> {
        // Grown while reading: the length is only what a header claims.
        let mut all = vec![];
        pipe.take((length as u64).saturating_add(1)).read_to_end(&mut all)?;
        let mut bytes = Bytes::zeros(all.len())?;
        bytes.as_mut().copy_from_slice(&all);
        Ok(bytes)
    }

    /// The values, little-endian in the file, in the memory they were read into.
    pub fn into_values(mut self) -> Vec<f32> {
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

/// Reads on all threads: of a file in the system's cache, most of the time goes into the first touch of the
/// memory that it is read into.
#[cfg(unix)]
fn fill(file: &File, begin: u64, bytes: &mut [u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    const PIECE: usize = 1 << 20;
    if bytes.len() <= PIECE {
        return file.read_exact_at(bytes, begin);
    }
    let pieces = bytes.par_chunks_mut(PIECE).enumerate();
    pieces.try_for_each(|(i, piece)| file.read_exact_at(piece, begin + (i * PIECE) as u64))
}

#[cfg(not(unix))]
fn fill(mut file: &File, begin: u64, bytes: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(begin))?;
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
            let open = || File::open(&path).unwrap();
            assert!(*Bytes::of_file(&open(), 0, bytes.len()).unwrap() == bytes[..], "{length}");
            assert!(*Bytes::of_pipe(&mut open(), bytes.len()).unwrap() == bytes[..], "{length}");
            assert!(Bytes::of_file(&open(), 1, bytes.len()).is_err() == (length > 0));
            let one = 1.min(bytes.len());
            assert!(*Bytes::of_file(&open(), one as u64, bytes.len() - one).unwrap() == bytes[one..]);
        }
        let values: Vec<f32> = (0..700_000).map(|i| i as f32).collect();
        std::fs::write(&path, little_endian(&values)).unwrap();
        let bytes = Bytes::of_file(&File::open(&path).unwrap(), 12, 4 * (values.len() - 3)).unwrap();
        assert_eq!(bytes.into_values(), values[3..]);
    }
}

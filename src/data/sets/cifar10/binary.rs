//! The official binary layout: records of one label byte and three planes (red, green, blue) of 1024 bytes.

use std::path::Path;

use crate::data::{Error, IMAGE};

/// Bytes of a record.
pub const RECORD: usize = 1 + IMAGE;

/// Bytes of a colour plane of one image.
const PLANE: usize = IMAGE / 3;

/// Checks a batch of `records` records: its length, then each label. `file` names it in errors.
///
/// # Errors
/// [`Error::Size`], [`Error::Label`].
pub fn check(file: &Path, bytes: &[u8], records: usize) -> Result<(), Error> {
    let expected = records * RECORD;
    if bytes.len() != expected {
        return Err(Error::Size { file: file.into(), expected: expected as u64, found: bytes.len() as u64 });
    }
    match bytes.chunks_exact(RECORD).position(|record| record[0] > 9) {
        None => Ok(()),
        Some(record) => Err(Error::Label { file: file.into(), record, label: bytes[record * RECORD].into() }),
    }
}

/// Records `[N]` x (label, planes) to `images` [N, 32, 32, 3] and `labels` `[N]`.
///
/// # Panics
/// Unless the three hold the same N.
pub fn unpack(records: &[u8], images: &mut [u8], labels: &mut [u8]) {
    assert!(records.len() == labels.len() * RECORD && images.len() == labels.len() * IMAGE);
    let all = records.chunks_exact(RECORD).zip(images.chunks_exact_mut(IMAGE)).zip(labels);
    for ((record, image), label) in all {
        *label = record[0];
        let (red, rest) = record[1..].split_at(PLANE);
        let (green, blue) = rest.split_at(PLANE);
        let planes = red.iter().zip(green).zip(blue);
        for (pixel, ((&r, &g), &b)) in image.chunks_exact_mut(3).zip(planes) {
            pixel.copy_from_slice(&[r, g, b]);
        }
    }
}

/// The reverse of [`unpack`]: `images` [N, 32, 32, 3] and `labels` `[N]` to records.
///
/// # Panics
/// Unless both hold the same N.
pub fn pack(images: &[u8], labels: &[u8]) -> Vec<u8> {
    assert!(images.len() == labels.len() * IMAGE);
    let mut records = vec![0; labels.len() * RECORD];
    let all = records.chunks_exact_mut(RECORD).zip(images.chunks_exact(IMAGE)).zip(labels);
    for ((record, image), &label) in all {
        record[0] = label;
        let (red, rest) = record[1..].split_at_mut(PLANE);
        let (green, blue) = rest.split_at_mut(PLANE);
        let planes = red.iter_mut().zip(green).zip(blue);
        for (pixel, ((r, g), b)) in image.chunks_exact(3).zip(planes) {
            (*r, *g, *b) = (pixel[0], pixel[1], pixel[2]);
        }
    }
    records
}

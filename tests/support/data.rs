//! A small data set in every layout: the real one in all but its size.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use fishmask::data::files::md5_of_bytes;
use fishmask::data::sets::cifar10::binary::RECORD;
use fishmask::data::{DataSource, Dataset, Error, IMAGE, Manifest, Options, Progress, load};
use fishmask::rng::{Purpose, Stream};

/// Images a batch.
pub const RECORDS: usize = 3;

/// Official records of a batch, 0..6: random labels and planes.
pub fn batch(batch: usize) -> Vec<u8> {
    let mut stream = Stream::new(99, Purpose::Synthetic, 0, batch as u32);
    let records = (0..RECORDS * RECORD).map(|i| match i % RECORD {
        0 => stream.below(10) as u8,
        _ => stream.below(256) as u8,
    });
    records.collect()
}

pub fn labels(records: &[u8]) -> Vec<u8> {
    records.iter().step_by(RECORD).copied().collect()
}

/// The image of a record as rows of RGB pixels, by the layouts' definitions.
pub fn pixels(record: &[u8]) -> Vec<u8> {
    (0..IMAGE).map(|i| record[1 + (i % 3) * 1024 + i / 3]).collect()
}

/// Whether a data set holds the pixels and labels of `batch`.
pub fn assert_is_the_set(data: &Dataset) {
    assert_eq!((data.set().name, data.train.len(), data.test.len()), ("CIFAR-10", 5 * RECORDS, RECORDS));
    for b in 0..6 {
        for (r, record) in batch(b).chunks(RECORD).enumerate() {
            let (split, i) = if b < 5 { (&data.train, b * RECORDS + r) } else { (&data.test, r) };
            assert_eq!(split.labels[i], record[0], "batch {b} record {r}");
            assert_eq!(split.image(i), pixels(record), "batch {b} record {r}");
        }
    }
}

pub fn manifest() -> Manifest {
    let batches = std::array::from_fn(|i| md5_of_bytes(&batch(i)));
    Manifest { records: RECORDS, batches, archive: md5_of_bytes(&binary_archive()) }
}

/// Options that reach no network.
pub fn options(dir: &Path) -> Options {
    Options {
        data_dir: dir.into(),
        archive_url: "http://127.0.0.1:9/none".into(),
        npm: None,
        manifest: manifest(),
        synthetic_images: [20, 10],
        ..Options::default()
    }
}

/// A stand-in for npm, which gives the `give` of the data folder, or fails.
pub fn npm() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data/npm")
}

pub const NAMES: [&str; 6] =
    ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"];

pub fn binary_files() -> Vec<(String, Vec<u8>)> {
    (0..6).map(|i| (format!("{}.bin", NAMES[i]), batch(i))).collect()
}

/// A pickle as Python 2's cPickle and numpy 1 write one, by hand.
pub fn pickle(records: &[u8]) -> Vec<u8> {
    let count = records.len() / RECORD;
    let mut out = b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(".to_vec();
    out.extend(labels(records).iter().flat_map(|&label| [b'K', label]));
    out.extend(b"eU\x04dataq\x04cnumpy.core.multiarray\n_reconstruct\n");
    out.extend(b"q\x05cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87R");
    out.extend(b"(K\x01M");
    out.extend((count as u16).to_le_bytes());
    out.extend(b"M\x00\x0c\x86cnumpy\ndtype\nq\x07U\x02u1K\x00K\x01\x87R");
    out.extend(b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T");
    out.extend(((count * IMAGE) as u32).to_le_bytes());
    out.extend(records.chunks(RECORD).flat_map(|record| &record[1..]));
    out.extend(b"tbu.");
    out
}

pub fn python_files() -> Vec<(String, Vec<u8>)> {
    (0..6).map(|i| (NAMES[i].to_string(), pickle(&batch(i)))).collect()
}

pub fn png(records: &[u8]) -> Vec<u8> {
    let rows: Vec<u8> = records.chunks(RECORD).flat_map(pixels).collect();
    png_of(1024, (records.len() / RECORD) as u32, png::ColorType::Rgb, &rows)
}

pub fn png_of(width: u32, height: u32, colour: png::ColorType, pixels: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
    out
}

pub fn npm_files() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = (0..6).map(|i| (format!("{}.png", NAMES[i]), png(&batch(i)))).collect();
    let train: Vec<u8> = (0..5).flat_map(|i| labels(&batch(i))).collect();
    files.push(("train_lables.json".into(), serde_json::to_vec(&train).unwrap()));
    files.push(("test_lables.json".into(), serde_json::to_vec(&labels(&batch(5))).unwrap()));
    files
}

pub fn write_files(dir: &Path, files: &[(String, Vec<u8>)]) {
    fs::create_dir_all(dir).unwrap();
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

pub fn tar(folder: &str, files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("{folder}/{name}"), &bytes[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

pub fn tar_gz(folder: &str, files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&tar(folder, files)).unwrap();
    gz.finish().unwrap()
}

pub fn binary_archive() -> Vec<u8> {
    tar_gz("cifar-10-batches-bin", &binary_files())
}

/// Loads; the result and the notes.
pub fn load_with(options: &Options) -> (Result<Dataset, Error>, Vec<String>) {
    let mut notes = Vec::new();
    let data = load(DataSource::Cifar10, options, &mut |event| {
        if let Progress::Note(line) = event {
            notes.push(line);
        }
    });
    (data, notes)
}

/// What a folder holds, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

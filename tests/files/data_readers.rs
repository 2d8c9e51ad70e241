//! Each reader on good and on broken bytes.

use std::path::Path;

use crate::support::data::{RECORDS, batch, binary_archive, labels, pickle, png, png_of, tar_gz};
use fishmask::data::files::{md5_of, md5_of_bytes};
use fishmask::data::pickle::Pickle;
use fishmask::data::sets::cifar10::binary::{self, RECORD};
use fishmask::data::sets::cifar10::{npm, python};
use fishmask::data::{Error, IMAGE, archive};
use proptest::prelude::*;

const FILE: &str = "data/a_file";

fn file() -> &'static Path {
    Path::new(FILE)
}

/// The whole message, which must name the file and say `part`.
fn assert_says<T: std::fmt::Debug>(result: Result<T, Error>, part: &str) {
    let message = result.unwrap_err().to_string();
    assert!(message.contains(FILE) && message.contains(part), "{message} does not say: {part}");
}

/// RFC 1321, appendix A.5.
#[test]
fn md5_known_answers() {
    assert_eq!(md5_of_bytes(b""), "d41d8cd98f00b204e9800998ecf8427e");
    assert_eq!(md5_of_bytes(b"message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
    let long = vec![b'x'; 200_000];
    assert_eq!(md5_of(&long[..]).unwrap(), md5_of_bytes(&long));
}

#[test]
fn binary_planes_become_pixels_and_back() {
    let records = batch(0);
    binary::check(file(), &records, RECORDS).unwrap();
    let (mut images, mut found) = (vec![0; RECORDS * IMAGE], vec![0; RECORDS]);
    binary::unpack(&records, &mut images, &mut found);
    assert_eq!(found, labels(&records));
    let expected: Vec<u8> = records.chunks(RECORD).flat_map(crate::support::data::pixels).collect();
    assert_eq!(images, expected);
    assert_eq!(binary::pack(&images, &found), records);
}

#[test]
fn binary_rejects_wrong_length_and_label() {
    let mut records = batch(0);
    assert_says(binary::check(file(), &records[1..], RECORDS), "expected 9219 bytes, found 9218");
    records[2 * RECORD] = 10;
    assert_says(binary::check(file(), &records, RECORDS), "record 2 has label 10");
    records.push(0);
    assert_says(binary::check(file(), &records, RECORDS), "expected 9219 bytes, found 9220");
}

/// What `fixtures/data/make_pickles.py` writes.
fn fixture_records() -> Vec<u8> {
    let planes = |i: usize| (0..IMAGE).map(move |j| ((100 * i + 7 * j + j / 256) % 256) as u8);
    [3].into_iter().chain(planes(0)).chain([8]).chain(planes(1)).collect()
}

#[test]
fn pickles_of_python_2_and_3_and_numpy_1_and_2_read_alike() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data");
    for name in ["py2", "numpy1_p2", "numpy1_p4", "numpy2_p2", "numpy2_p3", "numpy2_p4", "numpy2_p5"] {
        let path = dir.join(name).with_extension("pickle");
        let read = python::records(&path, &std::fs::read(&path).unwrap(), 2).unwrap();
        assert!(read == fixture_records(), "{name}");
    }
}

#[test]
fn pickle_made_by_hand_reads() {
    assert_eq!(python::records(file(), &pickle(&batch(1)), RECORDS).unwrap(), batch(1));
}

#[test]
fn pickle_rejects_what_is_not_a_batch() {
    let good = pickle(&batch(0));
    let read = |bytes: &[u8]| python::records(file(), bytes, RECORDS);
    let replaced = |from: &[u8], to: &[u8]| {
        let at = good.windows(from.len()).position(|window| window == from).unwrap();
        [&good[..at], to, &good[at + from.len()..]].concat()
    };
    assert_says(read(b""), "1 more bytes needed, 0 left, at byte 0");
    assert_says(read(&good[..good.len() / 2]), "more bytes needed");
    assert_says(read(b"\x80\x02K\x01."), "no entry `data`");
    assert_says(read(&replaced(b"labels", b"lebals")), "no entry `labels`");
    assert_says(read(&replaced(b"_reconstruct", b"_reconsider!")), "not a numpy array");
    assert_says(read(&replaced(b"numpy.core.multiarray\n_reconstruct", b"os\nsystem")), "not a numpy array");
    assert_says(read(&replaced(b"u1", b"u2")), "not of type uint8");
    assert_says(read(&replaced(b"\x89T", b"\x88T")), "column by column");
    assert_says(read(&replaced(b"M\x00\x0c", b"M\x01\x0c")), "rows of 3073");
    assert_says(python::records(file(), &good, RECORDS + 1), "holds 9216 bytes, expected 12288");
    assert_says(read(&replaced(b"q\x03(", b"q\x03(K\x01")), "expected 3 labels, found 4");
    let label = [b'(', b'K', batch(0)[0]];
    assert_says(read(&replaced(&label, b"(K\x0b")), "record 0 has label 11");
    assert_says(read(&replaced(&label, b"(J\xff\xff\xff\xff")), "record 0 has label -1");
    assert_says(read(&replaced(&label, b"(N")), "label 0 is not an integer");
    assert_says(read(b"\x80\x02F1.5\n."), "opcode 0x46");
    assert_says(read(b"\x80\x02h\x07."), "memo 7");
    assert_says(read(b"\x80\x02T\xff\xff\xff\xff."), "4294967295 more bytes needed");
    assert_says(read(b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff."), "more bytes needed");
}

/// Memory and stack stay bounded: a million nested lists, a list inside itself, endless values.
#[test]
fn pickle_survives_depth_cycles_and_bombs() {
    let mut nested = vec![b']'; 1_000_000];
    nested.extend(vec![b'a'; 999_999]);
    nested.push(b'.');
    Pickle::parse(&nested).unwrap();
    assert!(Pickle::parse(b"]q\x00h\x00a.").is_ok());
    for (opcodes, what) in
        [(&b"N"[..], "values"), (b"(", "open marks"), (b"N0", "values"), (b"2", "on the stack")]
    {
        let bomb = [&b"N"[..], &opcodes.repeat(1_100_000)].concat();
        let message = Pickle::parse(&bomb).unwrap_err();
        assert!(message.contains("more than 1048576") && message.contains(what), "{message}");
    }
    let memo = [b"N", &b"\x94".repeat(1_100_000)[..]].concat();
    assert!(Pickle::parse(&memo).unwrap_err().contains("memo"));
}

#[test]
fn png_rows_become_records() {
    assert_eq!(npm::records(file(), &png(&batch(2)), &labels(&batch(2)), RECORDS).unwrap(), batch(2));
}

#[test]
fn png_rejects_other_pictures() {
    let read = |png: &[u8]| npm::records(file(), png, &[0; RECORDS], RECORDS);
    let (rgb, grey, rgba) = (png::ColorType::Rgb, png::ColorType::Grayscale, png::ColorType::Rgba);
    assert_says(read(b"not a picture"), "not a readable PNG");
    assert_says(read(&png_of(1023, 3, rgb, &[0; 1023 * 9])), "it is 1023 x 3 pixels, expected 1024 x 3");
    assert_says(read(&png_of(1024, 4, rgb, &[0; 1024 * 12])), "1024 x 4 pixels");
    assert_says(read(&png_of(1024, 3, grey, &[0; 1024 * 3])), "Grayscale of 8 bits");
    assert_says(read(&png_of(1024, 3, rgba, &[0; 1024 * 12])), "Rgba of 8 bits");
    let good = png(&batch(0));
    assert_says(read(&good[..good.len() / 2]), "not a readable PNG");
    assert_says(read(&good[..20]), "not a readable PNG");
}

#[test]
fn json_rejects_what_is_not_a_list_of_labels() {
    let read = |json: &str| npm::labels(file(), json.as_bytes(), 3);
    assert_eq!(read(" [1, 2,\n9]").unwrap(), [1, 2, 9]);
    assert_says(read("[1,2,10]"), "record 2 has label 10");
    assert_says(read("[-1,2,3]"), "record 0 has label -1");
    assert_says(read("[1,2]"), "expected 3 labels, found 2");
    assert_says(read("[1,2,3"), "not a readable JSON");
    assert_says(read("{\"a\":1}"), "not a readable JSON");
    assert_says(read("[1,2,\"3\"]"), "not a readable JSON");
}

fn unpack(bytes: &[u8]) -> Result<std::collections::BTreeMap<&'static str, Vec<u8>>, Error> {
    archive::members(file(), bytes, &["data_batch_1.bin", "test_batch.bin"], 10_000)
}

#[test]
fn archive_gives_the_wanted_members() {
    let members = unpack(&binary_archive()).unwrap();
    assert_eq!(members.len(), 2);
    assert_eq!(members["data_batch_1.bin"], batch(0));
    assert_eq!(members["test_batch.bin"], batch(5));
}

#[test]
fn archive_rejects_broken_ones() {
    let good = binary_archive();
    assert_says(unpack(b"not an archive"), "not a readable tar.gz");
    assert_says(unpack(&good[..good.len() / 2]), "not a readable tar.gz");
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 1;
    damaged[good.len() / 2 + 1] ^= 255;
    // In a member that is not wanted: only the checksum at the end can tell.
    assert_says(unpack(&damaged), "not a readable tar.gz");
    let long = tar_gz("x", &[("test_batch.bin".into(), vec![0; 10_001])]);
    assert_says(unpack(&long), "a_file/test_batch.bin: expected at most 10000 bytes, found 10001");
    // A header that claims more than there is.
    let mut header = tar::Header::new_ustar();
    header.set_path("test_batch.bin").unwrap();
    header.set_size(9_000);
    header.set_cksum();
    let tar = [header.as_bytes().as_slice(), &[7; 600]].concat();
    let mut gz = flate2::read::GzEncoder::new(&tar[..], flate2::Compression::fast());
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut gz, &mut bytes).unwrap();
    assert_says(unpack(&bytes), "test_batch.bin");
}

/// Bytes of a good file after up to eight changes of a byte, then a cut, a repetition or neither.
fn mutated(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let place = 0..good.len();
    // Half of the changes fall on the first 400 bytes, where headers and opcodes are.
    let near = 0..good.len().min(400);
    let change = (prop_oneof![near, place.clone()], any::<u8>());
    (proptest::collection::vec(change, 0..8), place, 0..3).prop_map(move |(changes, place, end)| {
        let mut bytes = good.clone();
        for (at, value) in changes {
            bytes[at] = value;
        }
        match end {
            0 => bytes.truncate(place),
            1 => bytes.extend_from_within(place..),
            _ => {}
        }
        bytes
    })
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data").join(name)).unwrap()
}

/// The operations of pickles that are known, and bytes that some of them take.
const OPCODES: &[u8] =
    b"(.012NJKMGUTCBX)]}taelsudqrhjcRb\x81\x85\x86\x87\x88\x8a\x8c\x8f\x90\x93\x94\x00\x01\n";

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// A reader gives records that pass the check, or an error; it does not panic.
    #[test]
    fn mutated_binary(bytes in mutated(batch(0))) {
        match binary::check(file(), &bytes, RECORDS) {
            Ok(()) => {
                let (mut images, mut labels) = (vec![0; RECORDS * IMAGE], vec![0; RECORDS]);
                binary::unpack(&bytes, &mut images, &mut labels);
                prop_assert!(labels.iter().all(|&label| label < 10));
            }
            Err(error) => prop_assert!(error.to_string().contains(FILE)),
        }
    }

    #[test]
    fn mutated_pickle(
        bytes in prop_oneof![
            mutated(pickle(&batch(0)[..2 * RECORD])),
            mutated(fixture("numpy2_p5.pickle")),
            mutated(fixture("numpy2_p2.pickle")),
        ]
    ) {
        if let Ok(records) = python::records(file(), &bytes, 2) {
            binary::check(file(), &records, 2).unwrap();
        }
    }

    /// Opcodes in any order, where a mutated file rarely gets beyond its first error.
    #[test]
    fn random_pickle(opcodes in proptest::collection::vec(
        proptest::sample::select(OPCODES),
        0..60,
    )) {
        if let Ok(records) = python::records(file(), &opcodes, 2) {
            binary::check(file(), &records, 2).unwrap();
        }
    }

    #[test]
    fn mutated_png(bytes in mutated(png(&batch(0)))) {
        if let Ok(records) = npm::records(file(), &bytes, &[1; RECORDS], RECORDS) {
            binary::check(file(), &records, RECORDS).unwrap();
        }
    }

    #[test]
    fn mutated_json(bytes in mutated(b"[6,9,9,4,1,1,2,7,8,3]".to_vec())) {
        if let Ok(labels) = npm::labels(file(), &bytes, 10) {
            prop_assert!(labels.len() == 10 && labels.iter().all(|&label| label < 10));
        }
    }

    #[test]
    fn mutated_archive(bytes in mutated(binary_archive())) {
        if let Ok(members) = unpack(&bytes) {
            prop_assert!(members.values().all(|bytes| bytes.len() <= 10_000));
        }
    }

    /// Past the compression, where the tar's own headers are.
    #[test]
    fn mutated_tar(tar in mutated(std::io::Read::bytes(flate2::read::GzDecoder::new(&binary_archive()[..]))
        .collect::<Result<Vec<u8>, _>>().unwrap()))
    {
        let mut gz = Vec::new();
        let mut encoder = flate2::read::GzEncoder::new(&tar[..], flate2::Compression::none());
        std::io::Read::read_to_end(&mut encoder, &mut gz).unwrap();
        if let Ok(members) = unpack(&gz) {
            prop_assert!(members.values().all(|bytes| bytes.len() <= 10_000));
        }
    }
}

//! The one door of all files: what holds for a header whatever the file is read as.

use std::fs;
use std::path::Path;

use crate::support::chain::{ID, Run, names, small};
use crate::support::safetensors::raw;
use fishmask::checkpoint::chain::{Chain, Workers};
use fishmask::checkpoint::{full, weights};
use fishmask::mask::file;
use tempfile::tempdir;

/// What each reader says of a file, the path left out.
fn refusals(path: &Path) -> [String; 4] {
    let errors = [
        weights::load(path, &small()).unwrap_err().to_string(),
        full::load(path, ID, &small()).unwrap_err().to_string(),
        file::load(path).unwrap_err().to_string(),
        Workers::open(path, ID).unwrap_err().to_string(),
    ];
    errors.map(|text| text.strip_prefix(&format!("{}: ", path.display())).unwrap().to_string())
}

#[test]
fn all_refuse_the_same_headers() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("f");
    let tensor = |shape: &str, begin: u64, end: u64| {
        format!(r#"{{"dtype":"U8","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    };
    for (header, expected) in [
        (format!(r#"{{"a":{}}}"#, tensor("[8]", 0, 8)), "its tensors take 8 bytes, and there are 4"),
        (format!(r#"{{"a":{}}}"#, tensor("[2]", 0, 2)), "its tensors take 2 bytes, and there are 4"),
        (format!(r#"{{"a":{}}}"#, tensor("[3]", 1, 4)), "tensor a begins at byte 1 of the data, not at 0"),
        (format!(r#"{{"a":{0},"b":{0}}}"#, tensor("[4]", 0, 4)), "tensor b begins at byte 0 of the data"),
        (format!(r#"{{"a":{}}}"#, tensor("[5]", 0, 4)), "tensor a of U8 and shape [5] cannot end at 4"),
        (format!(r#"{{"a":{}}}"#, tensor("[4294967296,4294967296]", 0, 4)), "cannot end at 4"),
        (format!(r#"{{"a":{}}}"#, tensor("[4]", 4, 0)), "tensor a begins at byte 4"),
        (format!(r#"{{"a":{0},"a":{0}}}"#, tensor("[4]", 0, 4)), "tensor a is there twice"),
        ("[".repeat(1000), "invalid type"),
        ("{".into(), "EOF while parsing"),
    ] {
        fs::write(&path, raw(&header, &[0; 4])).unwrap();
        for text in refusals(&path) {
            assert!(text.starts_with("not a safetensors file, or cut short or damaged: "), "{text}");
            assert!(text.contains(expected), "{text}");
        }
    }
}

/// A header's length is looked at before the header.
#[test]
fn a_long_header_is_not_read() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("f");
    let write = |header: u64| {
        // The file is as long as it says, in holes.
        let file = fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut &file, &header.to_le_bytes()).unwrap();
        file.set_len(8 + header.min(1 << 40)).unwrap();
    };
    for header in [100_000_001, 1 << 33, u64::MAX - 8, u64::MAX] {
        write(header);
        let [weights, others @ ..] = refusals(&path);
        assert!(weights.contains(&format!("{header} bytes, and 100000000 are the most")), "{weights}");
        for text in others {
            assert!(text.contains(&format!("{header} bytes, and 1000000 are the most")), "{text}");
        }
    }
    write(1_000_001);
    for text in &refusals(&path)[1..] {
        assert!(text.contains("1000001 bytes, and 1000000 are the most"), "{text}");
    }
    // Weights with the entry of this program's have a header of this program's.
    let metadata = r#""__metadata__":{"fishmask":"{}"}"#;
    fs::write(&path, raw(&format!("{{{metadata}}}{}", " ".repeat(1_000_000)), &[])).unwrap();
    let text = weights::load(&path, &small()).unwrap_err().to_string();
    assert!(text.contains("and this program's have at most 1000000"), "{text}");
}

#[test]
fn a_chain_refuses_a_long_header_of_any_of_its_files() {
    let folder = tempdir().unwrap();
    let mut run = Run::new(small());
    let mut writer = run.open(folder.path());
    run.base(&mut writer);
    run.choose(5);
    run.begin_mask(&mut writer);
    run.train(1, 0);
    run.delta(&mut writer);
    for name in names(folder.path()) {
        let path = folder.path().join(&name);
        let good = fs::read(&path).unwrap();
        let begin = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
        let long = [&good[8..begin], &vec![b' '; 1_000_000]].concat();
        fs::write(&path, [&(long.len() as u64).to_le_bytes(), &long[..], &good[begin..]].concat()).unwrap();
        let chain = Chain::read(folder.path(), ID, &small()).unwrap();
        let bad = chain.verify().into_iter().rfind(|file| file.path == path).unwrap().result.unwrap_err();
        assert!(bad.to_string().contains("bytes, and 1000000 are the most"), "{bad}");
        fs::write(&path, good).unwrap();
    }
}

/// What comes through a pipe has no length: the head is read first, and then no more than it tells of.
#[cfg(unix)]
#[test]
fn pipes_are_read_to_the_end_that_the_head_tells() {
    use std::os::unix::fs::FileTypeExt;
    let folder = tempdir().unwrap();
    let (file, pipe) = (folder.path().join("f"), folder.path().join("pipe"));
    let values: Vec<f32> = (0..39).map(|i| i as f32).collect();
    weights::save(&file, ID, &small(), &values[..29], &values[29..]).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    let good = fs::read(&file).unwrap();
    let through = |bytes: Vec<u8>| {
        let to = pipe.clone();
        // The reader may go before the end.
        let writer = std::thread::spawn(move || drop(fs::write(to, bytes)));
        let loaded = weights::load(&pipe, &small());
        writer.join().unwrap();
        loaded
    };
    assert_eq!(through(good.clone()).unwrap().weights, values[..29]);
    let text = through(good[..good.len() - 1].to_vec()).unwrap_err().to_string();
    assert!(text.contains("its tensors take 156 bytes, and there are 155"), "{text}");
    let text = through([&good[..], &[0; 100_000]].concat()).unwrap_err().to_string();
    assert!(text.contains("its tensors take 156 bytes, and there are 157"), "{text}");
}

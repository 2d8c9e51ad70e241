//! Downloading a file over HTTP.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::agent::agent;
use super::error::Error;
use super::files::{md5_of, remove};
use super::options::Progress;
use super::place::Place;

/// Most bytes a download may have. CIFAR-10's archive has 170 million.
const LIMIT: u64 = 1 << 30;

/// Downloads `url` to the file `target`, whose md5 must be `digest` if one is given.
///
/// What arrives is kept in `target` + `.part` and the rest asked for after a cut, in this call as long as
/// each attempt brings something new, or in a later one. A server that cannot continue sends it all again.
/// Content of the wrong md5 is deleted, and asked for once more in whole if it came in pieces. `place`, the
/// target's folder, is made with the first bytes; once it is closed, the download ends.
///
/// # Errors
/// [`Error::Download`], [`Error::Digest`], [`Error::Network`], [`Error::Io`] for the folder.
pub fn download(
    url: &str,
    target: &Path,
    digest: Option<&str>,
    place: &Place,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let part = part_of(target);
    let agent = agent(url)?;
    let mut furthest = length(&part)?;
    let mut restarted = false;
    loop {
        let (pieced, error) = match attempt(&agent, url, &part, place, progress)? {
            Attempt::Cut(problem) if place.is_closed() => return Err(failed(url, problem)),
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
                progress(Progress::Verifying { what: url.into() });
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
    let put = || fs::rename(&part, target).map_err(Error::io(target, "create this file"));
    sync.map_err(Error::io(&part, "write this file"))?;
    place.enter(put)?.ok_or_else(|| failed(url, UNWANTED))
}

/// Where the beginning of a download to `target` is kept.
pub(super) fn part_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Why a download that was stopped has failed.
const UNWANTED: &str = "it is no longer wanted";

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
    place: &Place,
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

    let open = || {
        let mut options = OpenOptions::new();
        options.create(true).write(true).append(continued).truncate(!continued);
        options.open(part).map_err(Error::io(part, "write this file"))
    };
    let mut file = None;
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        progress(Progress::Downloading { what: url.into(), bytes, total });
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => return Ok(Attempt::Cut(error.to_string())),
        };
        if file.is_none() {
            file = place.enter(open)?;
        }
        let Some(file) = file.as_mut().filter(|_| !place.is_closed()) else {
            return Ok(Attempt::Cut(UNWANTED.into()));
        };
        file.write_all(&buffer[..count]).map_err(Error::io(part, "write this file"))?;
        bytes += count as u64;
        if bytes > LIMIT {
            remove(part)?;
            return Err(failed(url, format!("it is longer than {LIMIT} bytes")));
        }
    }
    if file.is_none() {
        return Ok(Attempt::Cut("the server sends nothing".into()));
    }
    Ok(match total {
        Some(total) if bytes < total => Attempt::Cut(format!("it ends after {bytes} of {total} bytes")),
        _ => Attempt::Complete { pieced: continued },
    })
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

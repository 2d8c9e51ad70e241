//! `status.json`: whether a run trains, and how it ended, for whoever watches many runs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folder::STATUS;
use crate::checkpoint::{self, atomic};
use crate::settings::now;
use crate::train::{Error, Event, Listener, Outcome};

/// What `status.json` says of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// What the run is doing, or how it ended.
    pub state: State,
    /// The machine on which it trains or trained last.
    pub host: String,
    /// Its process there. A run that says `running` and has no such process was killed.
    pub pid: u32,
    /// Whole epochs behind it.
    pub epoch: u32,
    /// Epochs in all.
    pub epochs: u32,
    /// Test accuracy after the last whole epoch of this process, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_accuracy: Option<f64>,
    /// The data set's name.
    pub data: String,
    /// What a reader of results must know of the data set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
    /// The sentence with which the run stopped, diverged or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When this was written, UTC.
    pub written: String,
}

/// What a run is doing, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It trains.
    Running,
    /// It was told to stop, and can be resumed.
    Stopped,
    /// All its epochs are done.
    Finished,
    /// Its loss was no longer finite.
    Diverged,
    /// Something else went wrong.
    Failed,
}

impl Status {
    /// Reads a run's status; none where the run has none, or one that makes no sense.
    pub fn read(run: &Path) -> Option<Status> {
        serde_json::from_slice(&std::fs::read(run.join(STATUS)).ok()?).ok()
    }

    /// Writes it into a run's folder, whole.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write(&mut self, run: &Path) -> Result<(), checkpoint::Error> {
        self.written = now();
        let json = serde_json::to_string_pretty(self).unwrap_or_default();
        atomic::write_bytes(&run.join(STATUS), format!("{json}\n").as_bytes())
    }

    /// Writes that all epochs of a run are done, if it does not say so: it may have been killed just before.
    pub fn finish(run: &Path) {
        if let Some(mut status) = Status::read(run).filter(|status| status.state != State::Finished) {
            (status.state, status.reason, status.epoch) = (State::Finished, None, status.epochs);
            let _ = status.write(run);
        }
    }

    /// Writes that a run ended with an error, after what it said of itself before. A status is a help to the
    /// reader: where it cannot be written, the error itself is what is told.
    pub fn fail(run: &Path, error: &Error) {
        if let Some(mut status) = Status::read(run) {
            let diverged = matches!(error, Error::NotFinite { .. });
            status.state = if diverged { State::Diverged } else { State::Failed };
            status.reason = Some(error.to_string());
            let _ = status.write(run);
        }
    }
}

/// Keeps a run's `status.json`.
#[derive(Debug)]
pub struct StatusFile {
    run: PathBuf,
    host: String,
    status: Option<Status>,
}

impl StatusFile {
    /// The file of a run that trains on this machine.
    pub fn new(run: &Path, host: String) -> Self {
        StatusFile { run: run.to_path_buf(), host, status: None }
    }
}

impl Listener for StatusFile {
    fn hear(&mut self, event: &Event) -> Result<(), Error> {
        match event {
            Event::Started(run) => {
                self.status = Some(Status {
                    state: State::Running,
                    host: self.host.clone(),
                    pid: std::process::id(),
                    epoch: run.resumed.map_or(0, |at| at.epoch),
                    epochs: run.config.train.epochs,
                    test_accuracy: None,
                    data: run.data.name.into(),
                    remark: run.data.remark.map(String::from),
                    reason: None,
                    written: String::new(),
                });
            }
            Event::Epoch(report) => {
                let Some(status) = &mut self.status else { return Ok(()) };
                (status.epoch, status.test_accuracy) = (report.epoch, Some(report.test_accuracy));
            }
            Event::Ended { outcome, .. } => {
                let Some(status) = &mut self.status else { return Ok(()) };
                (status.state, status.reason) = match outcome {
                    Outcome::Finished(_) | Outcome::NothingLeft { .. } => (State::Finished, None),
                    Outcome::Interrupted(why) => (State::Stopped, Some(format!("stopped by {why}"))),
                };
            }
            _ => return Ok(()),
        }
        let Some(status) = &mut self.status else { return Ok(()) };
        Ok(status.write(&self.run)?)
    }
}

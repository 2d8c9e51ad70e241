//! Where a run was trained, and by which command.

use serde::{Deserialize, Serialize};

use crate::checkpoint::Origin;

/// One start of a run: `config.json` has one for the beginning, and one for each time the run was resumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The program's version, with the commit where the build knew it.
    pub version: String,
    /// The command line, quoted for a shell.
    pub command: String,
    /// The machine's name.
    pub host: String,
    /// The device in words: a GPU's with its driver, a CPU's with its model.
    pub device: String,
    /// Threads of the program.
    pub threads: usize,
    /// The data set's name, which tells changed data from the published.
    pub set: String,
    /// The digests of the images and labels that were used, and of the settings.
    #[serde(flatten)]
    pub origin: Origin,
    /// When it began, UTC.
    pub began: String,
    /// When it ended, UTC; absent while it trains, and where it was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

/// Returns the moment, UTC, as a run's files say it: `2026-07-31T12:00:00Z`.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

//! Whether a run can go on as it was begun: settings, schedule, images.

use std::path::Path;

use super::Error;
use crate::checkpoint::chain::Restored;
use crate::checkpoint::{Moment, Origin};
use crate::records::FolderError;
use crate::settings::{Config, Edit, Request};

/// The settings that a run goes on with: its own, with as many epochs as asked for if those are more.
pub(super) fn settings(
    folder: &Path,
    run: &Config,
    edits: Vec<Edit>,
    asked: &Request,
) -> Result<Config, Error> {
    let repeated = |edit: &Edit| asked.get(edit.key).is_some();
    let edits: Vec<Edit> = edits.into_iter().filter(|edit| !repeated(edit)).collect();
    if !edits.is_empty() {
        return Err(FolderError::Edited { path: folder.join("config.json"), edits }.into());
    }
    let mut config = run.clone();
    let epochs = asked.get("train.epochs").and_then(|given| given.value.as_u64());
    if let Some(epochs) = epochs.and_then(|epochs| u32::try_from(epochs).ok()) {
        config.train.epochs = config.train.epochs.max(epochs);
    }
    config.agrees(asked)?;
    Ok(config)
}

/// Whether the epochs that are done would have been trained at the same learning rates under other settings.
pub(super) fn check_schedule(
    folder: &Path,
    before: &Config,
    config: &Config,
    at: Moment,
) -> Result<(), Error> {
    let (old, new) = (before.schedule(), config.schedule());
    // The epoch that is begun counts as done.
    let done = f64::from(at.epoch) + f64::from(u8::from(at.step > 0));
    // Both are linear from the peak on.
    let differs = [done.min(before.schedule.peak_epoch), done.min(config.schedule.peak_epoch), done]
        .into_iter()
        .find(|epoch| old.at(*epoch) != new.at(*epoch));
    let Some(epoch) = differs else { return Ok(()) };
    Err(Error::Longer {
        epochs: config.train.epochs,
        before: before.train.epochs,
        epoch,
        rates: [old.at(epoch), new.at(epoch)],
        weights: folder.join("final.safetensors"),
    })
}

/// Whether the images, and the settings of the checkpoint that is resumed, are the run's.
pub(super) fn check_origin(
    folder: &Path,
    config: &Config,
    checkpoint: Option<&Restored>,
    origin: Origin,
) -> Result<(), Error> {
    let before = config.sessions.last().map(|session| session.origin);
    let kept = checkpoint.and_then(|restored| restored.progress.origin);
    if let Some(run) = kept.or(before).filter(|run| run.data != origin.data) {
        return Err(Error::OtherImages { run: run.data.to_string(), found: origin.data.to_string() });
    }
    let known = |settings| {
        settings == origin.settings || config.sessions.iter().any(|s| s.origin.settings == settings)
    };
    match kept {
        Some(kept) if !known(kept.settings) => Err(Error::OtherSettings { folder: folder.to_path_buf() }),
        _ => Ok(()),
    }
}

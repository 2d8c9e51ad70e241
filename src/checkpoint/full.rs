//! Full checkpoints: all that a resumed run needs to end with the bits of one that was never stopped.
//!
//! A safetensors file holds the weights and running statistics as [`super::weights`] does, the velocity, if there is
//! one, as `velocity.<parameter>`, and one metadata entry, `fishmask`, with the rest as JSON. Numbers that JSON would round
//! are written as the hexadecimal of their bits. An md5 over all of it tells damage from content.

use std::fs;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use super::container::{self, KEY, Tensor};
use super::hash::Hash;
use super::weights::{self, Expected, Flat};
use super::{Error, Problem, atomic, bits, chain};
use crate::graph::{Layout, Model};
use crate::ops::Totals;

/// Changes whenever a file written by one program cannot be read by the other.
const FORMAT: u32 = 1;
/// Full checkpoints a run keeps, and states of workers.
pub(super) const KEPT: usize = 2;

/// A run between two steps. Vectors are in memory order.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Epochs completed.
    pub epoch: u32,
    /// Steps done of the epoch after those.
    pub batch: u32,
    /// Training totals of that epoch so far.
    pub totals: Totals,
    /// Training time of that epoch so far, in seconds.
    pub train_seconds: f64,
    /// Training time before that epoch, in seconds.
    pub total_seconds: f64,
    /// Weights.
    pub weights: Vec<f32>,
    /// Velocity, one a weight; none for the merged model of several workers, who have their own in a file beside it
    /// ([`super::chain::save_workers`]).
    pub velocity: Option<Vec<f32>>,
    /// Running statistics.
    pub running: Vec<f32>,
    /// The mask in force, whose file lies beside the checkpoint; none when training is dense.
    pub mask: Option<Hash>,
}

/// The JSON of the metadata entry.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    format: u32,
    pub model: Model,
    pub width: usize,
    pub epoch: u32,
    pub batch: u32,
    #[serde(with = "bits")]
    pub loss: f64,
    pub correct: u64,
    pub images: u64,
    #[serde(with = "bits")]
    pub train_seconds: f64,
    #[serde(with = "bits")]
    pub total_seconds: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Hash>,
    /// Of this JSON with an empty md5, then of every tensor's bytes: weights, statistics, velocity.
    md5: String,
}

/// The name of the checkpoint after `epoch` epochs and `batch` steps of the next; sorted by name, they are sorted by
/// time.
pub fn file_name(epoch: u32, batch: u32) -> String {
    format!("epoch-{epoch:04}-step-{batch:05}.safetensors")
}

/// Writes a checkpoint into `folder` and, once it is safely there, removes all but the newest two. Returns its path.
///
/// # Errors
/// When it cannot be written, or an old one not removed.
///
/// # Panics
/// If a vector is not as long as the layout says.
pub fn save(
    folder: &Path,
    (model, width): (Model, usize),
    layout: &Layout,
    state: &State,
) -> Result<PathBuf, Error> {
    let path = folder.join(file_name(state.epoch, state.batch));
    let mut tensors = weights::tensors(layout, &state.weights, &state.running);
    if let Some(velocity) = &state.velocity {
        let velocity = layout.to_canonical(velocity);
        let tensor = |t: Expected| Tensor::new(t.name, t.shape, &velocity[t.range]);
        tensors.extend(velocities(layout).into_iter().map(tensor));
    }
    let mut header = Header {
        format: FORMAT,
        model,
        width,
        epoch: state.epoch,
        batch: state.batch,
        loss: state.totals.loss,
        correct: state.totals.correct,
        images: state.totals.images,
        train_seconds: state.train_seconds,
        total_seconds: state.total_seconds,
        mask: state.mask,
        md5: String::new(),
    };
    let json = |header: &Header| {
        serde_json::to_string(header).map_err(|e| Error::io(&path, "write it")(std::io::Error::other(e)))
    };
    header.md5 = digest(&json(&header)?, tensors.iter().map(|t| &t.bytes[..]));
    container::save(&path, &tensors, Some((KEY, json(&header)?)))?;
    prune(folder, state)?;
    Ok(path)
}

/// Reads a checkpoint.
///
/// # Errors
/// When it cannot be read, is not a full checkpoint, is of another model or width, or is damaged.
pub fn load(path: &Path, (model, width): (Model, usize), layout: &Layout) -> Result<State, Error> {
    let bytes = container::read(path)?;
    let file = container::parse(path, &bytes)?;
    let mut header = parse_header(path, container::metadata(path, &bytes)?.as_deref())?;
    if (header.model, header.width) != (model, width) {
        let name = |(model, width)| format!("{model} of width {width}");
        let (expected, found) = (name((model, width)), name((header.model, header.width)));
        return Err(Error::new(path, Problem::Model { expected, found }));
    }
    // With none of them it was saved without; with some the others are missing.
    let with_velocity = file.names().iter().any(|name| name.starts_with("velocity."));
    let velocities = || if with_velocity { velocities(layout) } else { vec![] };
    let all: Vec<Expected> = weights::expected(layout).into_iter().chain(velocities()).collect();
    weights::check(path, &file, &all, layout)?;

    let expected = std::mem::take(&mut header.md5);
    let json =
        serde_json::to_string(&header).map_err(|e| Error::io(path, "read it")(std::io::Error::other(e)))?;
    let found = digest(&json, all.iter().filter_map(|t| Some(file.tensor(&t.name).ok()?.data())));
    if expected != found {
        return Err(Error::new(path, Problem::Digest { expected, found }));
    }
    let mut flat = Flat::new(layout);
    flat.take(&file, &weights::expected(layout));
    let velocity = with_velocity.then(|| {
        let mut velocity = Flat::new(layout);
        velocity.take(&file, &velocities());
        layout.to_memory(&velocity.weights)
    });
    Ok(State {
        epoch: header.epoch,
        batch: header.batch,
        totals: Totals { loss: header.loss, correct: header.correct, images: header.images },
        train_seconds: header.train_seconds,
        total_seconds: header.total_seconds,
        weights: layout.to_memory(&flat.weights),
        velocity,
        running: flat.running,
        mask: header.mask,
    })
}

/// Removes all but the newest [`KEPT`] checkpoints up to `state`. Later ones are left alone: they cannot be of
/// this run, and are not ours to judge.
fn prune(folder: &Path, state: &State) -> Result<(), Error> {
    let now = (state.epoch, state.batch);
    let mut paths = list(folder, parse_name)?;
    paths.retain(|(time, _)| *time <= now);
    let surplus = paths.len().saturating_sub(KEPT);
    for (_, path) in &paths[..surplus] {
        fs::remove_file(path).map_err(Error::io(path, "remove it"))?;
    }
    // Workers' states after their checkpoints, so that none is ever without; and those whose checkpoint never came to be.
    let there = list(folder, |name| parse_name(&name.replacen(".delta.", ".", 1)))?;
    let has_none = |time: &Time| *time <= now && there.binary_search_by_key(time, |(time, _)| *time).is_err();
    let orphans = list(folder, chain::workers_time)?.into_iter().filter(|(time, _)| has_none(time));
    for (i, (_, path)) in orphans.enumerate() {
        if i == 0 {
            atomic::sync_folder(folder).map_err(Error::io(folder, "sync it"))?;
        }
        fs::remove_file(&path).map_err(Error::io(&path, "remove it"))?;
    }
    Ok(())
}

/// Epochs completed and steps done of the next.
pub(super) type Time = (u32, u32);

/// Files by the time in their name, oldest first.
pub(super) fn list(
    folder: &Path,
    time: impl Fn(&str) -> Option<Time>,
) -> Result<Vec<(Time, PathBuf)>, Error> {
    let mut paths = vec![];
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "list it"))? {
        let path = entry.map_err(Error::io(folder, "list it"))?.path();
        if let Some(time) = path.file_name().and_then(|name| time(&name.to_string_lossy())) {
            paths.push((time, path));
        }
    }
    paths.sort();
    Ok(paths)
}

/// Epoch and batch of a checkpoint's file name.
pub(super) fn parse_name(name: &str) -> Option<Time> {
    let middle = name.strip_prefix("epoch-")?.strip_suffix(".safetensors")?;
    let (epoch, batch) = middle.split_once("-step-")?;
    Some((epoch.parse().ok()?, batch.parse().ok()?))
}

/// The velocity's tensors: as the parameters', under names of their own.
fn velocities(layout: &Layout) -> Vec<Expected> {
    let own = weights::expected(layout).into_iter().filter(|t| !t.statistic);
    own.map(|t| Expected { name: format!("velocity.{}", t.name), ..t }).collect()
}

/// Reads the metadata entry.
pub(super) fn parse_header(path: &Path, json: Option<&str>) -> Result<Header, Error> {
    let bad = |reason: String| Error::new(path, Problem::NotCheckpoint { reason });
    let json = json
        .ok_or_else(|| bad(format!("it has no metadata entry `{KEY}`; weights alone cannot be resumed")))?;
    // The format first: the rest is only known to be there in this one.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let reason = |e: serde_json::Error| bad(format!("metadata entry `{KEY}`: {e}"));
    let Format { format } = serde_json::from_str(json).map_err(reason)?;
    if format != FORMAT {
        return Err(bad(format!("its format is version {format}; this program reads version {FORMAT}")));
    }
    serde_json::from_str(json).map_err(reason)
}

fn digest<'a>(json: &str, tensors: impl Iterator<Item = &'a [u8]>) -> String {
    let mut md5 = Md5::new();
    md5.update(json);
    tensors.for_each(|bytes| md5.update(bytes));
    md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

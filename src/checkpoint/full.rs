//! Full checkpoints: all that a resumed run needs to end with the bits of one that was never stopped.
//!
//! A safetensors file holds the weights and running statistics as [`super::weights`] does, the velocity, if
//! there is one, as `velocity.<parameter>`, and one metadata entry, `fishmask`, with the rest as JSON.
//! Numbers that JSON would round are written as the hexadecimal of their bits. An md5 over all of it tells
//! damage from content.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use super::container::{self, File, OURS, Tensor};
use super::file_kind::FileKind;
use super::hash::Hash;
use super::tensors::{self, Expected, Flat, Found};
use super::{Error, Moment, Problem, Progress, atomic};
use crate::graph::{Layout, ModelId};

/// Changes whenever a file written by one program cannot be read by the other.
const FORMAT: u32 = 1;
/// Full checkpoints a run keeps, and states of workers.
pub(super) const KEPT: usize = 2;

/// A run between two steps. Vectors are in memory order.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Where the run is; its test accuracy is not kept.
    pub progress: Progress,
    /// All weights.
    pub weights: Vec<f32>,
    /// Velocity, one a weight; none for the merged model of several workers, who have their own in a file
    /// beside it ([`super::chain::save_workers`]).
    pub velocity: Option<Vec<f32>>,
    /// All running statistics, in the layout's order.
    pub running: Vec<f32>,
    /// The mask in force, whose file lies beside the checkpoint; none when training is dense.
    pub mask: Option<Hash>,
}

/// The JSON of the metadata entry.
#[derive(Serialize, Deserialize)]
pub(super) struct Header {
    format: u32,
    #[serde(flatten)]
    pub id: ModelId,
    #[serde(flatten)]
    pub progress: Progress,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Hash>,
    /// Of this JSON with an empty md5, then of every tensor's bytes: weights, statistics, velocity.
    md5: String,
}

/// Writes a checkpoint into `folder` and, once it is safely there, removes all but the newest two. Returns
/// its path.
///
/// # Errors
/// When it cannot be written, or an old one not removed.
///
/// # Panics
/// If a vector is not as long as the layout says.
pub fn save(folder: &Path, id: ModelId, layout: &Layout, state: &State) -> Result<PathBuf, Error> {
    let progress = Progress { test_accuracy: None, ..state.progress };
    let path = folder.join(FileKind::Full.file_name(progress.at));
    let canonical = layout.to_canonical(&state.weights);
    let velocity = state.velocity.as_ref().map(|velocity| layout.to_canonical(velocity));
    let mut tensors = tensors::tensors(layout, &canonical, &state.running);
    if let Some(velocity) = &velocity {
        let tensor = |t: Expected| Tensor { name: t.name, shape: t.shape, values: &velocity[t.range] };
        tensors.extend(velocities(layout).into_iter().map(tensor));
    }
    let mut header = Header { format: FORMAT, id, progress, mask: state.mask, md5: String::new() };
    let json = |header: &Header| {
        serde_json::to_string(header).map_err(|e| Error::io(&path, "write it")(std::io::Error::other(e)))
    };
    header.md5 = digest(&json(&header)?, tensors.iter().map(|t| container::little_endian(t.values)));
    let json = json(&header)?;
    container::save(&path, tensors, &|_| Ok(Some(json.clone())))?;
    prune(folder, progress.at)?;
    Ok(path)
}

/// Reads a checkpoint.
///
/// # Errors
/// When it cannot be read, is not a full checkpoint, is of another model or width, or is damaged.
pub fn load(path: &Path, id: ModelId, layout: &Layout) -> Result<State, Error> {
    let file = File::read(path, OURS)?;
    let json = file.head.json.as_deref();
    let header = parse_header(path, json)?;
    if header.id != id {
        return Err(Error::new(path, Problem::Model { expected: id, found: header.id }));
    }
    // With none of them it was saved without; with some the others are missing.
    let with_velocity = file.head.names.iter().any(|name| name.starts_with("velocity."));
    let velocities = || if with_velocity { velocities(layout) } else { vec![] };
    let all: Vec<Expected> = tensors::expected(layout).into_iter().chain(velocities()).collect();
    let tensors = Found::new(&file);
    tensors.check(&all, layout, &[Dtype::F32])?;
    tensors.only(&all)?;

    let expected = header.md5;
    let blank = container::without_digest(json.unwrap_or_default(), &expected);
    let found = digest(&blank, all.iter().filter_map(|t| Some(file.tensor(&t.name)?.bytes.into())));
    if expected != found {
        return Err(Error::new(path, Problem::Digest { expected, found }));
    }
    let mut flat = Flat::new(layout);
    tensors.take(&tensors::expected(layout), &mut flat);
    let velocity = with_velocity.then(|| {
        let mut velocity = Flat::new(layout);
        tensors.take(&velocities(), &mut velocity);
        layout.to_memory(&velocity.weights)
    });
    Ok(State {
        progress: header.progress,
        weights: layout.to_memory(&flat.weights),
        velocity,
        running: flat.running,
        mask: header.mask,
    })
}

/// Removes all but the newest [`KEPT`] checkpoints up to now. Later ones are left alone: they cannot be of
/// this run, and are not ours to judge.
fn prune(folder: &Path, now: Moment) -> Result<(), Error> {
    let mut files = FileKind::list(folder, &[FileKind::Full])?;
    files.retain(|(at, _)| *at <= now);
    let surplus = files.len().saturating_sub(KEPT);
    for (_, path) in &files[..surplus] {
        fs::remove_file(path).map_err(Error::io(path, "remove it"))?;
    }
    // Workers' states go after their checkpoints, so that none is ever without; so do those whose checkpoint
    // never came to be.
    let there = FileKind::list(folder, &[FileKind::Full, FileKind::Delta])?;
    let has_none = |at: &Moment| *at <= now && there.binary_search_by_key(at, |(at, _)| *at).is_err();
    let workers = FileKind::list(folder, &[FileKind::Workers])?;
    for (i, (_, path)) in workers.iter().filter(|(at, _)| has_none(at)).enumerate() {
        if i == 0 {
            atomic::sync_folder(folder).map_err(Error::io(folder, "sync it"))?;
        }
        fs::remove_file(path).map_err(Error::io(path, "remove it"))?;
    }
    Ok(())
}

/// The velocity's tensors: as the parameters', under names of their own.
fn velocities(layout: &Layout) -> Vec<Expected> {
    let own = tensors::expected(layout).into_iter().filter(|t| !t.statistic);
    own.map(|t| Expected { name: format!("velocity.{}", t.name), ..t }).collect()
}

/// Reads the metadata entry, which weights alone have not.
pub(super) fn parse_header(path: &Path, json: Option<&str>) -> Result<Header, Error> {
    let bad = |reason: String| match json {
        Some(_) => reason,
        None => reason + "; weights alone cannot be resumed",
    };
    container::parse_entry(json, FORMAT)
        .map_err(|reason| Error::new(path, Problem::NotCheckpoint { reason: bad(reason) }))
}

/// The md5 of the metadata entry without it, then of the tensors.
fn digest<'a>(json: &str, tensors: impl Iterator<Item = Cow<'a, [u8]>>) -> String {
    let mut md5 = Md5::new();
    md5.update(json);
    tensors.for_each(|bytes| md5.update(bytes));
    md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

//! What a single file of a folder of checkpoints is, by its name and head.

use std::fs;
use std::path::{Path, PathBuf};

use super::Progress;
use super::file::{self, Head};
use super::header::{Contents, Header};
use super::index::{Checkpoint, Kind, MaskFile, WorkersFile};
use crate::checkpoint::full::{self, Time};
use crate::checkpoint::{Error, Problem};
use crate::graph::Model;
use crate::ops::Totals;

/// A file that a folder of checkpoints holds.
pub enum Found {
    Checkpoint(Checkpoint),
    Mask(MaskFile),
    Workers(WorkersFile),
}

/// Files with a checkpoint's name, sorted.
pub fn names(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut paths = vec![];
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "list it"))? {
        let path = entry.map_err(Error::io(folder, "list it"))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ours = ["base-", "mask-", "epoch-"].iter().any(|start| name.starts_with(start));
        if ours && name.ends_with(".safetensors") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Epoch and step in the name of a base, delta or full checkpoint.
pub fn named_time(path: &Path) -> Option<Time> {
    let name = path.file_name()?.to_string_lossy();
    let name = name.replacen("base-", "epoch-", 1).replacen(".delta.", ".", 1);
    full::parse_name(&name)
}

/// Reads a file's head: model, width and what it is. It must be of `model`, if that is known.
pub fn look(path: &Path, model: Option<(Model, usize)>) -> Result<((Model, usize), Found), Error> {
    let head = file::head(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let small = [".delta.safetensors", ".workers.safetensors"];
    let is_full = name.starts_with("epoch-") && !small.iter().any(|end| name.ends_with(end));
    let (id, found) = if is_full { look_full(path, &head) } else { look_small(path, &head) }?;
    check_model(path, model.unwrap_or(id), id)?;
    Ok((id, found))
}

fn look_full(path: &Path, head: &Head) -> Result<((Model, usize), Found), Error> {
    let h = full::parse_header(path, head.json.as_deref())?;
    file::check_name(path, &full::file_name(h.epoch, h.batch))?;
    let progress = Progress {
        epoch: h.epoch,
        batch: h.batch,
        totals: Totals { loss: h.loss, correct: h.correct, images: h.images },
        train_seconds: h.train_seconds,
        total_seconds: h.total_seconds,
        test_accuracy: None,
    };
    let (kind, path) = (Kind::Full { mask: h.mask }, path.to_path_buf());
    let checkpoint =
        Checkpoint { path, bytes: head.bytes, kind, progress, weights: None, kept: weights(head) };
    Ok(((h.model, h.width), Found::Checkpoint(checkpoint)))
}

fn look_small(path: &Path, head: &Head) -> Result<((Model, usize), Found), Error> {
    let header = Header::parse(path, head.json.as_deref())?;
    file::check_name(path, &header.file_name())?;
    let (path, bytes) = (path.to_path_buf(), head.bytes);
    let (kind, weights, progress, kept) = match &header.contents {
        &Contents::Mask { mask: hash } => {
            return Ok(((header.model, header.width), Found::Mask(MaskFile { path, bytes, hash })));
        }
        Contents::Base { weights: hash, progress } => (Kind::Base, *hash, progress.into(), weights(head)),
        &Contents::Delta { weights: hash, parent, mask, ref progress } => {
            let kept = head.tensors.get("values").map_or(0, |entry| elements(&entry.shape));
            (Kind::Delta { parent, mask }, hash, progress.into(), kept)
        }
        &Contents::Workers { epoch, batch, .. } => {
            let file = WorkersFile { path, bytes, time: (epoch, batch) };
            return Ok(((header.model, header.width), Found::Workers(file)));
        }
    };
    let checkpoint = Checkpoint { path, bytes, kind, progress, weights: Some(weights), kept };
    Ok(((header.model, header.width), Found::Checkpoint(checkpoint)))
}

/// Weights in a dense file.
fn weights(head: &Head) -> usize {
    let own = |name: &str| !name.contains(".running_") && !name.starts_with("velocity.");
    let counts = head.tensors.iter().filter(|(name, _)| own(name)).map(|(_, e)| elements(&e.shape));
    counts.fold(0, usize::saturating_add)
}

/// Elements of a tensor; a damaged head may tell of more than there can be.
fn elements(shape: &[usize]) -> usize {
    shape.iter().fold(1, |product: usize, &n| product.saturating_mul(n))
}

/// Whether a file is of the run's model.
pub fn check_model(path: &Path, run: (Model, usize), file: (Model, usize)) -> Result<(), Error> {
    /// More than this no machine holds; what a damaged file says is not to be tried.
    const MAX_WIDTH: usize = 1 << 12;
    if file.1 == 0 || file.1 > MAX_WIDTH {
        let reason = format!("its width is {}; it must be from 1 to {MAX_WIDTH}", file.1);
        return Err(Error::new(path, Problem::NotChain { reason }));
    }
    if run == file {
        return Ok(());
    }
    let name = |(model, width)| format!("{model} of width {width}");
    Err(Error::new(path, Problem::Model { expected: name(run), found: name(file) }))
}

//! What a single file of a folder of checkpoints is, by its name and head.

use std::fs;
use std::path::{Path, PathBuf};

use super::entry::{Checkpoint, Found, Kind, MaskFile, WorkersFile};
use super::file::check_name;
use super::header::{Contents, Header, check_model};
use crate::checkpoint::container::Head;
use crate::checkpoint::file_kind::FileKind;
use crate::checkpoint::{Error, Moment, full};
use crate::graph::ModelId;

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

/// The place that the name of a base, delta or full checkpoint is of.
pub fn named_moment(path: &Path) -> Option<Moment> {
    FileKind::of(path).filter(|(kind, _)| *kind != FileKind::Workers).map(|(_, at)| at)
}

/// Reads a file's head: model, width and what it is. It must be of `model`, if that is known.
pub fn look(path: &Path, model: Option<ModelId>) -> Result<(ModelId, Found), Error> {
    let head = Head::read(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let small = [".delta.safetensors", ".workers.safetensors"];
    let is_full = name.starts_with("epoch-") && !small.iter().any(|end| name.ends_with(end));
    let (id, found) = if is_full { look_full(path, &head) } else { look_small(path, &head) }?;
    check_model(path, model.unwrap_or(id), id)?;
    Ok((id, found))
}

fn look_full(path: &Path, head: &Head) -> Result<(ModelId, Found), Error> {
    let h = full::parse_header(path, head.json.as_deref())?;
    check_name(path, &FileKind::Full.file_name(h.progress.at))?;
    let (kind, path) = (Kind::Full { mask: h.mask }, path.to_path_buf());
    let checkpoint = Checkpoint {
        path,
        bytes: head.bytes,
        kind,
        progress: h.progress,
        model: None,
        kept: weight_count(head),
    };
    Ok((h.id, Found::Checkpoint(checkpoint)))
}

fn look_small(path: &Path, head: &Head) -> Result<(ModelId, Found), Error> {
    let header = Header::parse(path, head.json.as_deref())?;
    check_name(path, &header.file_name())?;
    let (path, bytes) = (path.to_path_buf(), head.bytes);
    let (kind, model, progress, kept) = match header.contents {
        Contents::Mask { mask: hash } => {
            return Ok((header.id, Found::Mask(MaskFile { path, bytes, hash })));
        }
        Contents::Base { model, progress } => (Kind::Base, model, progress, weight_count(head)),
        Contents::Delta { model, parent, mask, progress } => {
            let kept = head.tensors.get("values").map_or(0, |entry| entry.elements());
            (Kind::Delta { parent, mask }, model, progress, kept)
        }
        Contents::Workers { at, .. } => {
            let file = WorkersFile { path, bytes, at };
            return Ok((header.id, Found::Workers(file)));
        }
    };
    let checkpoint = Checkpoint { path, bytes, kind, progress, model: Some(model), kept };
    Ok((header.id, Found::Checkpoint(checkpoint)))
}

/// Weights in a dense file.
fn weight_count(head: &Head) -> usize {
    let own = |name: &str| !name.contains(".running_") && !name.starts_with("velocity.");
    let counts = head.tensors.iter().filter(|(name, _)| own(name)).map(|(_, entry)| entry.elements());
    counts.sum()
}

//! Restoring: a base, then the deltas from it to the one asked for, each checked by its hash.

use std::path::{Path, PathBuf};

use half::f16;
use safetensors::Dtype;

use super::entry::{Checkpoint, Kind};
use super::file::{self, Guarded};
use super::header::{Contents, check_model};
use super::index::Chain;
use super::look::named_moment;
use super::mask::read_mask;
use super::workers::Workers;
use crate::checkpoint::container;
use crate::checkpoint::file_kind::FileKind;
use crate::checkpoint::tensors::{self, Flat, Found};
use crate::checkpoint::{Error, Hash, Moment, Problem, Progress, full};

/// The velocity, as a checkpoint keeps it.
#[derive(Clone, Debug, PartialEq)]
pub enum Velocity {
    /// None: the checkpoint does not keep it.
    Absent,
    /// One a kept weight, in the order of the mask's indices.
    Kept(Vec<f32>),
    /// One a weight, in memory order.
    Dense(Vec<f32>),
}

/// What a checkpoint restores to; every hash on the way was right.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    /// The checkpoint's file.
    pub path: PathBuf,
    /// Where the run was when it was written.
    pub progress: Progress,
    /// All weights, in memory order.
    pub weights: Vec<f32>,
    /// All running statistics, in the layout's order.
    pub running: Vec<f32>,
    /// The velocity, as far as the checkpoint keeps it.
    pub velocity: Velocity,
    /// Canonical indices of the mask in force, ascending; none where training was dense.
    pub mask: Option<Vec<u32>>,
}

/// A model's vectors as a chain's hashes see them.
pub(super) struct Vector {
    pub canonical: Vec<f32>,
    pub running: Vec<f32>,
}

impl Vector {
    fn hash(&self) -> Hash {
        Hash::of_model(&self.canonical, &self.running)
    }
}

/// The vectors that a delta's own file holds.
pub(super) struct Delta {
    pub values: Vec<f32>,
    pub running: Vec<f32>,
    pub velocity: Velocity,
}

impl Chain {
    /// Restores the checkpoint of a moment; of several the full one, then the delta.
    ///
    /// # Errors
    /// When there is none, or as [`Chain::restore`].
    pub fn load(&self, at: Moment) -> Result<Restored, Error> {
        if let Some(found) = self.checkpoints.iter().rfind(|c| c.at() == at) {
            return self.restore(found);
        }
        if let Some(path) = self.broken.iter().map(Error::path).find(|p| named_moment(p) == Some(at)) {
            return Err(self.why_broken(path));
        }
        let mut names: Vec<String> = self.checkpoints.iter().map(|c| c.at().to_string()).collect();
        names.dedup();
        let found = match &names[..] {
            [] => "is none".to_string(),
            [only] => format!("is only {only}"),
            [first, .., last] if names.len() > 4 => format!("are {} from {first} to {last}", names.len()),
            few => format!("are {}", few.join(", ")),
        };
        Err(Error::new(&self.folder, Problem::Absent { at, found }))
    }

    /// Restores the newest checkpoint that a run can resume from; none when there is none.
    ///
    /// # Errors
    /// As [`Chain::restore`]. When the newest cannot be used, no other is used in its place: the error names
    /// both, and the user decides.
    pub fn load_latest(&self) -> Result<Option<Restored>, Error> {
        let real = |path: &&Path| !matches!(FileKind::of(path), Some((FileKind::Base, _)));
        let broken = self.broken.iter().map(Error::path).filter(real);
        let broken = broken.filter_map(|path| Some((named_moment(path)?, path))).max();
        let error = match (self.latest(), broken) {
            (Some(newest), broken) if broken.is_none_or(|(at, _)| at <= newest.at()) => {
                match self.restore(newest) {
                    Ok(restored) => return Ok(Some(restored)),
                    Err(error) => error,
                }
            }
            (_, Some((_, path))) => self.why_broken(path),
            (_, None) => return Ok(None),
        };
        let mut older = self.checkpoints.iter().rev().filter(|c| !c.is_base());
        let older = older.find(|c| self.restore(c).is_ok()).map(|c| c.path.clone());
        Err(Error::new(&self.folder, Problem::Newest { error, older }))
    }

    /// Restores a checkpoint of this chain.
    ///
    /// # Errors
    /// When a file it needs is missing or cannot be read, is not what was written, or leads to other weights
    /// than its hash says.
    pub fn restore(&self, checkpoint: &Checkpoint) -> Result<Restored, Error> {
        let path = checkpoint.path.clone();
        if let Kind::Full { mask } = checkpoint.kind {
            let state = full::load(&path, self.id, &self.layout)?;
            let mask = mask.map(|mask| self.mask(mask, checkpoint)).transpose()?;
            return Ok(Restored {
                path,
                progress: checkpoint.progress,
                weights: state.weights,
                running: state.running,
                velocity: state.velocity.map_or(Velocity::Absent, Velocity::Dense),
                mask,
            });
        }
        let mut links = vec![checkpoint];
        while let Some(&last) = links.last()
            && let Kind::Delta { parent, .. } = last.kind
        {
            links.push(self.parent(last, parent)?);
        }
        let mut vector = None;
        let (mut velocity, mut mask) = (Velocity::Absent, None);
        for link in links.into_iter().rev() {
            let Some(vector) = &mut vector else {
                vector = Some(self.base(link)?);
                continue;
            };
            let (delta, indices) = self.delta(link, mask.take())?;
            velocity = self.apply(link, delta, &indices.1, vector)?;
            mask = Some(indices);
        }
        let Vector { canonical: mut weights, running } =
            vector.unwrap_or(Vector { canonical: vec![], running: vec![] });
        self.layout.parameters.iter().for_each(|p| p.make_memory(&mut weights[p.range()]));
        Ok(Restored {
            path,
            progress: checkpoint.progress,
            weights,
            running,
            velocity,
            mask: mask.map(|(_, indices)| indices),
        })
    }

    /// What is wrong with a file whose head could not be used.
    pub(super) fn why_broken(&self, path: &Path) -> Error {
        let unusable = || Error::new(path, Problem::NotChain { reason: "its head cannot be used".into() });
        let result = match FileKind::of(path) {
            Some((FileKind::Workers, _)) => Workers::open(path, self.id).map(drop),
            Some((FileKind::Full, _)) => full::load(path, self.id, &self.layout).map(drop),
            _ => file::read(path).and_then(|file| check_model(path, self.id, file.header.id)),
        };
        result.err().unwrap_or_else(unusable)
    }

    /// Reads a base.
    pub(super) fn base(&self, base: &Checkpoint) -> Result<Vector, Error> {
        let Guarded { header, file, data } = file::read(&base.path)?;
        let Contents::Base { model: expected, .. } = header.contents else {
            return Err(Error::new(&base.path, Problem::NotChain { reason: "it is no base".into() }));
        };
        let (all, tensors) = (tensors::expected(&self.layout), Found::new(&file));
        tensors.check(&all, &self.layout, &[Dtype::F32])?;
        tensors.only(&all)?;
        // In canonical order, as it is written, the data is the vector, and what the hash is of.
        let in_order = file.head.names.iter().eq(all.iter().map(|t| &t.name));
        let (vector, found) = if in_order {
            let mut canonical = file.data.into_values();
            let running = canonical.split_off(self.layout.weight_count());
            (Vector { canonical, running }, data)
        } else {
            let mut flat = Flat::new(&self.layout);
            tensors.take(&all, &mut flat);
            let vector = Vector { canonical: flat.weights, running: flat.running };
            let found = vector.hash();
            (vector, found)
        };
        match found == expected {
            true => Ok(vector),
            false => Err(Error::new(&base.path, Problem::Restored { expected, found })),
        }
    }

    /// Reads a delta and its mask, of which `known` may be the one.
    pub(super) fn delta(
        &self,
        checkpoint: &Checkpoint,
        known: Option<(Hash, Vec<u32>)>,
    ) -> Result<(Delta, (Hash, Vec<u32>)), Error> {
        let path = &checkpoint.path;
        let Guarded { header, file, .. } = file::read(path)?;
        let Contents::Delta { mask: hash, .. } = header.contents else {
            return Err(Error::new(path, Problem::NotChain { reason: "it is no delta".into() }));
        };
        file.only(&["running", "velocity", "values"])?;
        let mask = match known.filter(|(known, _)| *known == hash) {
            Some(known) => known,
            None => (hash, self.mask(hash, checkpoint)?),
        };
        let kept = Some(mask.1.len());
        let values = file.flat("values", &[Dtype::F32, Dtype::F16], kept)?;
        let values = match values.dtype {
            Dtype::F16 => {
                values.bytes.as_chunks::<2>().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect()
            }
            _ => container::values(values.bytes).collect(),
        };
        let floats = |name, length| -> Result<Vec<f32>, Error> {
            Ok(container::values(file.flat(name, &[Dtype::F32], length)?.bytes).collect())
        };
        let running = floats("running", Some(self.layout.statistic_count()))?;
        let velocity = match file.tensor("velocity") {
            Some(_) => Velocity::Kept(floats("velocity", kept)?),
            None => Velocity::Absent,
        };
        Ok((Delta { values, running, velocity }, mask))
    }

    /// Puts a delta's values into the vector of its parent, or of another delta of the same parent and mask.
    pub(super) fn apply(
        &self,
        checkpoint: &Checkpoint,
        delta: Delta,
        indices: &[u32],
        vector: &mut Vector,
    ) -> Result<Velocity, Error> {
        for (&index, value) in indices.iter().zip(delta.values) {
            vector.canonical[index as usize] = value;
        }
        vector.running = delta.running;
        if let Some(expected) = checkpoint.model {
            check_hash(&checkpoint.path, expected, vector)?;
        }
        Ok(delta.velocity)
    }

    /// Reads the indices of the mask of this hash; none if it is not stored.
    ///
    /// # Errors
    /// When its file cannot be read, or is not what was written.
    pub fn stored_mask(&self, mask: Hash) -> Result<Option<Vec<u32>>, Error> {
        let file = self.masks.iter().find(|file| file.hash == mask);
        file.map(|file| read_mask(&file.path, self.id, &self.layout)).transpose()
    }

    /// Reads the indices of a mask that a checkpoint needs.
    pub(super) fn mask(&self, hash: Hash, needs: &Checkpoint) -> Result<Vec<u32>, Error> {
        read_mask(&self.mask_file(hash, needs)?.path, self.id, &self.layout)
    }
}

fn check_hash(path: &Path, expected: Hash, vector: &Vector) -> Result<(), Error> {
    match vector.hash() {
        found if found == expected => Ok(()),
        found => Err(Error::new(path, Problem::Restored { expected, found })),
    }
}

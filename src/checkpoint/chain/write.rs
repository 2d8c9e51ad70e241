//! Writing: one parameter at a time, so that no vector is held twice.

use std::path::{Path, PathBuf};

use half::f16;
use rayon::prelude::*;
use safetensors::Dtype;

use super::base::write_base;
use super::entry::Kind;
use super::file;
use super::header::{Contents, Header};
use super::index::Chain;
use super::mask::save_mask;
use crate::checkpoint::container::{Spec, little_endian};
use crate::checkpoint::hash::feed;
use crate::checkpoint::{Error, Hash, Problem, Progress};
use crate::graph::layout::Parameter;
use crate::graph::{Layout, ModelId};

/// How a delta's values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Values {
    /// As f32, without loss.
    #[default]
    F32,
    /// Rounded; what is restored is then rounded in every place a mask has kept since the base. Without
    /// velocity, as a run cannot resume from it with the same bits.
    F16,
}

/// The last checkpoint of the chain being written.
#[derive(Clone, Copy)]
struct Head {
    model: Hash,
    /// The mask of a delta; none for a base.
    mask: Option<Hash>,
    /// The parent of a delta; none for a base.
    parent: Option<Hash>,
}

/// Weights with a checksum of their own.
const PIECE: usize = 1 << 16;

/// The mask in force.
struct Mask {
    hash: Hash,
    indices: Vec<u32>,
    /// The model that its deltas build on.
    parent: Hash,
    /// Of the weights as restored, with 0 in the mask's places.
    outside: Vec<u32>,
}

/// Adds to a run's chain: [`Writer::base`], then [`Writer::mask`] whenever a mask comes into force (and when
/// a run goes on), then [`Writer::delta`]. Whoever writes holds the run's
/// [`RunLock`](crate::checkpoint::RunLock).
///
/// Weights come from `source`, which is asked for one parameter's at a time, in memory order, first to last.
pub struct Writer {
    folder: PathBuf,
    id: ModelId,
    layout: Layout,
    values: Values,
    head: Option<Head>,
    mask: Option<Mask>,
    /// A bit a weight: its value in the chain is rounded to f16.
    rounded: Vec<u64>,
}

impl Writer {
    /// Adds to what `folder` holds: the chain's newest base or delta, if there is one, is its head.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(folder: &Path, id: ModelId, layout: &Layout, values: Values) -> Result<Writer, Error> {
        let chain = Chain::read(folder, id, layout)?;
        let head = chain.checkpoints().iter().rev().find_map(|c| {
            let (mask, parent) = match c.kind {
                Kind::Base => (None, None),
                Kind::Delta { parent, mask } => (Some(mask), Some(parent)),
                Kind::Full { .. } => return None,
            };
            c.model.map(|model| Head { model, mask, parent })
        });
        let (folder, layout) = (folder.to_path_buf(), layout.clone());
        let rounded = match values {
            Values::F32 => vec![],
            Values::F16 => vec![0; layout.weight_count().div_ceil(64)],
        };
        Ok(Writer { folder, id, layout, values, head, mask: None, rounded })
    }

    /// Writes all weights, for deltas to build on. Returns the file.
    ///
    /// # Errors
    /// When it cannot be written, or `source` fails.
    ///
    /// # Panics
    /// If `source` or `running` are not as long as the layout says.
    pub fn base<E: From<Error>>(
        &mut self,
        at: &Progress,
        running: &[f32],
        source: impl FnMut(&Parameter) -> Result<Vec<f32>, E>,
    ) -> Result<PathBuf, E> {
        let (path, model) = write_base(&self.folder, self.id, &self.layout, at, running, source)?;
        self.head = Some(Head { model, mask: None, parent: None });
        self.mask = None;
        self.rounded.fill(0);
        Ok(path)
    }

    /// Says that from here on only the weights at these canonical indices change, and stores them once. The
    /// weights must be those of the chain's last checkpoint, which what follows builds on: write one before a
    /// mask changes. A run that goes on says so again.
    ///
    /// # Errors
    /// When the indices are no mask of the model, the weights are not those of the last checkpoint, the file
    /// cannot be written, or `source` fails.
    ///
    /// # Panics
    /// If `source` or `running` are not as long as the layout says.
    pub fn mask<E: From<Error>>(
        &mut self,
        indices: &[u32],
        running: &[f32],
        source: impl FnMut(&Parameter) -> Result<Vec<f32>, E>,
    ) -> Result<Hash, E> {
        let Some(head) = self.head else { return Err(self.refuse("there is no base to build on").into()) };
        let found = self.pass(indices, false, running, source)?;
        if found.model != head.model {
            let reason = "the mask changed when the weights were not those of the last checkpoint";
            return Err(self.refuse(reason).into());
        }
        let hash = save_mask(&self.folder, self.id, &self.layout, indices)?;
        // The same mask as before, chosen again or after a resumption, supersedes its own deltas.
        let parent = head.parent.filter(|_| head.mask == Some(hash)).unwrap_or(head.model);
        self.mask = Some(Mask { hash, indices: indices.to_vec(), parent, outside: found.outside });
        Ok(hash)
    }

    /// Writes the values of the mask in force, all running statistics and, for a run to resume from, one
    /// velocity a kept weight. Returns the file.
    ///
    /// # Errors
    /// When no mask is in force, weights outside it have changed since it came into force, a value is beyond
    /// f16 or velocity is to be kept beside f16 values, the file cannot be written, or `source` fails. The
    /// chain is then as it was.
    ///
    /// # Panics
    /// If `source`, `running` or `velocity` are not as long as layout and mask say.
    pub fn delta<E: From<Error>>(
        &mut self,
        at: &Progress,
        velocity: Option<&[f32]>,
        running: &[f32],
        source: impl FnMut(&Parameter) -> Result<Vec<f32>, E>,
    ) -> Result<PathBuf, E> {
        let Some(mask) = &self.mask else { return Err(self.refuse("no mask is in force").into()) };
        let kept = mask.indices.len();
        if self.values == Values::F16 && velocity.is_some() {
            let reason =
                "f16 values do not go with velocity: from rounded weights no run goes on with the same bits";
            return Err(self.refuse(reason).into());
        }
        if let Some(velocity) = velocity {
            assert_eq!(velocity.len(), kept, "one velocity a kept weight");
        }
        let found = self.pass(&mask.indices, true, running, source)?;
        if found.outside != mask.outside {
            let reason = "weights outside the mask changed since it came into force";
            return Err(self.refuse(reason).into());
        }
        if let (Values::F16, Some(i)) = (self.values, found.overflow) {
            let reason = format!("weight {i} is beyond what f16 holds; use --checkpoint-values f32");
            return Err(self.refuse(&reason).into());
        }
        let (model, parent) = (found.model, mask.parent);
        let contents = Contents::Delta { model, parent, mask: mask.hash, progress: *at };
        // Four-byte values first, so that all of them lie at multiples of four.
        let mut specs = vec![Spec::flat("running", Dtype::F32, running.len())];
        specs.extend(velocity.map(|_| Spec::flat("velocity", Dtype::F32, kept)));
        let dtype = if self.values == Values::F16 { Dtype::F16 } else { Dtype::F32 };
        specs.push(Spec::flat("values", dtype, kept));
        let header = Header::new(self.id, contents);
        let (path, _) = file::write::<E>(&self.folder, &header, &specs, |out| {
            out.write(running)?;
            out.write(velocity.unwrap_or_default())?;
            match self.values {
                Values::F32 => out.write(&found.values),
                Values::F16 => out.write(&found.values.iter().map(|&v| f16::from_f32(v)).collect::<Vec<_>>()),
            }
        })?;
        self.head = Some(Head { model, mask: Some(mask.hash), parent: Some(parent) });
        if self.values == Values::F16 {
            mask.indices.iter().for_each(|&i| self.rounded[i as usize / 64] |= 1 << (i % 64));
        }
        Ok(path)
    }

    fn refuse(&self, reason: &str) -> Error {
        Error::new(&self.folder, Problem::NotDelta { reason: reason.into() })
    }

    /// Goes over the weights once: their values at `kept`, and their hashes as a reader would restore them,
    /// with the kept ones about to be written or not yet.
    fn pass<E>(
        &self,
        kept: &[u32],
        writing: bool,
        running: &[f32],
        mut source: impl FnMut(&Parameter) -> Result<Vec<f32>, E>,
    ) -> Result<Found, E> {
        assert_eq!(running.len(), self.layout.statistic_count(), "one value a statistic");
        let (mut whole, mut outside) = (blake3::Hasher::new(), vec![]);
        let (mut values, mut overflow, mut rest) = (Vec::with_capacity(kept.len()), None, kept);
        for parameter in &self.layout.parameters {
            let mut weights = source(parameter)?;
            parameter.make_canonical(&mut weights);
            let (begin, end) = (parameter.offset, parameter.range().end);
            let here;
            (here, rest) = rest.split_at(rest.partition_point(|&i| (i as usize) < end));
            self.round(begin, if writing { here } else { &[] }, &mut weights, &mut overflow);
            feed(&mut whole, &little_endian(&weights));
            values.extend(here.iter().map(|&i| std::mem::take(&mut weights[i as usize - begin])));
            match weights.len() {
                ..=PIECE => outside.push(checksum(&weights)),
                _ => outside.extend(weights.par_chunks(PIECE).map(checksum).collect::<Vec<_>>()),
            }
        }
        feed(&mut whole, &little_endian(running));
        Ok(Found { values, model: Hash::of(&whole), outside, overflow })
    }

    /// Makes of weights, the first of which is `begin`, what a reader restores. `kept` are those about to be
    /// written; `overflow` becomes the first that is finite, and infinite as f16.
    fn round(&self, begin: usize, kept: &[u32], chunk: &mut [f32], overflow: &mut Option<usize>) {
        if self.values == Values::F32 {
            return;
        }
        let round = |value: &mut f32| *value = f16::from_f32(*value).to_f32();
        for &index in kept {
            let value = &mut chunk[index as usize - begin];
            let finite = value.is_finite();
            round(value);
            if finite && value.is_infinite() {
                overflow.get_or_insert(index as usize);
            }
        }
        // After them: one that was kept before would no longer be finite.
        for (i, value) in (begin..).zip(chunk.iter_mut()) {
            if self.rounded[i / 64] >> (i % 64) & 1 == 1 {
                round(value);
            }
        }
    }
}

/// A CRC-32, which every change of a single weight changes. It costs a fifth of a cryptographic hash, and
/// what it might let pass is found by `weights` when the delta is restored.
fn checksum(weights: &[f32]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytemuck::cast_slice(weights));
    crc.sum()
}

/// What a pass over the weights found.
struct Found {
    values: Vec<f32>,
    /// All weights and the running statistics.
    model: Hash,
    /// A checksum a piece of the weights with 0 in the kept places.
    outside: Vec<u32>,
    /// The first kept weight that is finite, and infinite as f16.
    overflow: Option<usize>,
}

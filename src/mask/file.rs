//! A file of scores and the mask they give: `scores` f32 \[P\] in canonical order and `indices` u32 \[k\], ascending, in a
//! safetensors file, with one metadata entry, `fishmask`, that says as JSON what they are of.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use super::{Error as MaskError, Mask, Order};
use crate::checkpoint::atomic;
use crate::graph::{Model, ModelId};
use crate::ops::Power;

const KEY: &str = "fishmask";

/// What scores are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// `scores`: tells the file from checkpoints.
    pub kind: Scores,
    /// The network.
    pub model: Model,
    /// Its stem channels.
    pub width: usize,
    /// Share of the weights that is kept.
    pub keep_ratio: f64,
    /// Samples scored.
    pub samples: usize,
    /// In this order.
    pub order: Order,
    /// Whether they were augmented.
    pub augment: bool,
    /// Of order and augmentation.
    pub seed: u64,
    /// How a gradient counts.
    pub power: Power,
    /// Whether all classes counted, by their predicted probability.
    pub expect: bool,
    /// Whether batch norm used the running statistics.
    pub running: bool,
}

impl About {
    /// The network that the scores are of.
    pub fn id(&self) -> ModelId {
        ModelId::new(self.model, self.width)
    }
}

/// The kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scores {
    /// Scores and a mask.
    Scores,
}

/// Why a file of scores cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("{}: cannot read it: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] crate::checkpoint::Error),
    /// It is something else, or damaged.
    #[error("{}: not a file of scores: {reason}", path.display())]
    NotScores {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Its indices are no mask.
    #[error("{}: {error}", path.display())]
    Mask {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: MaskError,
    },
}

struct Tensor(Dtype, [usize; 1], Vec<u8>);

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        self.0
    }
    fn shape(&self) -> &[usize] {
        &self.1
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.2)
    }
    fn data_len(&self) -> usize {
        self.2.len()
    }
}

/// Writes scores and their mask, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn save(path: &Path, about: &About, scores: &[f32], mask: &Mask) -> Result<(), Error> {
    let bytes = |values: &mut dyn Iterator<Item = [u8; 4]>| values.flatten().collect::<Vec<u8>>();
    let scores =
        Tensor(Dtype::F32, [scores.len()], bytes(&mut scores.iter().map(|value| value.to_le_bytes())));
    let indices =
        Tensor(Dtype::U32, [mask.len()], bytes(&mut mask.indices().iter().map(|value| value.to_le_bytes())));
    let wrong = |reason: String| Error::NotScores { path: path.to_path_buf(), reason };
    let json = serde_json::to_string(about).map_err(|e| wrong(e.to_string()))?;
    let metadata = HashMap::from([(KEY.to_string(), json)]);
    let file = safetensors::serialize([("scores", &scores), ("indices", &indices)], Some(metadata))
        .map_err(|e| wrong(e.to_string()))?;
    Ok(atomic::write_bytes(path, &file)?)
}

/// Reads what [`save`] wrote: what it is of, and the mask.
///
/// # Errors
/// When it cannot be read, is something else, or its indices are no mask of its model.
pub fn load(path: &Path) -> Result<(About, Mask), Error> {
    let bytes = fs::read(path).map_err(|error| Error::Read { path: path.to_path_buf(), error })?;
    let wrong = |reason: String| Error::NotScores { path: path.to_path_buf(), reason };
    let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(e.to_string()))?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| wrong(e.to_string()))?;
    let json = metadata.metadata().as_ref().and_then(|map| map.get(KEY));
    let json = json.ok_or_else(|| wrong(format!("it has no metadata entry `{KEY}`")))?;
    let about: About =
        serde_json::from_str(json).map_err(|e| wrong(format!("metadata entry `{KEY}`: {e}")))?;
    let graph = about.id().graph().map_err(|e| wrong(e.to_string()))?;
    let indices = file.tensor("indices").map_err(|e| wrong(e.to_string()))?;
    if indices.dtype() != Dtype::U32 {
        return Err(wrong(format!("tensor indices: expected dtype U32, found {}", indices.dtype())));
    }
    let indices = indices.data().as_chunks::<4>().0.iter().map(|&index| u32::from_le_bytes(index)).collect();
    let mask = Mask::new(indices, graph.layout.weight_count());
    Ok((about, mask.map_err(|error| Error::Mask { path: path.to_path_buf(), error })?))
}

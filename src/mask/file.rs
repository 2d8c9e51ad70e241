//! A file of scores and the mask they give: `scores` f32 \[P\] in canonical order and `indices` u32 \[k\],
//! ascending, in a safetensors file, with one metadata entry, `fishmask`, that says as JSON what they are of.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use super::{Error as MaskError, Mask, Order};
use crate::checkpoint;
use crate::checkpoint::container::{self, File, KEY, Spec};
use crate::graph::ModelId;
use crate::ops::Power;

/// The network, the samples and the rule that scores are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// `scores`: tells the file from checkpoints.
    pub kind: Scores,
    /// The network.
    #[serde(flatten)]
    pub id: ModelId,
    /// Share of the weights that is kept.
    pub keep_ratio: f64,
    /// The number of samples scored.
    pub samples: usize,
    /// The order in which they were taken.
    pub order: Order,
    /// Whether they were augmented.
    pub augment: bool,
    /// The seed of order and augmentation.
    pub seed: u64,
    /// The power in which a gradient counts.
    pub power: Power,
    /// Whether all classes counted, by their predicted probability.
    pub expect: bool,
    /// Whether batch norm used the running statistics.
    pub running: bool,
}

/// The kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scores {
    /// Scores and a mask.
    Scores,
}

/// Why a file of scores cannot be used.
#[allow(missing_docs)] // of fields
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read or written, or is damaged.
    #[error(transparent)]
    File(#[from] checkpoint::Error),
    /// It is something else.
    #[error("{}: not a file of scores: {reason}", path.display())]
    NotScores { path: PathBuf, reason: String },
    /// Its indices are no mask.
    #[error("{}: {error}", path.display())]
    Mask { path: PathBuf, error: MaskError },
}

/// Writes scores and their mask, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn save(path: &Path, about: &About, scores: &[f32], mask: &Mask) -> Result<(), Error> {
    let entry = |_| serde_json::to_string(about).map(Some);
    let tensors =
        [Spec::flat("scores", Dtype::F32, scores.len()), Spec::flat("indices", Dtype::U32, mask.len())];
    container::write::<checkpoint::Error>(path, &entry, &tensors, |out| {
        out.write(scores)?;
        out.write(mask.indices())
    })?;
    Ok(())
}

/// Reads what [`save`] wrote: what it is of, and the mask.
///
/// # Errors
/// When it cannot be read, is something else, or its indices are no mask of its model.
pub fn load(path: &Path) -> Result<(About, Mask), Error> {
    let bytes = container::read(path)?;
    let file = File::parse(path, &bytes)?;
    let wrong = |reason: String| Error::NotScores { path: path.to_path_buf(), reason };
    let json = file.json.as_ref().ok_or_else(|| wrong(format!("it has no metadata entry `{KEY}`")))?;
    let about: About =
        serde_json::from_str(json).map_err(|e| wrong(format!("metadata entry `{KEY}`: {e}")))?;
    let graph = about.id.graph().map_err(|e| wrong(e.to_string()))?;
    let (indices, _) = file.flat("indices", &[Dtype::U32], None)?;
    let indices = indices.as_chunks::<4>().0.iter().map(|&index| u32::from_le_bytes(index)).collect();
    let mask = Mask::new(indices, graph.layout.weight_count());
    Ok((about, mask.map_err(|error| Error::Mask { path: path.to_path_buf(), error })?))
}

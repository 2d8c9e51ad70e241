//! A file of scores and the mask they give: `scores` f32 \[P\] in canonical order and `indices` u32 \[k\],
//! ascending, in a safetensors file, with one metadata entry, `fishmask`, that says as JSON what they are of.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use super::{Error as MaskError, Mask, Order};
use crate::checkpoint::container::{self, File, KEY, OURS, Spec};
use crate::checkpoint::{self, Hash};
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
    /// What the scores were made of. Files of before do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Made>,
}

/// The images, the weights and the settings that scores were made of, and the program that made them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// The name of the data set.
    pub data: String,
    /// The number of training images that the samples are among.
    pub images: usize,
    /// BLAKE3 of those images and their labels: [`Split::fingerprint`](crate::data::Split::fingerprint).
    pub data_digest: Hash,
    /// The file of the weights, as it was given.
    pub weights: String,
    /// BLAKE3 of the weights and running statistics: [`Hash::of_model`].
    pub weights_digest: Hash,
    /// The settings of network, data, samples and device, by key.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// The program's version.
    pub version: String,
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

/// The JSON of the metadata entry.
#[derive(Serialize, Deserialize)]
struct Entry<'a> {
    #[serde(flatten)]
    about: Cow<'a, About>,
    /// BLAKE3 of the file's data and this JSON with an empty `check`; files of before have none.
    check: Option<String>,
}

/// Writes scores and their mask, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn save(path: &Path, about: &About, scores: &[f32], mask: &Mask) -> Result<(), Error> {
    let entry = Entry { about: Cow::Borrowed(about), check: Some(String::new()) };
    let tensors =
        [Spec::flat("scores", Dtype::F32, scores.len()), Spec::flat("indices", Dtype::U32, mask.len())];
    let seal = |data| container::seal(data, &entry).map(Some);
    container::write::<checkpoint::Error>(path, &seal, &tensors, |out| {
        out.write(scores)?;
        out.write(mask.indices())
    })?;
    Ok(())
}

/// Reads what [`save`] wrote: what it is of, and the mask.
///
/// # Errors
/// When it cannot be read, is something else or damaged, names no model that there can be, does not hold one
/// score for each of the model's weights, or its indices are no mask of them.
pub fn load(path: &Path) -> Result<(About, Mask), Error> {
    let file = File::read(path, OURS)?;
    let wrong = |reason: String| Error::NotScores { path: path.to_path_buf(), reason };
    let json = file.head.json.as_ref().ok_or_else(|| wrong(format!("it has no metadata entry `{KEY}`")))?;
    let Entry { about, check } =
        serde_json::from_str(json).map_err(|e| wrong(format!("metadata entry `{KEY}`: {e}")))?;
    check.map_or(Ok(Hash::default()), |check| file.check(&check))?;
    let about = about.into_owned();
    let weights = about.id.graph().map_err(|e| wrong(e.to_string()))?.layout.weight_count();
    file.only(&["scores", "indices"])?;
    file.flat("scores", &[Dtype::F32], Some(weights))?;
    let indices = file.flat("indices", &[Dtype::U32], None)?.bytes.as_chunks::<4>().0;
    let indices = indices.iter().map(|&index| u32::from_le_bytes(index)).collect();
    let mask = Mask::new(indices, weights);
    Ok((about, mask.map_err(|error| Error::Mask { path: path.to_path_buf(), error })?))
}

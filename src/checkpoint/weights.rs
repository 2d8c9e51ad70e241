//! `final.safetensors`: a model's weights and running statistics as PyTorch's `load_state_dict` takes them.

use std::path::Path;

use safetensors::Dtype;
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::container::{self, File};
use super::tensors::{Expected, Flat, Found, expected, tensors};
use super::{Error, Hash, Problem};
use crate::graph::{Layout, ModelId};

/// Changes whenever a file written by one program cannot be read by the other.
const FORMAT: u32 = 1;

/// The types in which files of weights hold them; all but f32 are converted.
const DTYPES: [Dtype; 4] = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64];

/// The JSON of the metadata entry that [`save`] writes.
#[derive(Serialize)]
struct Entry {
    format: u32,
    kind: &'static str,
    #[serde(flatten)]
    id: ModelId,
    /// BLAKE3 of the file's data and this JSON with an empty `check`.
    check: &'static str,
}

/// The weights of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// All weights, in memory order.
    pub weights: Vec<f32>,
    /// All running statistics, in the layout's order.
    pub running: Vec<f32>,
    /// What the user should know of how the file was read, a line each.
    pub notes: Vec<String>,
}

/// Writes weights (memory order) and running statistics, f32, under PyTorch's names and in its shapes, with a
/// digest by which [`load`] tells damage.
///
/// # Errors
/// When the file cannot be written; nothing is left half written.
///
/// # Panics
/// If `weights` or `running` are not as long as the layout says.
pub fn save(
    path: &Path,
    id: ModelId,
    layout: &Layout,
    weights: &[f32],
    running: &[f32],
) -> Result<(), Error> {
    let entry = Entry { format: FORMAT, kind: "weights", id, check: "" };
    let canonical = layout.to_canonical(weights);
    let entry = |data| container::seal(data, &entry).map(Some);
    container::save(path, tensors(layout, &canonical, running), &entry)
}

/// Reads what [`save`], PyTorch or another program wrote: f32, f16, bf16 or f64, under PyTorch's names, which
/// may all begin with those of modules around the model, such as `module.`. `*.num_batches_tracked`, which
/// PyTorch saves as well, is read over.
///
/// # Errors
/// When the file cannot be read, is not safetensors, is not what [`save`] wrote, its tensors are not exactly
/// the layout's in name and shape, or a value is NaN, infinite or beyond f32.
pub fn load(path: &Path, layout: &Layout) -> Result<Loaded, Error> {
    let (all, mut flat) = (expected(layout), Flat::new(layout));
    let file = read(path)?;
    let found = Found::unwrapped(&file, &all);
    let notes = take(path, &found, &all, layout, &mut flat)?;
    found.only(&all)?;
    Ok(Loaded { weights: layout.to_memory(&flat.weights), running: flat.running, notes })
}

/// Reads, as [`load`] does, those tensors of a layout whose names are wanted, over given weights (memory
/// order) and running statistics; the file may hold others besides.
///
/// # Errors
/// As [`load`].
///
/// # Panics
/// If `weights` or `running` are not as long as the layout says.
pub fn load_part(
    path: &Path,
    layout: &Layout,
    wanted: &dyn Fn(&str) -> bool,
    weights: &[f32],
    running: Vec<f32>,
) -> Result<Loaded, Error> {
    assert_eq!(running.len(), layout.statistic_count(), "one value a statistic");
    let mut flat = Flat { weights: layout.to_canonical(weights), running };
    let file = read(path)?;
    let mut all = expected(layout);
    let prefix = Found::unwrapped(&file, &all);
    all.retain(|t| wanted(&t.name));
    let notes = take(path, &prefix, &all, layout, &mut flat)?;
    Ok(Loaded { weights: layout.to_memory(&flat.weights), running: flat.running, notes })
}

/// Returns the digest of weights (memory order) and running statistics: the hash by which a chain knows a
/// model, [`Hash::of_model`].
///
/// # Panics
/// If `weights` is not as long as the layout says.
pub fn digest(layout: &Layout, weights: &[f32], running: &[f32]) -> Hash {
    Hash::of_model(&layout.to_canonical(weights), running)
}

/// Reads a file of any program's; one of this program's must be what was written.
fn read(path: &Path) -> Result<File, Error> {
    #[derive(Deserialize)]
    struct Guard {
        check: Option<String>,
        md5: Option<IgnoredAny>,
    }
    let file = File::read(path, container::ANY)?;
    let not = |reason| Error::new(path, Problem::NotWeights { reason });
    if let Some(json) = &file.head.json {
        let guard: Guard = container::parse_entry(Some(json), FORMAT).map_err(not)?;
        match (guard.check, guard.md5) {
            (Some(check), _) => drop(file.check(&check)?),
            (None, Some(_)) => {
                let hint = "it is a full checkpoint; `fishmask checkpoint restore` writes its weights";
                return Err(not(hint.into()));
            }
            (None, None) => return Err(not("its metadata entry has no digest".into())),
        }
    }
    Ok(file)
}

/// Copies tensors, which must be there, and returns what is to be known of it.
fn take(
    path: &Path,
    found: &Found,
    wanted: &[Expected],
    layout: &Layout,
    flat: &mut Flat,
) -> Result<Vec<String>, Error> {
    found.check(wanted, layout, &DTYPES)?;
    found.take(wanted, flat);
    found.finite(wanted, flat)?;
    let mut notes = vec![];
    if !found.prefix.is_empty() {
        let prefix = found.prefix;
        notes.push(format!("{}: read without {prefix}, with which all its names begin", path.display()));
    }
    for dtype in found.converted(wanted) {
        notes.push(format!("{}: its {dtype} values are converted to F32", path.display()));
    }
    Ok(notes)
}

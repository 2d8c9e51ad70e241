//! Writing a base.

use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::Progress;
use super::file::{self, Failed, Spec};
use super::header::{Contents, Header};
use crate::checkpoint::{Error, Hash, weights};
use crate::graph::layout::Parameter;
use crate::graph::{Layout, Model};

/// Writes a base. Returns its file and the hash of its weights.
pub fn write_base<E: From<Error>>(
    folder: &Path,
    model: (Model, usize),
    layout: &Layout,
    at: &Progress,
    running: &[f32],
    mut source: impl FnMut(&Parameter) -> Result<Vec<f32>, E>,
) -> Result<(PathBuf, Hash), E> {
    assert_eq!(running.len(), layout.statistic_count(), "one value a statistic");
    // The hash of the weights is that of the data, which comes after it.
    let contents = Contents::Base { weights: Hash::of_indices(&[]), progress: at.into() };
    let tensors = weights::expected(layout).into_iter();
    let specs: Vec<Spec> =
        tensors.map(|t| Spec { name: t.name, dtype: Dtype::F32, shape: t.shape }).collect();
    file::write(folder, Header::new(model, contents), &specs, |out| {
        for parameter in &layout.parameters {
            let mut values = source(parameter).map_err(Failed::Source)?;
            parameter.make_canonical(&mut values);
            out.write(&values)?;
        }
        out.write(running)
    })
}

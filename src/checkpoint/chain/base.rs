//! Writing a base.

use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::file;
use super::header::{Contents, Header};
use crate::checkpoint::container::{Failed, Spec};
use crate::checkpoint::{Error, Hash, Progress, tensors};
use crate::graph::layout::Parameter;
use crate::graph::{Layout, ModelId};

/// Writes a base. Returns its file and the hash of its model.
pub fn write_base<E: From<Error>>(
    folder: &Path,
    id: ModelId,
    layout: &Layout,
    at: &Progress,
    running: &[f32],
    mut source: impl FnMut(&Parameter) -> Result<Vec<f32>, E>,
) -> Result<(PathBuf, Hash), E> {
    assert_eq!(running.len(), layout.statistic_count(), "one value a statistic");
    // The hash of the model is that of the data, which comes after it.
    let contents = Contents::Base { model: Hash::of_indices(&[]), progress: *at };
    let tensors = tensors::expected(layout).into_iter();
    let specs: Vec<Spec> =
        tensors.map(|t| Spec { name: t.name, dtype: Dtype::F32, shape: t.shape }).collect();
    file::write(folder, &Header::new(id, contents), &specs, |out| {
        for parameter in &layout.parameters {
            let mut values = source(parameter).map_err(Failed::Source)?;
            parameter.make_canonical(&mut values);
            out.write(&values)?;
        }
        out.write(running)
    })
}

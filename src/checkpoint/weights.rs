//! `final.safetensors`: a model's weights and running statistics as PyTorch's `load_state_dict` takes them.

use std::ops::Range;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use super::container::{self, File, Tensor};
use super::{Error, Problem};
use crate::graph::{Layout, Model};

/// What PyTorch's batch norms count and this program does not; read over.
const TOLERATED: &str = ".num_batches_tracked";

/// Writes weights (memory order) and running statistics, f32, under PyTorch's names and in its shapes.
///
/// # Errors
/// When the file cannot be written; nothing is left half written.
///
/// # Panics
/// If `weights` or `running` are not as long as the layout says.
pub fn save(path: &Path, layout: &Layout, weights: &[f32], running: &[f32]) -> Result<(), Error> {
    container::save(path, tensors(layout, &layout.to_canonical(weights), running), None)
}

/// Reads what [`save`], or PyTorch, wrote: weights (memory order) and running statistics. Values may be
/// anything, NaN and infinities included.
///
/// # Errors
/// When the file cannot be read, is not safetensors, or its tensors are not exactly the layout's in name,
/// shape and dtype; `*.num_batches_tracked`, which PyTorch saves as well, is read over.
pub fn load(path: &Path, layout: &Layout) -> Result<(Vec<f32>, Vec<f32>), Error> {
    let bytes = container::read(path)?;
    let file = File::parse(path, &bytes)?.tensors;
    let expected = expected(layout);
    check(path, &file, &expected, layout)?;
    let mut flat = Flat::new(layout);
    flat.take(&file, &expected);
    Ok((layout.to_memory(&flat.weights), flat.running))
}

/// The tensors of weights (canonical order) and running statistics, parameters first.
pub(super) fn tensors<'a>(layout: &Layout, canonical: &'a [f32], running: &'a [f32]) -> Vec<Tensor<'a>> {
    assert_eq!(running.len(), layout.statistic_count(), "one value a statistic");
    let tensor = |t: Expected| {
        let values = if t.statistic { running } else { canonical };
        Tensor { name: t.name, shape: t.shape, values: &values[t.range] }
    };
    expected(layout).into_iter().map(tensor).collect()
}

/// A tensor that a file of this layout holds, and where its values belong.
pub(super) struct Expected {
    pub name: String,
    pub shape: Vec<usize>,
    pub range: Range<usize>,
    /// Of the vector of statistics rather than of the weights.
    pub statistic: bool,
}

/// Every tensor of a layout: parameters, then statistics, in canonical order.
pub(super) fn expected(layout: &Layout) -> Vec<Expected> {
    let parameters = layout.parameters.iter().map(|p| Expected {
        name: p.name.clone(),
        shape: p.shape.clone(),
        range: p.range(),
        statistic: false,
    });
    let statistics = layout.statistics.iter().flat_map(|s| s.tensors());
    let statistics =
        statistics.map(|(name, range)| Expected { name, shape: vec![range.len()], range, statistic: true });
    parameters.chain(statistics).collect()
}

/// Flat vectors being filled from a file, weights in canonical order.
pub(super) struct Flat {
    pub weights: Vec<f32>,
    pub running: Vec<f32>,
}

impl Flat {
    pub fn new(layout: &Layout) -> Self {
        Flat { weights: vec![0.0; layout.weight_count()], running: vec![0.0; layout.statistic_count()] }
    }

    /// Copies tensors that [`check`] has seen.
    pub fn take(&mut self, file: &SafeTensors, expected: &[Expected]) {
        for t in expected {
            let to = if t.statistic { &mut self.running } else { &mut self.weights };
            if let Ok(view) = file.tensor(&t.name) {
                to[t.range.clone()]
                    .iter_mut()
                    .zip(container::values(view.data()))
                    .for_each(|(to, v)| *to = v);
            }
        }
    }
}

/// Whether a file holds exactly these tensors.
pub(super) fn check(
    path: &Path,
    file: &SafeTensors,
    expected: &[Expected],
    layout: &Layout,
) -> Result<(), Error> {
    let fail = |problem| Err(Error::new(path, problem));
    for t in expected {
        let Ok(view) = file.tensor(&t.name) else {
            let hint = model_hint(file);
            return fail(Problem::Missing { name: t.name.clone(), shape: t.shape.clone(), hint });
        };
        if view.shape() != t.shape {
            let hint = width_hint(file, layout);
            let (name, expected, found) = (t.name.clone(), t.shape.clone(), view.shape().to_vec());
            return fail(Problem::Shape { name, expected, found, hint });
        }
        if view.dtype() != Dtype::F32 {
            return fail(Problem::dtype(&t.name, &[Dtype::F32], view.dtype()));
        }
    }
    let mut known: Vec<&str> = expected.iter().map(|t| t.name.as_str()).collect();
    known.sort_unstable();
    let extra = |name: &&str| !name.ends_with(TOLERATED) && known.binary_search(name).is_err();
    // The file's own order is a hash map's: the first by name is always the same one.
    if let Some(name) = file.names().into_iter().filter(extra).min() {
        let shape = file.tensor(name).map(|view| view.shape().to_vec()).unwrap_or_default();
        return fail(Problem::Extra { name: name.into(), shape, hint: model_hint(file) });
    }
    Ok(())
}

/// Names the model whose tensors a file holds, if it is one of ours.
fn model_hint(file: &SafeTensors) -> String {
    if file.names().iter().any(|name| name.starts_with("velocity.")) {
        return "; the file is a full checkpoint, not weights alone".into();
    }
    let mut found: Vec<&str> = file.names().into_iter().filter(|name| !name.ends_with(TOLERATED)).collect();
    found.sort_unstable();
    let holds = |model: &Model| {
        model.graph(1).is_ok_and(|graph| {
            let expected = expected(&graph.layout);
            let mut names: Vec<&str> = expected.iter().map(|t| t.name.as_str()).collect();
            names.sort_unstable();
            names == found
        })
    };
    let models = [Model::Resnet9, Model::Resnet18, Model::Resnet34];
    models
        .iter()
        .find(|model| holds(model))
        .map(|m| format!("; the file holds {m}'s tensors"))
        .unwrap_or_default()
}

/// Names a file's width, when its stem has another number of filters of the same size.
fn width_hint(file: &SafeTensors, layout: &Layout) -> String {
    let stem = layout.parameters.first().and_then(|p| Some((p, file.tensor(&p.name).ok()?)));
    match stem.map(|(p, view)| (&p.shape[..], view.shape().to_vec())) {
        Some(([width, filter @ ..], found))
            if found.len() == 4 && found[1..] == *filter && found[0] != *width =>
        {
            format!("; the file is of width {}", found[0])
        }
        _ => String::new(),
    }
}

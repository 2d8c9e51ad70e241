//! The tensors of a layout: under which names, in which shapes and types a file holds them.

use std::ops::Range;

use half::{bf16, f16};
use safetensors::Dtype;

use super::container::{File, Tensor, View, values};
use super::{Error, Problem};
use crate::graph::{Layout, Model};

/// What PyTorch's batch norms count and this program does not; read over.
const TOLERATED: &str = ".num_batches_tracked";

/// A tensor that a file of this layout holds, and where its values belong.
pub struct Expected {
    pub name: String,
    pub shape: Vec<usize>,
    pub range: Range<usize>,
    /// Of the vector of statistics rather than of the weights.
    pub statistic: bool,
}

/// Every tensor of a layout: parameters, then statistics, in canonical order.
pub fn expected(layout: &Layout) -> Vec<Expected> {
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

/// The tensors of weights (canonical order) and running statistics, parameters first.
pub fn tensors<'a>(layout: &Layout, canonical: &'a [f32], running: &'a [f32]) -> Vec<Tensor<'a>> {
    assert_eq!(running.len(), layout.statistic_count(), "one value a statistic");
    let tensor = |t: Expected| {
        let values = if t.statistic { running } else { canonical };
        Tensor { name: t.name, shape: t.shape, values: &values[t.range] }
    };
    expected(layout).into_iter().map(tensor).collect()
}

/// Flat vectors being filled from a file, weights in canonical order.
pub struct Flat {
    pub weights: Vec<f32>,
    pub running: Vec<f32>,
}

impl Flat {
    pub fn new(layout: &Layout) -> Self {
        Flat { weights: vec![0.0; layout.weight_count()], running: vec![0.0; layout.statistic_count()] }
    }

    fn values(&mut self, t: &Expected) -> &mut [f32] {
        let values = if t.statistic { &mut self.running } else { &mut self.weights };
        &mut values[t.range.clone()]
    }
}

/// A file's tensors under their names without what all of the names begin with.
pub struct Found<'a> {
    file: &'a File,
    /// What all names begin with, ending in a dot; mostly nothing.
    pub prefix: &'a str,
}

impl<'a> Found<'a> {
    /// The tensors under their own names.
    pub fn new(file: &'a File) -> Found<'a> {
        Found { file, prefix: "" }
    }

    /// The tensors without the names of the modules that wrapped the whole model, such as `module.`: of the
    /// beginnings that all names share, the one without which most names are expected.
    pub fn unwrapped(file: &'a File, expected: &[Expected]) -> Found<'a> {
        let names = &file.head.tensors;
        let (first, last) = (names.keys().next(), names.keys().next_back());
        // Names are sorted: what the first and the last share, all do.
        let common = first.zip(last).map_or("", |(first, last)| {
            let shared = first.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
            first.get(..shared).unwrap_or("")
        });
        let dots = common.match_indices('.').map(|(dot, _)| &common[..=dot]);
        let fits = |prefix: &str| {
            expected.iter().filter(|t| names.contains_key(&format!("{prefix}{}", t.name))).count()
        };
        let (mut best, mut most) = ("", fits(""));
        for prefix in dots {
            let fitting = fits(prefix);
            if fitting > most {
                (best, most) = (prefix, fitting);
            }
        }
        Found { file, prefix: best }
    }

    fn tensor(&self, name: &str) -> Option<View<'a>> {
        match self.prefix {
            "" => self.file.tensor(name),
            prefix => self.file.tensor(&format!("{prefix}{name}")),
        }
    }

    /// All names but those that are read over, sorted.
    fn names(&self) -> impl Iterator<Item = &'a str> {
        let (prefix, names) = (self.prefix, self.file.head.tensors.keys());
        let own = names.map(move |name| name.strip_prefix(prefix).unwrap_or(name));
        own.filter(|name| !name.ends_with(TOLERATED))
    }

    fn fail<T>(&self, problem: Problem) -> Result<T, Error> {
        Err(Error::new(&self.file.path, problem))
    }

    /// Whether there is each of these tensors of a layout, in one of the types.
    pub fn check(&self, expected: &[Expected], layout: &Layout, dtypes: &[Dtype]) -> Result<(), Error> {
        for t in expected {
            let Some(view) = self.tensor(&t.name) else {
                let hint = self.model_hint();
                return self.fail(Problem::Missing { name: t.name.clone(), shape: t.shape.clone(), hint });
            };
            if view.shape != t.shape {
                let hint = self.width_hint(layout);
                let (name, expected, found) = (t.name.clone(), t.shape.clone(), view.shape.to_vec());
                return self.fail(Problem::Shape { name, expected, found, hint });
            }
            if !dtypes.contains(&view.dtype) {
                return self.fail(Problem::dtype(&t.name, dtypes, view.dtype));
            }
        }
        Ok(())
    }

    /// Whether there is no tensor but these.
    pub fn only(&self, expected: &[Expected]) -> Result<(), Error> {
        let mut known: Vec<&str> = expected.iter().map(|t| t.name.as_str()).collect();
        known.sort_unstable();
        match self.names().find(|name| known.binary_search(name).is_err()) {
            Some(name) => {
                let shape = self.tensor(name).map(|view| view.shape.to_vec()).unwrap_or_default();
                self.fail(Problem::Extra { name: name.into(), shape, hint: self.model_hint() })
            }
            None => Ok(()),
        }
    }

    /// Copies tensors that [`Found::check`] has seen, as f32.
    pub fn take(&self, expected: &[Expected], flat: &mut Flat) {
        for (t, view) in expected.iter().filter_map(|t| Some((t, self.tensor(&t.name)?))) {
            let to = flat.values(t).iter_mut();
            let bytes = view.bytes;
            match view.dtype {
                Dtype::F64 => to.zip(doubles(bytes)).for_each(|(to, v)| *to = v as f32),
                Dtype::F16 => to.zip(halves(bytes)).for_each(|(to, v)| *to = f16::from_bits(v).to_f32()),
                Dtype::BF16 => to.zip(halves(bytes)).for_each(|(to, v)| *to = bf16::from_bits(v).to_f32()),
                _ => to.zip(values(bytes)).for_each(|(to, v)| *to = v),
            }
        }
    }

    /// Whether all values that [`Found::take`] has taken are numbers.
    pub fn finite(&self, expected: &[Expected], flat: &mut Flat) -> Result<(), Error> {
        for t in expected {
            let values = flat.values(t);
            let Some(at) = values.iter().position(|value| !value.is_finite()) else { continue };
            let view = self.tensor(&t.name).filter(|view| view.dtype == Dtype::F64);
            let written = view.and_then(|view| doubles(view.bytes).nth(at));
            let value = written.unwrap_or(values[at].into());
            let (name, place) = (t.name.clone(), place(&t.shape, at));
            return self.fail(Problem::NotFinite { name, place, value });
        }
        Ok(())
    }

    /// The types of the file's own that [`Found::take`] converts.
    pub fn converted(&self, expected: &[Expected]) -> Vec<Dtype> {
        let mut all: Vec<Dtype> = expected.iter().filter_map(|t| Some(self.tensor(&t.name)?.dtype)).collect();
        all.retain(|&dtype| dtype != Dtype::F32);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Names the model whose tensors a file holds, if it is one of ours.
    fn model_hint(&self) -> String {
        let found: Vec<&str> = self.names().collect();
        let holds = |model: &Model| {
            model.graph(1).is_ok_and(|graph| {
                let expected = expected(&graph.layout);
                let mut names: Vec<&str> = expected.iter().map(|t| t.name.as_str()).collect();
                names.sort_unstable();
                names == found
            })
        };
        let models = [Model::Resnet9, Model::Resnet18, Model::Resnet34];
        let model = models.iter().find(|model| holds(model));
        model.map(|m| format!("; the file holds {m}'s tensors")).unwrap_or_default()
    }

    /// Names a file's width, when its stem has another number of filters of the same size.
    fn width_hint(&self, layout: &Layout) -> String {
        let stem = layout.parameters.first().and_then(|p| Some((p, self.tensor(&p.name)?)));
        match stem.map(|(p, view)| (&p.shape[..], view.shape)) {
            Some(([width, filter @ ..], [found, rest @ ..]))
                if rest.len() == 3 && rest == filter && found != width =>
            {
                format!("; the file is of width {found}")
            }
            _ => self.classes_hint(layout),
        }
    }

    /// Names a file's number of classes, when its classifier has another number of rows of the same length.
    fn classes_hint(&self, layout: &Layout) -> String {
        let classifier = layout.parameters.iter().rfind(|p| p.shape.len() == 2);
        let classifier = classifier.and_then(|p| Some((p, self.tensor(&p.name)?)));
        match classifier.map(|(p, view)| (&p.shape[..], view.shape)) {
            Some(([classes, length], [found, same])) if same == length && found != classes => {
                format!("; the file is for {found} classes")
            }
            _ => String::new(),
        }
    }
}

/// The f64 values of a tensor.
fn doubles(bytes: &[u8]) -> impl Iterator<Item = f64> + '_ {
    bytes.as_chunks::<8>().0.iter().map(|&value| f64::from_le_bytes(value))
}

/// The bits of a tensor's values of 16 bits.
fn halves(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes.as_chunks::<2>().0.iter().map(|&value| u16::from_le_bytes(value))
}

/// The indices of a tensor's value by its place in the tensor's memory.
fn place(shape: &[usize], mut at: usize) -> Vec<usize> {
    let mut place: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&n| {
            let index = at % n.max(1);
            at /= n.max(1);
            index
        })
        .collect();
    place.reverse();
    place
}

#[cfg(test)]
mod tests {
    #[test]
    fn places_count_in_the_order_of_memory() {
        let all: Vec<Vec<usize>> = (0..6).map(|at| super::place(&[2, 3], at)).collect();
        assert_eq!(all, [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]);
    }
}

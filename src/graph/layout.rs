//! The flat vector: where each parameter lies in it, its name in files, and its first value.

use std::ops::Range;

use rayon::prelude::*;

use crate::ops::layer::Init;
use crate::rng::{Purpose, Stream};

/// One named parameter: a range of the flat vector.
///
/// Files, masks and reports use the *canonical* order, PyTorch's (convolutions \[K,C,R,S\]). In memory a
/// convolution's filter is \[K,R,S,C\]; every other parameter is the same in both.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// PyTorch's name, such as `layer1.0.conv1.weight`.
    pub name: String,
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// Where its first element lies in the flat vector, in either order.
    pub offset: usize,
    /// How it starts.
    pub init: Init,
}

impl Parameter {
    /// Number of weights.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its range of the flat vector, in either order.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.count()
    }

    /// Place within the parameter, in memory, of its canonical element `i`.
    pub fn memory_index(&self, i: usize) -> usize {
        match self.shape[..] {
            [_, c, r, s] => {
                let (k, rest) = (i / (c * r * s), i % (c * r * s));
                let (channel, tap) = (rest / (r * s), rest % (r * s));
                (k * r * s + tap) * c + channel
            }
            _ => i,
        }
    }

    /// Brings this parameter's weights from memory order to canonical order, in place.
    ///
    /// # Panics
    /// If `weights` does not hold [`Parameter::count`] elements.
    pub fn make_canonical(&self, weights: &mut [f32]) {
        self.reorder(weights, false);
    }

    /// The way back of [`Parameter::make_canonical`].
    ///
    /// # Panics
    /// If `weights` does not hold [`Parameter::count`] elements.
    pub fn make_memory(&self, weights: &mut [f32]) {
        self.reorder(weights, true);
    }

    fn reorder(&self, weights: &mut [f32], into_memory: bool) {
        assert_eq!(weights.len(), self.count(), "{} has as many weights", self.name);
        if let [_, c, r, s] = self.shape[..] {
            weights.par_chunks_exact_mut(c * r * s).for_each_init(
                Vec::new,
                |filter: &mut Vec<f32>, weights| {
                    filter.clear();
                    filter.extend_from_slice(weights);
                    permute(self, filter, weights, into_memory);
                },
            );
        }
    }
}

/// The running statistics of one batch norm: `mean` then `var`, `channels` values each.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistic {
    /// The layer's name; files append `.running_mean` and `.running_var`.
    pub name: String,
    /// Number of channels.
    pub channels: usize,
    /// Where the mean begins in the flat vector of statistics; the variance follows it.
    pub offset: usize,
}

impl Statistic {
    /// Range of mean and variance together in the flat vector of statistics.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + 2 * self.channels
    }

    /// The two tensors as files name them: (name, range in the flat vector of statistics).
    pub fn tensors(&self) -> [(String, Range<usize>); 2] {
        let middle = self.offset + self.channels;
        [
            (format!("{}.running_mean", self.name), self.offset..middle),
            (format!("{}.running_var", self.name), middle..middle + self.channels),
        ]
    }
}

/// All parameters and statistics of a model, in canonical order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// Parameters, laid end to end.
    pub parameters: Vec<Parameter>,
    /// Batch norms' running statistics, laid end to end in a vector of their own.
    pub statistics: Vec<Statistic>,
}

impl Layout {
    /// Appends a parameter; returns its position in `parameters`.
    pub fn add_parameter(&mut self, name: String, shape: Vec<usize>, init: Init) -> usize {
        let offset = self.weight_count();
        self.parameters.push(Parameter { name, shape, offset, init });
        self.parameters.len() - 1
    }

    /// Appends a batch norm's statistics; returns its position in `statistics`.
    pub fn add_statistic(&mut self, name: String, channels: usize) -> usize {
        let offset = self.statistic_count();
        self.statistics.push(Statistic { name, channels, offset });
        self.statistics.len() - 1
    }

    /// Length of the flat vector.
    pub fn weight_count(&self) -> usize {
        self.parameters.last().map_or(0, |p| p.range().end)
    }

    /// Length of the flat vector of running statistics.
    pub fn statistic_count(&self) -> usize {
        self.statistics.last().map_or(0, |s| s.range().end)
    }

    /// First weights in memory order. Each depends only on the seed and its canonical index.
    pub fn initial_weights(&self, seed: u64) -> Vec<f32> {
        let mut weights = vec![0.0; self.weight_count()];
        for parameter in &self.parameters {
            let draw = |i: usize| {
                let mut stream = Stream::new(seed, Purpose::Init, 0, (parameter.offset + i) as u32);
                match parameter.init {
                    Init::Constant(value) => value,
                    Init::Uniform(bound) => bound * (2.0 * stream.uniform() - 1.0),
                    Init::Normal(std) => (f64::from(std) * stream.normal()) as f32,
                }
            };
            let canonical: Vec<f32> = (0..parameter.count()).into_par_iter().map(draw).collect();
            permute(parameter, &canonical, &mut weights[parameter.range()], true);
        }
        weights
    }

    /// What a run of this seed starts with: [`Layout::initial_weights`] and [`Layout::initial_statistics`].
    pub fn initial_model(&self, seed: u64) -> (Vec<f32>, Vec<f32>) {
        (self.initial_weights(seed), self.initial_statistics())
    }

    /// First running statistics: mean 0, variance 1.
    pub fn initial_statistics(&self) -> Vec<f32> {
        let mut statistics = vec![0.0; self.statistic_count()];
        for s in &self.statistics {
            statistics[s.offset + s.channels..s.range().end].fill(1.0);
        }
        statistics
    }

    /// A flat vector in memory order, from one in canonical order.
    ///
    /// # Panics
    /// If `canonical` does not hold [`Layout::weight_count`] elements.
    pub fn to_memory(&self, canonical: &[f32]) -> Vec<f32> {
        self.reorder(canonical, true)
    }

    /// A flat vector in canonical order, from one in memory order.
    ///
    /// # Panics
    /// If `memory` does not hold [`Layout::weight_count`] elements.
    pub fn to_canonical(&self, memory: &[f32]) -> Vec<f32> {
        self.reorder(memory, false)
    }

    /// Where weights lie in memory: (index in memory, place in `canonical`) of each, ascending.
    ///
    /// # Panics
    /// If the canonical indices do not ascend or one lies beyond the vector.
    pub fn memory_order(&self, canonical: &[u32]) -> Vec<(u32, u32)> {
        let mut order = Vec::with_capacity(canonical.len());
        for parameter in &self.parameters {
            let (Range { start, end }, begun) = (parameter.range(), order.len());
            // The parameter's part; it has the same range in either order.
            let count = canonical[begun..].partition_point(|&i| (i as usize) < end);
            order.extend(
                canonical[begun..begun + count]
                    .iter()
                    .zip(begun as u32..)
                    .map(|(&i, place)| ((start + parameter.memory_index(i as usize - start)) as u32, place)),
            );
            order[begun..].sort_unstable();
        }
        assert_eq!(order.len(), canonical.len(), "ascending indices of the flat vector");
        order
    }

    fn reorder(&self, from: &[f32], into_memory: bool) -> Vec<f32> {
        assert_eq!(from.len(), self.weight_count(), "a flat vector holds every parameter");
        let mut to = vec![0.0; from.len()];
        let mut rest = &mut to[..];
        let piece = |p: &'_ Parameter| {
            let piece;
            (piece, rest) = std::mem::take(&mut rest).split_at_mut(p.count());
            piece
        };
        let pieces: Vec<&mut [f32]> = self.parameters.iter().map(piece).collect();
        let pieces = self.parameters.par_iter().zip(pieces);
        pieces.for_each(|(p, to)| permute(p, &from[p.range()], to, into_memory));
        to
    }
}

/// Copies one parameter between canonical and memory order.
fn permute(parameter: &Parameter, from: &[f32], to: &mut [f32], into_memory: bool) {
    let [_, c, r, s] = parameter.shape[..] else {
        to.copy_from_slice(from);
        return;
    };
    // Between [C, taps] and [taps, C], filter by filter.
    let taps = r * s;
    for (from, to) in from.chunks_exact(c * taps).zip(to.chunks_exact_mut(c * taps)) {
        match (taps, into_memory) {
            (1, _) => to.copy_from_slice(from),
            // Nearly all filters; a row of known length takes a third of the time.
            (9, true) => spread(from.as_chunks::<9>().0, to),
            (9, false) => gather(from, to.as_chunks_mut::<9>().0),
            _ => {
                let (rows, columns) = if into_memory { (c, taps) } else { (taps, c) };
                for (i, value) in from.iter().enumerate() {
                    to[i % columns * rows + i / columns] = *value;
                }
            }
        }
    }
}

/// \[C, N\] to \[N, C\].
fn spread<const N: usize>(from: &[[f32; N]], to: &mut [f32]) {
    let c = from.len();
    for (tap, to) in to.chunks_exact_mut(c).enumerate() {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = from[tap]);
    }
}

/// \[N, C\] to \[C, N\].
fn gather<const N: usize>(from: &[f32], to: &mut [[f32; N]]) {
    let c = to.len();
    for (tap, from) in from.chunks_exact(c).enumerate() {
        to.iter_mut().zip(from).for_each(|(to, from)| to[tap] = *from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        let mut layout = Layout::default();
        layout.add_parameter("conv.weight".into(), vec![2, 3, 2, 2], Init::Uniform(0.5));
        layout.add_parameter("bn.weight".into(), vec![5], Init::Constant(1.0));
        layout.add_statistic("bn".into(), 5);
        layout
    }

    #[test]
    fn memory_order_is_krsc_and_the_way_back_is_exact() {
        let layout = layout();
        let canonical: Vec<f32> = (0..29).map(|i| i as f32).collect();
        let memory = layout.to_memory(&canonical);
        // Filter 0: canonical [C=3, 4 taps] counts 0..12; in memory tap 0 of the three channels comes first.
        assert_eq!(memory[..12], [0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.]);
        assert_eq!(memory[24..], canonical[24..]);
        assert_eq!(layout.to_canonical(&memory), canonical);
        // Canonical 1 is tap 1 of channel 0, 13 the same of filter 1, 25 of the batch norm.
        assert_eq!(layout.memory_order(&[0, 1, 4, 13, 25]), [(0, 0), (1, 2), (3, 1), (15, 3), (25, 4)]);
        for parameter in &layout.parameters {
            for i in 0..parameter.count() {
                let there = parameter.offset + parameter.memory_index(i);
                assert_eq!(memory[there], canonical[parameter.offset + i]);
            }
        }
    }

    #[test]
    fn canonical_order_in_place_is_the_same() {
        let mut layout = layout();
        layout.add_parameter("shortcut.weight".into(), vec![5, 3, 1, 1], Init::Constant(0.0));
        let mut memory: Vec<f32> = (0..layout.weight_count()).map(|i| i as f32).collect();
        let canonical = layout.to_canonical(&memory);
        layout.parameters.iter().for_each(|p| p.make_canonical(&mut memory[p.range()]));
        assert_eq!(memory, canonical);
        layout.parameters.iter().for_each(|p| p.make_memory(&mut memory[p.range()]));
        assert!(memory.iter().enumerate().all(|(i, &v)| v == i as f32));
    }

    #[test]
    fn first_weights_depend_on_seed_and_canonical_index_alone() {
        let layout = layout();
        let weights = layout.to_canonical(&layout.initial_weights(3));
        let expected = 0.5 * (2.0 * Stream::new(3, Purpose::Init, 0, 7).uniform() - 1.0);
        assert_eq!(weights[7], expected);
        assert_eq!(weights[24..], [1.0; 5]);
        assert_ne!(layout.initial_weights(3), layout.initial_weights(4));
        assert_eq!(layout.initial_statistics(), [0., 0., 0., 0., 0., 1., 1., 1., 1., 1.]);
    }
}

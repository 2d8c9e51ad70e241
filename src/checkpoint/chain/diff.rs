//! What changed between two checkpoints.

use crate::graph::layout::{Layout, Parameter};

/// What changed in a parameter between two checkpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    /// The parameter's name.
    pub name: String,
    /// How many weights it has.
    pub weights: usize,
    /// Weights whose bits differ.
    pub changed: usize,
    /// The largest absolute difference; NaN where one of a changed pair is.
    pub largest: f32,
}

/// Compares weights (memory order) parameter by parameter.
///
/// # Panics
/// If `a` or `b` are not as long as the layout says.
pub fn diff(layout: &Layout, a: &[f32], b: &[f32]) -> Vec<Changes> {
    assert_eq!((a.len(), b.len()), (layout.weight_count(), layout.weight_count()), "vectors of the layout");
    let changes = |p: &Parameter| {
        let pairs = a[p.range()].iter().zip(&b[p.range()]);
        let (mut changed, mut largest) = (0, 0.0_f32);
        for (a, b) in pairs.filter(|(a, b)| a.to_bits() != b.to_bits()) {
            changed += 1;
            // As total_cmp orders, a NaN's absolute value is above all others.
            largest = std::cmp::max_by((b - a).abs(), largest, f32::total_cmp);
        }
        Changes { name: p.name.clone(), weights: p.count(), changed, largest }
    };
    layout.parameters.iter().map(changes).collect()
}

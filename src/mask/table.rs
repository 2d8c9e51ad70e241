//! What a mask keeps of each layer.

use super::Mask;
use crate::graph::Layout;

/// One parameter's part in a mask.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its weights.
    pub weights: usize,
    /// How many are kept.
    pub kept: usize,
    /// The sum of its kept weights' scores, as a share of the sum of all weights' scores.
    pub score: f64,
}

/// A row for each parameter. `scores` are in canonical order.
///
/// # Panics
/// If there is not one score a weight.
pub fn rows(layout: &Layout, mask: &Mask, scores: &[f32]) -> Vec<Row> {
    assert_eq!(scores.len(), layout.weights(), "one score a weight");
    let all: f64 = scores.iter().copied().map(f64::from).sum();
    let row = |p: &crate::graph::layout::Parameter| {
        let kept = mask.within(&p.range());
        let score = kept.iter().fold(0.0, |sum, &i| sum + f64::from(scores[i as usize]));
        Row { name: p.name.clone(), weights: p.count(), kept: kept.len(), score: score / all }
    };
    layout.parameters.iter().map(row).collect()
}

/// The sum of all rows, called `all`.
pub fn total(rows: &[Row]) -> Row {
    let zero = Row { name: "all".into(), weights: 0, kept: 0, score: 0.0 };
    rows.iter().fold(zero, |sum, row| Row {
        weights: sum.weights + row.weights,
        kept: sum.kept + row.kept,
        score: sum.score + row.score,
        ..sum
    })
}

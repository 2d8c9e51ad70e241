//! What a mask keeps of each layer.

use super::Mask;
use crate::graph::Layout;

/// One parameter's part in a mask.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The parameter's name.
    pub name: String,
    /// How many weights the parameter has.
    pub weights: usize,
    /// How many of them the mask keeps.
    pub kept: usize,
    /// The sum of its kept weights' scores, as a share of the sum of all weights' scores.
    pub score: f64,
}

/// A row for each parameter. `scores` are in canonical order.
///
/// # Panics
/// If there is not one score a weight.
pub fn rows(layout: &Layout, mask: &Mask, scores: &[f32]) -> Vec<Row> {
    assert_eq!(scores.len(), layout.weight_count(), "one score a weight");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Init;

    #[test]
    fn rows_by_hand() {
        let mut layout = Layout::default();
        layout.add_parameter("a".into(), vec![2, 3], Init::Constant(0.0));
        layout.add_parameter("b".into(), vec![2], Init::Constant(0.0));
        let mask = Mask::new(vec![1, 5, 6], 8).unwrap();
        let rows = rows(&layout, &mask, &[1.0, 2.0, 0.0, 0.0, 0.0, 3.0, 8.0, 2.0]);
        let row = |name: &str, weights, kept, score| Row { name: name.into(), weights, kept, score };
        assert_eq!(rows, [row("a", 6, 2, 5.0 / 16.0), row("b", 2, 1, 8.0 / 16.0)]);
        assert_eq!(total(&rows), row("all", 8, 3, 13.0 / 16.0));
    }
}

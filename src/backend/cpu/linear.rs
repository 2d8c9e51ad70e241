//! The linear layer.

use super::matmul::{Matrix, matmul};
use crate::backend::Linear;

/// y \[N,K\] = scale (x \[N,C\] weight\[K,C\]^T + bias \[K\]), overwritten.
pub(super) fn forward(linear: &Linear, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    let &Linear { n, c, k, scale } = linear;
    matmul((n, k, c), y, k, false, Matrix::rows(x, c), Matrix::rows(weight, c).t());
    for row in y.chunks_exact_mut(k).take(n) {
        if let Some(bias) = bias {
            row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
        row.iter_mut().for_each(|y| *y *= scale);
    }
}

/// dx \[N,C\] = scale dy weight, overwritten.
pub(super) fn dgrad(linear: &Linear, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    let &Linear { n, c, k, scale } = linear;
    matmul((n, c, k), dx, c, false, Matrix::rows(dy, k), Matrix::rows(weight, c));
    dx[..n * c].iter_mut().for_each(|dx| *dx *= scale);
}

/// dweight \[K,C\] = scale dy^T x, overwritten.
pub(super) fn wgrad(linear: &Linear, x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    let &Linear { n, c, k, scale } = linear;
    matmul((k, c, n), dweight, c, false, Matrix::rows(dy, k).t(), Matrix::rows(x, c));
    dweight.iter_mut().for_each(|dw| *dw *= scale);
}

/// dbias \[K\] = scale sum of dy over the batch, overwritten.
pub(super) fn bias_grad(linear: &Linear, dy: &[f32], dbias: &mut [f32]) {
    let &Linear { n, k, scale, .. } = linear;
    for (i, dbias) in dbias.iter_mut().enumerate() {
        let sum: f64 = dy.chunks_exact(k).take(n).map(|row| f64::from(row[i])).sum();
        *dbias = (sum * f64::from(scale)) as f32;
    }
}

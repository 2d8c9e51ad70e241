//! Central differences against an analytic gradient.

use super::reference::Tensor;

/// Step of the difference.
const H: f64 = 1e-5;

/// Asserts that `gradient` is that of the scalar function `f` at `x`, in the elements `at`.
///
/// (f(x + H) - f(x - H)) / 2H is off by H^2 f'''/6, about 2e-11 f''', and by the rounding of f, which a long
/// sum makes some 1e-15 |f|, over H: 1e-10 |f|. The bound 1e-8 (1 + |f| + |gradient|) leaves room for f''' of
/// several hundred, and is still far below any wrong term.
#[track_caller]
pub fn assert_gradient(
    mut f: impl FnMut(&Tensor) -> f64,
    x: &Tensor,
    gradient: &Tensor,
    at: impl IntoIterator<Item = usize>,
    what: &str,
) {
    assert_eq!(x.shape, gradient.shape, "{what}: shape of the gradient");
    let value = f(x);
    let mut moved = x.clone();
    for i in at {
        let mut side = |h: f64| {
            moved.data[i] = x.data[i] + h;
            f(&moved)
        };
        let difference = (side(H) - side(-H)) / (2.0 * H);
        moved.data[i] = x.data[i];
        let (g, bound) = (gradient.data[i], 1e-8 * (1.0 + value.abs() + gradient.data[i].abs()));
        assert!(
            (g - difference).abs() <= bound,
            "{what}: element {i} is {g:e}, the difference {difference:e}"
        );
    }
}

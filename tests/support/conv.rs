//! Shapes of convolutions.

use fishmask::ops::Conv;

/// Filter rows, stride and padding of most layers.
pub const S1: (usize, usize, usize) = (3, 1, 1);
/// Of those that halve the image.
pub const S2: (usize, usize, usize) = (3, 2, 1);
/// Of those beside them.
pub const SHORTCUT: (usize, usize, usize) = (1, 2, 0);

/// A convolution of `n` images.
pub fn conv(
    n: usize,
    (h, w): (usize, usize),
    (c, k): (usize, usize),
    (r, stride, pad): (usize, usize, usize),
) -> Conv {
    Conv { n, h, w, c, k, r, stride, pad }
}

//! The shapes of launches, and checks of their buffers.

use std::ops::Range;

use half::f16;

use super::choice::{Algorithm, Pass, Tile};
use crate::device::driver::{Driver, Launch};
use crate::device::{Array, Vector};
use crate::ops::conv::Conv;
use crate::ops::conv::args::ConvShape;

/// Sizes for kernels.
pub(super) fn shape(conv: &Conv) -> ConvShape {
    let most = conv.inputs().max(conv.outputs());
    assert!(i32::try_from(most).is_ok(), "{conv:?} has not been reserved");
    let [n, h, w, c, k] = [conv.n, conv.h, conv.w, conv.c, conv.k].map(|v| v as u32);
    let [r, stride, pad, p, q] = [conv.r, conv.stride, conv.pad, conv.p(), conv.q()].map(|v| v as u32);
    ConvShape { n, h, w, c, k, r, stride, pad, p, q }
}

/// Blocks of 256 threads, one an element.
pub(super) fn elementwise(elements: usize) -> Launch {
    Launch::new(elements.div_ceil(256) as u32, 256)
}

/// One block a tile, columns first so that blocks with the same rows run together.
pub(super) fn tiled(tile: Tile, rows: usize, columns: usize, layers: usize) -> Launch {
    let blocks = rows.div_ceil(tile.rows()) * columns.div_ceil(tile.columns());
    Launch { grid: [blocks as u32, layers as u32, 1], block: tile.threads(), shared: tile.shared() }
}

/// The weights as tensor cores read them.
pub(super) fn halves<D: Driver>(weights: &Vector<D>) -> &Array<D, f16> {
    match &weights.halves {
        Some(halves) => halves,
        None => panic!("a convolution's weights were not made by Buffers::upload_weights"),
    }
}

/// Sees that an algorithm can do a pass, and that its buffers are long enough.
pub(super) fn check<D: Driver>(
    (pass, algorithm): (Pass, Algorithm),
    conv: &Conv,
    x: &Array<D, f16>,
    y: &Array<D, f16>,
    filter: &Range<usize>,
) {
    assert!(
        pass.algorithms(conv, filter.start).contains(&algorithm),
        "{algorithm:?} cannot do {pass:?} of {conv:?} with a filter at {}",
        filter.start
    );
    assert!(conv.n > 0, "a convolution of no images");
    assert!(x.len() >= conv.inputs(), "x or dx has {} elements, not {}", x.len(), conv.inputs());
    assert!(y.len() >= conv.outputs(), "y or dy has {} elements, not {}", y.len(), conv.outputs());
    assert_eq!(filter.len(), conv.k * conv.r * conv.r * conv.c, "length of the filter of {conv:?}");
}

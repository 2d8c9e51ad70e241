//! The shapes of launches over a norm's pixels, and checks of its buffers.

use crate::device::driver::{Driver, Kernel, Launch};
use crate::device::{Array, Vector};
use crate::ops::norm::args::{self as kernels, BACKWARD_BATCH, THREADS, Tile, Window};
use crate::ops::norm::{Affine, DEAD, Groups, Norm, Pool};

const _: () = assert!(kernels::DEAD == DEAD as u32);

/// Most blocks of a launch over a whole batch: several for each multiprocessor of any GPU, and few enough for
/// their partial sums to be a small part of the work.
const BLOCKS: usize = 1024;
/// Most blocks along x for each image alone. Not fewer when there are many images, so that an image's sums
/// have the same bits in any batch.
const SAMPLE_BLOCKS: usize = 4;

/// What a launch over one norm's pixels is made of.
pub(super) struct Shape {
    /// Groups of images normalised together.
    pub groups: usize,
    /// Input pixels of a group.
    pub inputs: usize,
    /// Output pixels of a group.
    pub outputs: usize,
    c: usize,
    /// Whether all images are one group.
    together: bool,
}

impl Shape {
    pub fn new(norm: &Norm, groups: Groups) -> Shape {
        let (count, images) = match groups {
            Groups::Batch => (1, norm.n),
            Groups::EachImage => (norm.n, 1),
        };
        let side = |length| norm.pool.map_or(length, |pool| pool.outputs(length));
        Shape {
            groups: count,
            inputs: images * norm.h * norm.w,
            outputs: images * side(norm.h) * side(norm.w),
            c: norm.c,
            together: groups == Groups::Batch,
        }
    }

    /// Channels of a thread: 16 bytes, where each pixel begins at a multiple of that.
    fn width(&self) -> usize {
        if self.c.is_multiple_of(8) { 8 } else { 1 }
    }

    /// (Threads side by side along C, blocks along y, pixels of a block at a time). Up to 32 threads are 512
    /// bytes side by side; the rest of a block takes the next pixels.
    fn block(&self) -> (usize, usize, usize) {
        let threads = self.c / self.width();
        let columns = threads.div_ceil(32);
        let lanes = threads.div_ceil(columns);
        (lanes, columns, THREADS as usize / lanes)
    }

    /// Most blocks along x over `pixels` of each group, whose threads have `batch` of them under way at a
    /// time. It grows with the pixels.
    pub fn blocks(&self, pixels: usize, batch: u32) -> usize {
        let (_, columns, rows) = self.block();
        let most = if self.together { (BLOCKS / columns).max(1) } else { SAMPLE_BLOCKS };
        pixels.div_ceil(rows * batch as usize).clamp(1, most)
    }

    /// A launch over `pixels` of each group, and how its blocks cover them.
    pub fn tile(&self, pixels: usize, batch: u32) -> (Tile, Launch) {
        let (lanes, columns, rows) = self.block();
        let chunk = pixels.div_ceil(self.blocks(pixels, batch)).next_multiple_of(rows);
        let grid = [pixels.div_ceil(chunk) as u32, columns as u32, self.groups as u32];
        let tile = Tile { lanes: lanes as u32, rows: rows as u32, chunk: chunk as u32 };
        (tile, Launch { grid, block: THREADS, shared: 0 })
    }

    /// Elements of a tensor with so many pixels in a group.
    pub fn elements(&self, pixels: usize) -> usize {
        self.groups * pixels * self.c
    }

    /// One of a kernel's two widths.
    pub fn pick<A>(&self, eight: &'static Kernel<A>, one: &'static Kernel<A>) -> &'static Kernel<A> {
        if self.width() == 8 { eight } else { one }
    }
}

/// Pixels a thread of the sums has under way at a time.
pub(super) fn sums_batch(norm: &Norm) -> u32 {
    if norm.pool.is_some() { 1 } else { BACKWARD_BATCH }
}

/// The norm's pooling windows, for kernels.
pub(super) fn window(norm: &Norm) -> Window {
    let Some(pool) = norm.pool else { return Window::default() };
    let Pool { size, stride, pad } = pool;
    assert!((1..=15).contains(&size) && stride > 0, "a place in a window fits a byte: {pool:?}");
    Window {
        h: norm.h as u32,
        w: norm.w as u32,
        p: pool.outputs(norm.h) as u32,
        q: pool.outputs(norm.w) as u32,
        size: size as u32,
        stride: stride as u32,
        pad: pad as u32,
        reciprocal: (1_u32 << 31).div_ceil(stride as u32),
    }
}

/// Lower bound that a ReLU is, or none.
pub(super) fn floor(relu: bool) -> f32 {
    if relu { 0.0 } else { f32::NEG_INFINITY }
}

/// Where scale and shift lie on the device.
#[track_caller]
pub(super) fn parameters<D: Driver>(
    weights: &Vector<D>,
    affine: &Affine,
    c: usize,
) -> (*const f32, *const f32) {
    assert!(affine.weight.len() == c && affine.bias.len() == c, "a scale and a shift a channel");
    (weights.values.slice(&affine.weight), weights.values.slice(&affine.bias))
}

/// Sees that an array is long enough.
#[track_caller]
pub(super) fn holds<D: Driver, T: bytemuck::Pod>(array: &Array<D, T>, elements: usize, what: &str) {
    assert!(array.len() >= elements, "{what} has {} elements of {elements}", array.len());
}

/// Where an array begins, or null.
pub(super) fn pointer<D: Driver, T: bytemuck::Pod>(array: Option<&Array<D, T>>) -> *const T {
    array.map_or(std::ptr::null(), Array::pointer)
}

//! Batch norm with what follows it: batch, running and per-sample statistics.

mod moments;
mod passes;

use super::Array;
use super::args::batch_norm::{self as kernels, BACKWARD_BATCH, THREADS, Tile, Window};
use crate::backend::{DEAD, Norm, Pool};
use crate::driver::{Driver, Kernel, Launch};

const _: () = assert!(kernels::DEAD == DEAD as u32);

/// Most blocks of a launch over a whole batch: several for each multiprocessor of any GPU, and few enough for their
/// partial sums to be a small part of the work.
const BLOCKS: usize = 1024;
/// Most blocks along x for each image alone. Not fewer when there are many images, so that an image's sums have the
/// same bits in any batch.
const SAMPLE_BLOCKS: usize = 4;

/// Images normalised together: all of a batch, or each alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Batch,
    Sample,
}

/// What a launch over one norm's pixels is made of.
struct Shape {
    /// Groups.
    groups: usize,
    /// Input pixels of a group.
    inputs: usize,
    /// Output pixels of a group.
    outputs: usize,
    /// Channels.
    c: usize,
    /// Whether all images are one group.
    together: bool,
}

impl Shape {
    fn new(norm: &Norm, group: Group) -> Shape {
        let (groups, images) = match group {
            Group::Batch => (1, norm.n),
            Group::Sample => (norm.n, 1),
        };
        let side = |length| norm.pool.map_or(length, |pool| pool.outputs(length));
        Shape {
            groups,
            inputs: images * norm.h * norm.w,
            outputs: images * side(norm.h) * side(norm.w),
            c: norm.c,
            together: group == Group::Batch,
        }
    }

    /// Channels of a thread: 16 bytes, where each pixel begins at a multiple of that.
    fn width(&self) -> usize {
        if self.c.is_multiple_of(8) { 8 } else { 1 }
    }

    /// (Threads side by side along C, blocks along y, pixels of a block at a time). Up to 32 threads are 512 bytes side
    /// by side; the rest of a block takes the next pixels.
    fn block(&self) -> (usize, usize, usize) {
        let threads = self.c / self.width();
        let columns = threads.div_ceil(32);
        let lanes = threads.div_ceil(columns);
        (lanes, columns, THREADS as usize / lanes)
    }

    /// Most blocks along x over `pixels` of each group, whose threads have `batch` of them under way at a time. It
    /// grows with the pixels.
    fn blocks(&self, pixels: usize, batch: u32) -> usize {
        let (_, columns, rows) = self.block();
        let most = if self.together { (BLOCKS / columns).max(1) } else { SAMPLE_BLOCKS };
        pixels.div_ceil(rows * batch as usize).clamp(1, most)
    }

    fn tile(&self, pixels: usize, batch: u32) -> (Tile, Launch) {
        let (lanes, columns, rows) = self.block();
        let chunk = pixels.div_ceil(self.blocks(pixels, batch)).next_multiple_of(rows);
        let grid = [pixels.div_ceil(chunk) as u32, columns as u32, self.groups as u32];
        let tile = Tile { lanes: lanes as u32, rows: rows as u32, chunk: chunk as u32 };
        (tile, Launch { grid, block: THREADS, shared: 0 })
    }

    fn elements(&self, pixels: usize) -> usize {
        self.groups * pixels * self.c
    }

    /// One of a kernel's two widths.
    fn pick<A>(&self, eight: &'static Kernel<A>, one: &'static Kernel<A>) -> &'static Kernel<A> {
        if self.width() == 8 { eight } else { one }
    }
}

/// Pixels a thread of the sums has under way at a time.
fn sums_batch(norm: &Norm) -> u32 {
    if norm.pool.is_some() { 1 } else { BACKWARD_BATCH }
}

fn window(norm: &Norm) -> Window {
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

/// Values of scratch a backward pass needs: partial sums, then slopes, for any `n` up to the norm's.
fn backward_scratch(norm: &Norm, group: Group) -> usize {
    let shape = Shape::new(norm, group);
    shape.groups * (shape.blocks(shape.outputs, sums_batch(norm)) + 1) * 2 * norm.c
}

/// Values of scratch a batch norm's backward pass needs.
pub(super) fn scratch(norm: &Norm) -> usize {
    backward_scratch(norm, Group::Batch)
}

/// Values of scratch its scores need: each image's gradients, then its backward pass's.
pub(super) fn score_scratch(norm: &Norm) -> usize {
    2 * norm.c * norm.n + backward_scratch(norm, Group::Sample)
}

#[track_caller]
fn holds<D: Driver, T: bytemuck::Pod>(array: &Array<D, T>, elements: usize, what: &str) {
    assert!(array.len() >= elements, "{what} has {} elements of {elements}", array.len());
}

//! What a convolution reads and writes on the CPU, and what it works in.

use rayon::prelude::*;

use crate::device::Scratch;
use crate::device::scratch::{self, Locals, Memory, lines};

/// Scratch of one convolution, in elements.
#[derive(Clone, Copy)]
pub(super) struct Need {
    /// f32, used by all threads together.
    pub shared: usize,
    /// f32, for one thread at a time.
    pub local: usize,
    /// f64, partial sums of y.
    pub sums: usize,
}

impl Need {
    pub fn scratch(self) -> Scratch {
        let shared = scratch::bytes::<f64>(self.sums) + scratch::bytes::<f32>(self.shared);
        Scratch { shared, local: scratch::bytes::<f32>(self.local), activations: 0 }
    }
}

/// A convolution's part of the scratch. Nothing is allocated while convolving.
pub(super) struct Workspace<'a> {
    /// f32, used by all threads together.
    pub shared: &'a mut [f32],
    /// f32 of each thread.
    pub locals: &'a Locals,
    /// Partial sums of y.
    pub sums: &'a mut [f64],
}

impl<'a> Workspace<'a> {
    /// The workspace of a convolution with such a need.
    ///
    /// # Panics
    /// If no room for it was reserved.
    pub fn new(memory: &'a mut Memory, need: Need) -> Self {
        let (mut shared, locals) = memory.parts();
        let sums = scratch::take(&mut shared, need.sums);
        Workspace { shared: scratch::take(&mut shared, need.shared), locals, sums }
    }
}

/// What fprop reads and writes.
pub(super) struct Fprop<'a> {
    /// \[N,H,W,C\]
    pub x: &'a [f32],
    /// \[K,R,R,C\]
    pub filter: &'a [f32],
    /// \[N,P,Q,K\], overwritten.
    pub y: &'a mut [f32],
    /// \[2,K\], overwritten: the sum and the sum of squares of y over N, P, Q.
    pub sums: Option<&'a mut [f64]>,
}

/// What dgrad reads and writes.
pub(super) struct Dgrad<'a> {
    /// \[N,P,Q,K\]
    pub dy: &'a [f32],
    /// \[K,R,R,C\]
    pub filter: &'a [f32],
    /// \[N,H,W,C\]
    pub dx: &'a mut [f32],
    /// Whether dx is added to rather than overwritten.
    pub accumulate: bool,
}

/// The first `len` elements, on whole cache lines, and the rest.
pub(super) fn split(scratch: &mut [f32], len: usize) -> (&mut [f32], &mut [f32]) {
    let (head, rest) = scratch.split_at_mut(lines(len));
    (&mut head[..len], rest)
}

/// dst \[cols,rows\] = src \[rows,cols\] transposed.
pub(super) fn transpose(src: &[f32], rows: usize, cols: usize, dst: &mut [f32]) {
    /// Side of the squares that are turned in registers or the first cache level.
    const SIDE: usize = 16;
    /// Columns of src in a task: neighbouring squares share pages.
    const COLUMNS: usize = 4 * SIDE;
    assert_eq!(src.len(), rows * cols, "length of a matrix [{rows},{cols}]");
    dst[..rows * cols].par_chunks_mut(COLUMNS * rows).enumerate().for_each(|(task, dst)| {
        let first = task * COLUMNS;
        for row in (0..rows).step_by(SIDE) {
            let height = SIDE.min(rows - row);
            for (square, dst) in dst.chunks_mut(SIDE * rows).enumerate() {
                let (column, width) = (first + square * SIDE, dst.len() / rows);
                let mut turned = [[0.0; SIDE]; SIDE];
                if height == SIDE && width == SIDE {
                    for i in 0..SIDE {
                        let line = &src[(row + i) * cols + column..][..SIDE];
                        for j in 0..SIDE {
                            turned[j][i] = line[j];
                        }
                    }
                } else {
                    for i in 0..height {
                        let line = &src[(row + i) * cols + column..][..width];
                        line.iter().zip(&mut turned).for_each(|(v, turned)| turned[i] = *v);
                    }
                }
                for (dst, turned) in dst.chunks_exact_mut(rows).zip(&turned) {
                    dst[row..row + height].copy_from_slice(&turned[..height]);
                }
            }
        }
    });
}

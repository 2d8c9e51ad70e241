//! The memory a list of convolutions works in, allocated once.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::transform::{F2, F4};
use super::{Algorithm, algorithm, im2col, winograd};
use crate::backend::Conv;

/// One cache line; buffers are whole lines so that vector loads do not straddle two.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// f32 elements rounded up to whole cache lines.
pub(super) fn lines(len: usize) -> usize {
    len.next_multiple_of(16)
}

/// Scratch sizes of one convolution, in elements.
#[derive(Clone, Copy, Default)]
pub(super) struct Need {
    /// f32, used by all threads together.
    pub shared: usize,
    /// f32, for one thread at a time.
    pub local: usize,
    /// f64, partial sums of y.
    pub sums: usize,
}

/// A scratch for one task at a time; there is one for each thread of the pool.
pub(super) struct Locals(Vec<Mutex<Vec<Line>>>);

impl Locals {
    /// The calling thread's scratch. Tasks must not start others while they hold it.
    pub fn take(&self) -> LocalGuard<'_> {
        let index = rayon::current_thread_index().unwrap_or(0) % self.0.len();
        // A panic elsewhere leaves only stale scratch behind, which every task overwrites before reading.
        LocalGuard(self.0[index].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) struct LocalGuard<'a>(MutexGuard<'a, Vec<Line>>);

impl LocalGuard<'_> {
    pub fn slice(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// Scratch for a list of convolutions, allocated once; nothing is allocated while convolving.
///
/// Its size depends on the number of threads of the rayon pool it is made in. It works in any other pool, with
/// tasks waiting for each other where there are more threads.
pub struct Workspace {
    shared: Vec<Line>,
    locals: Locals,
    sums: Vec<f64>,
}

impl Workspace {
    /// Scratch for each of `convs`, at its n and every smaller one.
    pub fn new(convs: &[Conv]) -> Self {
        let with: Vec<_> = convs.iter().map(|conv| (*conv, algorithm(conv))).collect();
        Self::with_algorithms(&with)
    }

    /// Scratch for convolutions by given algorithms.
    pub fn with_algorithms(convs: &[(Conv, Algorithm)]) -> Self {
        let mut most = Need::default();
        for (conv, algorithm) in convs {
            let need = match algorithm {
                Algorithm::Im2col => im2col::need(conv),
                Algorithm::Winograd2 => winograd::need::<F2, 2, 4>(conv),
                Algorithm::Winograd4 => winograd::need::<F4, 4, 6>(conv),
            };
            most.shared = most.shared.max(need.shared);
            most.local = most.local.max(need.local);
            most.sums = most.sums.max(need.sums);
        }
        let zeros = |len: usize| vec![Line::zeroed(); len.div_ceil(16)];
        Self {
            shared: zeros(most.shared),
            locals: Locals(
                (0..rayon::current_num_threads()).map(|_| Mutex::new(zeros(most.local))).collect(),
            ),
            sums: vec![0.0; most.sums],
        }
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        let locals: usize = self.locals.0.iter().map(|l| l.lock().map_or(0, |l| l.len())).sum();
        (self.shared.len() + locals) * size_of::<Line>() + self.sums.len() * size_of::<f64>()
    }

    /// (shared f32, per-thread f32, partial sums).
    pub(super) fn parts(&mut self) -> (&mut [f32], &Locals, &mut [f64]) {
        (bytemuck::cast_slice_mut(&mut self.shared), &self.locals, &mut self.sums)
    }
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

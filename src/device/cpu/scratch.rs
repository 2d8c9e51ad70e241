//! The memory that operations work in on the CPU, allocated before they run.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytemuck::{AnyBitPattern, NoUninit, Pod, Zeroable};

/// Bytes of a cache line.
const LINE: usize = size_of::<Line>();

/// One cache line; buffers are whole lines so that vector loads do not straddle two.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// f32 elements rounded up to whole cache lines.
pub fn lines(len: usize) -> usize {
    len.next_multiple_of(16)
}

/// Bytes of `len` values of a type, rounded up to whole cache lines: what [`take`] takes of scratch.
pub fn bytes<T>(len: usize) -> usize {
    (len * size_of::<T>()).next_multiple_of(LINE)
}

/// Takes `len` values, on whole cache lines, from the front of some scratch.
///
/// # Panics
/// If the scratch is too short: no room was reserved.
pub fn take<'a, T: NoUninit + AnyBitPattern>(scratch: &mut &'a mut [u8], len: usize) -> &'a mut [T] {
    let bytes = bytes::<T>(len);
    assert!(bytes <= scratch.len(), "{bytes} bytes of scratch are needed, and {} are left", scratch.len());
    let (front, rest) = std::mem::take(scratch).split_at_mut(bytes);
    *scratch = rest;
    bytemuck::cast_slice_mut(&mut front[..len * size_of::<T>()])
}

/// A scratch for one task at a time; there is one for each thread of the pool.
pub struct Locals(Vec<Mutex<Vec<Line>>>);

impl Locals {
    /// The calling thread's scratch. Tasks must not start others while they hold it.
    ///
    /// # Panics
    /// If no room was reserved.
    pub fn take(&self) -> LocalGuard<'_> {
        assert!(!self.0.is_empty(), "no scratch was reserved for threads");
        let index = rayon::current_thread_index().unwrap_or(0) % self.0.len();
        // A panic elsewhere leaves only stale scratch behind, which every task overwrites before reading.
        LocalGuard(self.0[index].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A thread's scratch, while a task holds it.
pub struct LocalGuard<'a>(MutexGuard<'a, Vec<Line>>);

impl LocalGuard<'_> {
    /// All of the scratch.
    pub fn slice(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// Scratch of all threads together, and of each.
///
/// There is one for each thread of the rayon pool in which it grows. It works in any other pool, with tasks
/// waiting for each other where there are more threads.
pub struct Memory {
    shared: Vec<Line>,
    locals: Locals,
}

impl Default for Memory {
    fn default() -> Self {
        Memory { shared: vec![], locals: Locals(vec![]) }
    }
}

impl Memory {
    /// Makes room for so many bytes for all threads together, and for each of them.
    pub fn grow(&mut self, shared: usize, local: usize) {
        let grow = |lines: &mut Vec<Line>, bytes: usize| {
            lines.resize(lines.len().max(bytes.div_ceil(LINE)), Line::zeroed());
        };
        grow(&mut self.shared, shared);
        let locals = &mut self.locals.0;
        locals.resize_with(locals.len().max(rayon::current_num_threads()), Mutex::default);
        for lines in locals {
            grow(lines.get_mut().unwrap_or_else(PoisonError::into_inner), local);
        }
    }

    /// The scratch of all threads together, and each thread's.
    pub fn parts(&mut self) -> (&mut [u8], &Locals) {
        (bytemuck::cast_slice_mut(&mut self.shared), &self.locals)
    }
}

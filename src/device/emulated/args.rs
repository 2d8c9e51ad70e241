//! `kernels/testing/*.cu`: kernels for the tests of the emulated device alone.

use half::f16;

use crate::device::driver::Kernel;

/// What any of them may need.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TestArgs {
    /// f32 in and out.
    pub floats: *mut f32,
    /// f16 in and out.
    pub halves: *mut f16,
    /// u32 in and out.
    pub words: *mut u32,
    /// u64 in and out.
    pub longs: *mut u64,
    /// Elements, repetitions or the like.
    pub n: u32,
}

/// A kernel of `kernels/testing`.
pub const fn testing(name: &'static str) -> Kernel<TestArgs> {
    Kernel::new("testing", name)
}

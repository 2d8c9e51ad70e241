//! The kernels as nvcc compiled them when fishmask was built: one fat binary for each `kernels/*.cu`, and
//! ptxas's report of what each takes. Empty where there was no nvcc.

/// A file's kernels, as machine code for every one of [`ARCHITECTURES`] and as [`PTX`].
#[derive(Clone, Copy, Debug)]
pub struct FatBinary {
    /// `kernels/<file>.cu`.
    pub file: &'static str,
    /// What libcuda's `cuModuleLoadData` takes, 64-byte aligned.
    pub image: &'static [u8],
}

/// What a compiled function takes, in ptxas's words.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// `kernels/<file>.cu`.
    pub file: &'static str,
    /// One of [`ARCHITECTURES`].
    pub architecture: &'static str,
    /// A kernel's name, or the mangled name of a function that kernels call.
    pub function: &'static str,
    /// Registers of a thread; none for a function that is not a kernel.
    pub registers: Option<u32>,
    /// Bytes of a thread's stack frame.
    pub stack: u32,
    /// Bytes of registers written to memory for want of room.
    pub spill_stores: u32,
    /// Bytes of them read again.
    pub spill_loads: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
}

// The driver reads the header of an image as words. Not used where there is no image.
#[allow(dead_code)]
#[repr(C, align(64))]
struct Aligned<T>(T);

include!(concat!(env!("OUT_DIR"), "/cuda_kernels.rs"));

/// By file.
pub static FAT_BINARIES: &[FatBinary] = BINARIES;

/// Each function for each architecture.
pub static USAGE: &[Usage] = REPORT;

/// The architectures there is machine code for, such as `sm_80` or `sm_90a`.
pub const ARCHITECTURES: &[&str] = CODES;

/// Architectures that were asked for and that nvcc did not know.
pub const LEFT_OUT: &[&str] = UNKNOWN;

/// The architecture of the PTX, which later ones can run, such as `compute_80`.
pub const PTX: Option<&str> = VIRTUAL;

/// The nvcc that compiled the kernels, as its `--version` says.
pub const fn nvcc() -> Option<&'static str> {
    VERSION
}

/// Why there are no kernels and what to do about it, or nothing if there are.
pub const fn absent() -> Option<&'static str> {
    ABSENT
}

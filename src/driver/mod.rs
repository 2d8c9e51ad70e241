//! What the CUDA backend asks of a device: memory, kernels, graphs, time.
//!
//! Two drivers answer: `cuda`, a GPU through libcuda, and [`emulated`], which runs the same kernel files on the host's
//! cores.

pub mod emulated;

use std::marker::PhantomData;

/// Why a device did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kernel was stopped, or could not be started.
    #[error("kernel {kernel} (grid {grid:?}, block {block}, {shared} bytes of shared memory): {reason}")]
    Launch {
        /// The kernel.
        kernel: &'static str,
        /// Blocks along x, y, z.
        grid: [u32; 3],
        /// Threads in a block.
        block: u32,
        /// Bytes of dynamic shared memory.
        shared: u32,
        /// In the driver's words.
        reason: String,
    },
    /// No room on the device.
    #[error("{device} has no room for {wanted} bytes: {free} of its {total} bytes are free")]
    OutOfMemory {
        /// The device.
        device: String,
        /// Bytes asked for.
        wanted: usize,
        /// Bytes free.
        free: usize,
        /// Bytes in all.
        total: usize,
    },
    /// Anything else, in the driver's words.
    #[error("{device}: cannot {action}: {reason}")]
    Device {
        /// The device.
        device: String,
        /// What was tried.
        action: &'static str,
        /// Why not.
        reason: String,
    },
}

/// A kernel by its file and name, and the struct of its arguments.
pub struct Kernel<A> {
    /// `kernels/<file>.cu`.
    pub file: &'static str,
    /// The entry's name.
    pub name: &'static str,
    arguments: PhantomData<fn(A)>,
}

impl<A> Kernel<A> {
    /// The kernel `name` of `kernels/<file>.cu`.
    pub const fn new(file: &'static str, name: &'static str) -> Self {
        Kernel { file, name, arguments: PhantomData }
    }
}

/// The shape of a launch. Blocks are one-dimensional and a multiple of 32 threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads in a block.
    pub block: u32,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
}

impl Launch {
    /// Blocks along x alone, no dynamic shared memory.
    pub fn new(blocks: u32, threads: u32) -> Self {
        Launch { grid: [blocks, 1, 1], block: threads, shared: 0 }
    }
}

/// What a device is.
#[derive(Clone, Debug, PartialEq)]
pub struct Properties {
    /// Its name.
    pub name: String,
    /// Blocks it can run at once: multiprocessors, or host threads.
    pub processors: u32,
    /// Bytes of its memory.
    pub memory: usize,
    /// Most bytes of shared memory of a block.
    pub shared: u32,
}

/// A device.
///
/// Work is done in the order in which it was asked for. Kernels are trusted as this library's own code is: a launch is
/// safe because every geometry and argument comes from `backend/cuda`, whose launches all run on the checked emulated
/// device in the tests.
pub trait Driver {
    /// A piece of device memory, freed when dropped.
    type Buffer;
    /// Recorded work.
    type Graph;
    /// A moment in the device's work.
    type Event;

    /// What the device is.
    fn properties(&self) -> &Properties;
    /// Memory with nothing in particular in it, 256-byte aligned.
    fn allocate(&self, bytes: usize) -> Result<Self::Buffer, Error>;
    /// Where a buffer lies on the device.
    fn address(&self, buffer: &Self::Buffer) -> u64;
    /// A buffer's size.
    fn bytes(&self, buffer: &Self::Buffer) -> usize;
    /// Copies from the host to `offset` bytes into a buffer.
    fn upload(&self, from: &[u8], to: &mut Self::Buffer, offset: usize) -> Result<(), Error>;
    /// Copies to the host from `offset` bytes into a buffer.
    fn download(&self, from: &Self::Buffer, offset: usize, to: &mut [u8]) -> Result<(), Error>;
    /// Fills a buffer with zeros.
    fn clear(&self, buffer: &mut Self::Buffer) -> Result<(), Error>;
    /// Runs a kernel.
    fn launch<A: Copy + 'static>(&self, kernel: &Kernel<A>, launch: Launch, args: A) -> Result<(), Error>;
    /// Records the launches of `work` instead of running them.
    fn record(&self, work: &mut dyn FnMut() -> Result<(), Error>) -> Result<Self::Graph, Error>;
    /// Runs recorded work.
    fn replay(&self, graph: &Self::Graph) -> Result<(), Error>;
    /// Marks this moment in the device's work.
    fn event(&self) -> Result<Self::Event, Error>;
    /// Seconds between two moments, when both have passed.
    fn elapsed(&self, from: &Self::Event, to: &Self::Event) -> Result<f64, Error>;
    /// Waits for all work.
    fn synchronize(&self) -> Result<(), Error>;
}

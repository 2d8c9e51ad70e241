//! What is asked of a device that runs kernels: memory, launches, graphs, time.
//!
//! Two drivers answer: `gpu`, a GPU through libcuda, and `emulated`, which runs the same kernel files on the
//! host's cores and is left out (`cfg(fishmask_emulated)`) where there was no C++ compiler.

use std::fmt;
use std::marker::PhantomData;

/// A version of CUDA or a compute capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Why a device did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    /// A kernel was stopped, or could not be started.
    #[error("kernel {kernel} (grid {grid:?}, block {block}, {shared} bytes of shared memory): {reason}")]
    Launch {
        kernel: &'static str,
        grid: [u32; 3],
        block: u32,
        /// Bytes of dynamic shared memory.
        shared: u32,
        /// In the driver's words.
        reason: String,
    },
    /// No room on the device.
    #[error("{device} has no room for {wanted} bytes: {free} of its {total} bytes are free")]
    OutOfMemory { device: String, wanted: usize, free: usize, total: usize },
    /// Anything else, in the driver's words.
    #[error("{device}: cannot {action}: {reason}")]
    Device { device: String, action: &'static str, reason: String },
    /// libcuda is missing or cannot be used.
    #[error("no NVIDIA driver ({reason}): install one for CUDA {needed} or newer, or use the CPU")]
    NoDriver {
        /// What was found instead.
        reason: String,
        /// The CUDA version that its driver must support.
        needed: Version,
    },
    /// There is a driver, and nothing that it drives.
    #[error(
        "the NVIDIA driver finds no GPU: see that nvidia-smi lists one, that CUDA_VISIBLE_DEVICES does not \
         hide it and that a container is started with it, or use the CPU"
    )]
    NoGpu,
    /// The driver is older than the kernels.
    #[error(
        "the NVIDIA driver supports CUDA {found}, and the kernels need a driver for CUDA {needed}{}: update \
         the driver",
        branch(*.needed)
    )]
    DriverTooOld {
        /// The newest CUDA version that the driver supports.
        found: Version,
        /// The oldest that will do.
        needed: Version,
    },
    /// The GPU lacks what the kernels use.
    #[error(
        "cuda:{ordinal} ({name}) has compute capability {found}, and the kernels need {needed} or newer: use \
         another GPU or the CPU"
    )]
    GpuTooOld {
        ordinal: usize,
        name: String,
        found: Version,
        /// The oldest that will do.
        needed: Version,
    },
    /// A number beyond the last GPU's.
    #[error("cuda:{asked}: this machine has {}", gpus(*.count))]
    NoSuchGpu { asked: usize, count: usize },
    /// A device that runs no kernels.
    #[error("--device {device}: kernels run on cuda, cuda:N or emulated")]
    NoKernels { device: String },
    /// The library was built without a C++ compiler.
    #[error(
        "--device emulated: this program was built without a C++ compiler, which its kernels need; install \
         one (g++) and build again"
    )]
    NoEmulated,
    /// The library was built without nvcc, or for no GPU.
    #[error("there are no CUDA kernels: {reason}")]
    NotBuilt {
        /// Why, and what to do about it.
        reason: &'static str,
    },
    /// The kernels were built for other GPUs.
    #[error(
        "the kernels were not built for {device}, which has compute capability {capability}: build again \
         with {}{} among FISHMASK_CUDA_ARCHS",
        .capability.major, .capability.minor
    )]
    OtherArchitecture { device: String, capability: Version },
}

/// The first driver for a CUDA version, where known.
fn branch(cuda: Version) -> &'static str {
    match (cuda.major, cuda.minor) {
        (12, 4) => " (r550) or newer",
        (13, 0) => " (r580) or newer",
        _ => " or newer",
    }
}

/// `count` GPUs and their names.
fn gpus(count: usize) -> String {
    match count {
        1 => "1 GPU, cuda:0".into(),
        _ => format!("{count} GPUs, cuda:0 to cuda:{}", count.saturating_sub(1)),
    }
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
#[allow(missing_docs)]
pub struct Launch {
    pub grid: [u32; 3],
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
#[allow(missing_docs)]
pub struct Properties {
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
/// Work is done in the order in which it was asked for. Kernels are trusted as this library's own code is: a
/// launch is safe because every geometry and argument comes from `ops` and `optim`, whose launches all run on
/// the checked emulated device in the tests.
pub trait Driver: 'static {
    /// A piece of device memory, freed when dropped.
    type Buffer;
    /// Recorded work.
    type Graph;
    /// A moment in the device's work.
    type Event;

    /// What the device is.
    fn properties(&self) -> &Properties;
    /// Bytes of memory that are free, as far as is known.
    fn free_bytes(&self) -> Result<usize, Error>;
    /// Memory with nothing in particular in it, 256-byte aligned.
    fn allocate(&self, bytes: usize) -> Result<Self::Buffer, Error>;
    /// Where a buffer lies on the device.
    fn address(&self, buffer: &Self::Buffer) -> u64;
    /// Copies from the host to `offset` bytes into a buffer.
    fn upload(&self, from: &[u8], to: &mut Self::Buffer, offset: usize) -> Result<(), Error>;
    /// Copies to the host from `offset` bytes into a buffer.
    fn download(&self, from: &Self::Buffer, offset: usize, to: &mut [u8]) -> Result<(), Error>;
    /// Fills a buffer with zeros.
    fn clear(&self, buffer: &mut Self::Buffer) -> Result<(), Error>;
    /// Runs a kernel.
    fn launch<A: Copy + 'static>(&self, kernel: &Kernel<A>, launch: Launch, args: A) -> Result<(), Error>;
    /// Begins to record launches instead of running them.
    fn begin_recording(&self) -> Result<(), Error>;
    /// Ends the recording.
    fn end_recording(&self) -> Result<Self::Graph, Error>;
    /// Runs recorded work.
    fn replay(&self, graph: &Self::Graph) -> Result<(), Error>;
    /// Marks this moment in the device's work.
    fn event(&self) -> Result<Self::Event, Error>;
    /// Seconds between two moments, when both have passed.
    fn elapsed(&self, from: &Self::Event, to: &Self::Event) -> Result<f64, Error>;
    /// Waits for all work.
    fn synchronize(&self) -> Result<(), Error>;
}

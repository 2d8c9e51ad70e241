//! A GPU, through libcuda, which is loaded when one is first asked for.
//!
//! cudarc's functions return the driver's codes as an enum, all within 0..=999. A newer driver may have codes
//! in its gaps: here they are compared with success and named by the driver, never matched in full or printed
//! by cudarc.

mod context;
mod graph;
mod probe;

use std::ptr;
use std::rc::Rc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{CUdeviceptr, CUevent, CUevent_flags, CUresult};

use super::driver::{Driver, Error, Kernel, Launch, Properties, Version};
use super::kernels::{self, FatBinary};
use context::{Context, refusal};

pub use graph::Graph;

/// A GPU with the kernels loaded.
pub struct Gpu {
    context: Rc<Context>,
    properties: Properties,
    capability: Version,
    driver: Version,
}

/// Memory of a GPU.
pub struct Buffer {
    context: Rc<Context>,
    address: CUdeviceptr,
    bytes: usize,
}

/// A moment in a GPU's work.
pub struct Event {
    context: Rc<Context>,
    handle: CUevent,
}

impl Gpu {
    /// How many GPUs there are, at least one.
    ///
    /// # Errors
    /// No driver, or no GPU.
    pub fn count() -> Result<usize, Error> {
        probe::start(probe::needed(None))?;
        probe::count()
    }

    /// Opens GPU `ordinal` with the kernels of this build.
    ///
    /// # Errors
    /// No driver, one too old, no GPU, not so many, one too old; kernels not built, or not for this GPU.
    pub fn open(ordinal: usize) -> Result<Gpu, Error> {
        Gpu::open_with(ordinal, kernels::FAT_BINARIES, kernels::nvcc())
    }

    /// Opens GPU `ordinal` with the kernels given, made by the nvcc that says this of its version
    /// ("13.0.88").
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub fn open_with(ordinal: usize, binaries: &[FatBinary], nvcc: Option<&str>) -> Result<Gpu, Error> {
        let driver = probe::start(probe::needed(nvcc))?;
        let found = probe::candidate(ordinal)?;
        if binaries.is_empty() {
            let reason = kernels::absent().unwrap_or("none were given");
            return Err(Error::NotBuilt { reason });
        }
        let context = Rc::new(Context::open(ordinal, &found, binaries, driver, nvcc)?);
        let (processors, memory, shared) = (found.processors, found.memory, found.shared);
        let name = format!("{} (driver for CUDA {driver})", found.name);
        let properties = Properties { name, processors, memory, shared };
        Ok(Gpu { context, properties, capability: found.capability, driver })
    }

    /// Its compute capability.
    pub fn capability(&self) -> Version {
        self.capability
    }

    /// The newest CUDA version that its driver supports.
    pub fn driver(&self) -> Version {
        self.driver
    }

    /// Makes an asynchronous call and waits for it.
    fn complete(
        &self,
        action: &'static str,
        call: impl FnOnce() -> Result<(), DriverError>,
    ) -> Result<(), Error> {
        self.context.not_recording(action)?;
        let done = self.context.bind().and_then(|()| call()).and_then(|()| self.context.synchronize());
        done.map_err(|error| self.context.error(action, error))
    }
}

impl Driver for Gpu {
    type Buffer = Buffer;
    type Graph = Graph;
    type Event = Event;

    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn free_bytes(&self) -> Result<usize, Error> {
        let free = self.context.bind().and_then(|()| result::mem_get_info());
        free.map(|(free, _)| free).map_err(|error| self.context.error("ask how much memory is free", error))
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer, Error> {
        let context = self.context.clone();
        // SAFETY: a new piece of memory, which nobody takes for initialised. The driver aligns it to 256
        // bytes.
        let malloc = || unsafe { result::malloc_sync(bytes.max(1)) };
        match context.bind().and_then(|()| malloc()) {
            Ok(address) => Ok(Buffer { context, address, bytes }),
            Err(error) if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let (free, total) = result::mem_get_info().unwrap_or((0, self.properties.memory));
                Err(Error::OutOfMemory { device: context.label.clone(), wanted: bytes, free, total })
            }
            Err(error) => Err(context.error("allocate memory", error)),
        }
    }

    fn address(&self, buffer: &Buffer) -> u64 {
        buffer.address
    }

    fn upload(&self, from: &[u8], to: &mut Buffer, offset: usize) -> Result<(), Error> {
        assert!(offset + from.len() <= to.bytes, "upload beyond the buffer's end");
        if from.is_empty() {
            return Ok(());
        }
        let address = to.address + offset as u64;
        // SAFETY: inside the buffer, by the assertion; `from` stays until the copy is done.
        self.complete("upload", || unsafe { result::memcpy_htod_async(address, from, self.context.stream) })
    }

    fn download(&self, from: &Buffer, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        assert!(offset + to.len() <= from.bytes, "download beyond the buffer's end");
        if to.is_empty() {
            return Ok(());
        }
        let address = from.address + offset as u64;
        // SAFETY: inside the buffer, by the assertion; `to` stays until the copy is done.
        self.complete("download", || unsafe { result::memcpy_dtoh_async(to, address, self.context.stream) })
    }

    fn clear(&self, buffer: &mut Buffer) -> Result<(), Error> {
        self.context.not_recording("clear memory")?;
        if buffer.bytes == 0 {
            return Ok(());
        }
        // SAFETY: the buffer is of this size; freeing it waits.
        let set = || unsafe { result::memset_d8_async(buffer.address, 0, buffer.bytes, self.context.stream) };
        self.context.bind().and_then(|()| set()).map_err(|error| self.context.error("clear memory", error))
    }

    fn launch<A: Copy + 'static>(
        &self,
        kernel: &Kernel<A>,
        launch: Launch,
        mut args: A,
    ) -> Result<(), Error> {
        let Launch { grid: [x, y, z], block, shared } = launch;
        let refuse = |reason| Error::Launch { kernel: kernel.name, grid: launch.grid, block, shared, reason };
        let context = &self.context;
        let function = context.function(kernel.file, kernel.name, launch, size_of::<A>()).map_err(refuse)?;
        let mut parameters = [ptr::from_mut(&mut args).cast()];
        // SAFETY: the function takes one argument of A's size, which the driver copies before it returns.
        // That the addresses in it are good is the caller's word (see `Driver`).
        unsafe {
            result::launch_kernel(function, (x, y, z), (block, 1, 1), shared, context.stream, &mut parameters)
        }
        .map_err(|error| refuse(refusal(error)))?;
        if !context.recording.get() {
            context.last.set(Some((kernel.name, launch)));
        }
        Ok(())
    }

    fn begin_recording(&self) -> Result<(), Error> {
        graph::begin(&self.context)
    }

    fn end_recording(&self) -> Result<Graph, Error> {
        Graph::end(&self.context)
    }

    fn replay(&self, graph: &Graph) -> Result<(), Error> {
        graph.replay()
    }

    fn event(&self) -> Result<Event, Error> {
        let context = &self.context;
        context.not_recording("mark a moment")?;
        let failed = |error| context.error("mark a moment", error);
        context.bind().map_err(failed)?;
        let handle = result::event::create(CUevent_flags::CU_EVENT_DEFAULT).map_err(failed)?;
        let event = Event { context: context.clone(), handle };
        // SAFETY: both have been made and not destroyed.
        unsafe { result::event::record(event.handle, context.stream) }.map_err(failed)?;
        Ok(event)
    }

    fn elapsed(&self, from: &Event, to: &Event) -> Result<f64, Error> {
        let context = &self.context;
        context.not_recording("measure time")?;
        let measure = || {
            context.bind()?;
            // SAFETY: events live until dropped, and both have been recorded.
            unsafe {
                result::event::synchronize(from.handle)?;
                result::event::synchronize(to.handle)?;
                result::event::elapsed(from.handle, to.handle)
            }
        };
        let milliseconds = measure().map_err(|error| context.error("measure time", error))?;
        Ok(f64::from(milliseconds) / 1e3)
    }

    fn synchronize(&self) -> Result<(), Error> {
        self.complete("finish its work", || Ok(()))
    }
}

impl Drop for Buffer {
    /// Waits for the work that uses the memory. Errors are passed over: after a fault every call fails.
    fn drop(&mut self) {
        self.context.settle();
        // SAFETY: allocated in `allocate`, and no work is left that uses it.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let _ = self.context.bind();
        // SAFETY: made in `event`. The driver puts it off until the event has passed.
        let _ = unsafe { result::event::destroy(self.handle) };
    }
}

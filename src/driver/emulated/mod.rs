//! The emulated device: the kernels compiled by the host's C++ compiler, each CUDA thread a coroutine.
//!
//! Blocks are spread over the rayon pool; a block's threads take turns on one core, switching only where a kernel waits
//! for its block or its warp. Work is done when it is asked for.

mod block;
mod thread;

use std::alloc::{self, Layout};
use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rayon::prelude::*;

use super::{Driver, Error, Kernel, Launch, Properties};
use block::{Block, Worker};

/// A kernel's entry: runs one thread of it.
type Entry = unsafe extern "C" fn(*const c_void);

/// What the build knows of a kernel: name, entry, (most threads in a block, bytes of arguments).
struct Compiled {
    name: &'static str,
    entry: Entry,
    limits: &'static [u32; 2],
}

include!(concat!(env!("OUT_DIR"), "/emulated_kernels.rs"));

/// Largest dynamic shared memory of a block: an H100's.
const SHARED: u32 = 227 << 10;

/// The device.
pub struct Emulated {
    properties: Properties,
    workers: Mutex<Vec<Worker>>,
    recording: RefCell<Option<Vec<Work>>>,
}

/// A launch that can be run again.
struct Work {
    kernel: &'static Compiled,
    launch: Launch,
    /// The arguments' bytes, 8-byte aligned.
    args: Box<[u64]>,
}

/// Recorded launches.
pub struct Graph(Vec<Work>);

/// Device memory: host memory outside Rust's ownership rules, as kernels write it through addresses.
pub struct Buffer {
    start: *mut u8,
    layout: Layout,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `Emulated::allocate` with this layout.
        unsafe { alloc::dealloc(self.start, self.layout) }
    }
}

impl Default for Emulated {
    fn default() -> Self {
        Emulated::new()
    }
}

impl Emulated {
    /// The device, on the current rayon pool.
    pub fn new() -> Self {
        let processors = rayon::current_num_threads() as u32;
        let properties =
            Properties { name: "emulated".into(), processors, memory: usize::MAX >> 1, shared: SHARED };
        Emulated { properties, workers: Mutex::default(), recording: RefCell::new(None) }
    }

    fn run(&self, work: &Work) -> Result<(), Error> {
        let Launch { grid, block, shared } = work.launch;
        let blocks = grid.iter().map(|&n| u64::from(n)).product::<u64>();
        let workers = &self.workers;
        let take = || {
            let free = workers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            Returned { worker: Some(free.unwrap_or_default()), to: workers }
        };
        let (entry, args) = (work.kernel.entry, Arguments(work.args.as_ptr().cast()));
        let outcome = (0..blocks).into_par_iter().try_for_each_init(take, |worker, i| {
            let [x, y] = [grid[0], grid[1]].map(u64::from);
            let index = [(i % x) as u32, (i / x % y) as u32, (i / x / y) as u32];
            let Some(worker) = worker.worker.as_mut() else { return Ok(()) };
            worker.run(&Block { entry, args: args.get(), index, grid, threads: block, shared })
        });
        outcome.map_err(|reason| Error::Launch { kernel: work.kernel.name, grid, block, shared, reason })
    }
}

/// Bytes of memory that the operating system could give, where it says so.
fn available() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// A worker that goes back to its device when dropped.
struct Returned<'a> {
    worker: Option<Worker>,
    to: &'a Mutex<Vec<Worker>>,
}

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        let mut workers = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        workers.extend(self.worker.take());
    }
}

/// Arguments that every block reads.
#[derive(Clone, Copy)]
struct Arguments(*const c_void);

// SAFETY: they point to bytes that stay, unchanged, for the launch.
unsafe impl Send for Arguments {}
// SAFETY: as above.
unsafe impl Sync for Arguments {}

impl Arguments {
    fn get(self) -> *const c_void {
        self.0
    }
}

impl Driver for Emulated {
    type Buffer = Buffer;
    type Graph = Graph;
    type Event = Instant;

    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn free_bytes(&self) -> Result<usize, Error> {
        Ok(available().unwrap_or(usize::MAX))
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer, Error> {
        let device = || self.properties.name.clone();
        let layout = Layout::from_size_align(bytes.max(1), 256).map_err(|e| Error::Device {
            device: device(),
            action: "allocate memory",
            reason: e.to_string(),
        })?;
        // SAFETY: the size is not 0.
        let start = unsafe { alloc::alloc(layout) };
        if start.is_null() {
            return Err(Error::OutOfMemory {
                device: device(),
                wanted: bytes,
                free: 0,
                total: self.properties.memory,
            });
        }
        // SAFETY: just allocated. NaN as f32 and as f16: what nobody wrote shows.
        unsafe { start.write_bytes(0xff, layout.size()) };
        Ok(Buffer { start, layout })
    }

    fn address(&self, buffer: &Buffer) -> u64 {
        buffer.start as u64
    }

    fn bytes(&self, buffer: &Buffer) -> usize {
        buffer.layout.size()
    }

    fn upload(&self, from: &[u8], to: &mut Buffer, offset: usize) -> Result<(), Error> {
        assert!(offset + from.len() <= to.layout.size(), "upload beyond the buffer's end");
        // SAFETY: inside the buffer, by the assertion.
        unsafe { to.start.add(offset).copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        Ok(())
    }

    fn download(&self, from: &Buffer, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        assert!(offset + to.len() <= from.layout.size(), "download beyond the buffer's end");
        // SAFETY: inside the buffer, by the assertion.
        unsafe { from.start.add(offset).copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn clear(&self, buffer: &mut Buffer) -> Result<(), Error> {
        // SAFETY: the buffer is of this size.
        unsafe { buffer.start.write_bytes(0, buffer.layout.size()) };
        Ok(())
    }

    fn launch<A: Copy + 'static>(&self, kernel: &Kernel<A>, launch: Launch, args: A) -> Result<(), Error> {
        let Launch { grid, block, shared } = launch;
        let refuse = |reason: String| Error::Launch { kernel: kernel.name, grid, block, shared, reason };
        let compiled = KERNELS
            .iter()
            .find(|k| k.name == kernel.name)
            .ok_or_else(|| refuse("there is no such kernel".into()))?;
        let [most, bytes] = *compiled.limits;
        if block == 0 || block % 32 != 0 || block > most {
            return Err(refuse(format!("a block must be a multiple of 32 threads, at most {most}")));
        }
        if shared > SHARED {
            return Err(refuse(format!("a block has at most {SHARED} bytes of shared memory")));
        }
        if size_of::<A>() != bytes as usize {
            return Err(refuse(format!("its arguments have {bytes} bytes, not {}", size_of::<A>())));
        }
        let mut copy = vec![0_u64; size_of::<A>().div_ceil(8)].into_boxed_slice();
        // SAFETY: the box has room, and its alignment is at least that of any plain struct of numbers and pointers.
        unsafe { copy.as_mut_ptr().cast::<A>().write(args) };
        let work = Work { kernel: compiled, launch, args: copy };
        match self.recording.borrow_mut().as_mut() {
            Some(recorded) => {
                recorded.push(work);
                Ok(())
            }
            None => self.run(&work),
        }
    }

    fn begin_recording(&self) -> Result<(), Error> {
        *self.recording.borrow_mut() = Some(vec![]);
        Ok(())
    }

    fn end_recording(&self) -> Result<Graph, Error> {
        Ok(Graph(self.recording.borrow_mut().take().unwrap_or_default()))
    }

    fn replay(&self, graph: &Graph) -> Result<(), Error> {
        graph.0.iter().try_for_each(|work| self.run(work))
    }

    fn event(&self) -> Result<Instant, Error> {
        Ok(Instant::now())
    }

    fn elapsed(&self, from: &Instant, to: &Instant) -> Result<f64, Error> {
        Ok(to.duration_since(*from).as_secs_f64())
    }

    fn synchronize(&self) -> Result<(), Error> {
        Ok(())
    }
}

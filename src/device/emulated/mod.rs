//! The emulated device: the kernels compiled by the host's C++ compiler, each CUDA thread a coroutine.
//!
//! Blocks are spread over the rayon pool; a block's threads take turns on one core, switching only where a
//! kernel waits for its block or its warp. Work is done when it is asked for.
//!
//! [`Emulated::checked`] runs a second, instrumented compilation of the kernels, which stops a launch at what
//! a GPU would only corrupt: an access outside every buffer and shared array, or misaligned; a read of memory
//! nobody wrote, or of an asynchronous copy not waited for; two threads of a block, or two blocks of a
//! launch, that touch one byte without a barrier between them, one of them writing. Both builds report a
//! barrier that not all reach.

pub mod args;
mod block;
mod check;
mod hooks;
mod memory;
mod shared;
mod stack;
mod thread;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rayon::prelude::*;

use super::driver::{Driver, Error, Kernel, Launch, Properties};
use super::host;
use block::{Block, Entry, Worker};
use check::Launched;
pub use memory::Buffer;
use shared::SHARED;

/// What the build knows of a kernel: name, entry, (most threads in a block, bytes of arguments).
struct Compiled {
    name: &'static str,
    entry: Entry,
    limits: &'static [u32; 2],
}

include!(concat!(env!("OUT_DIR"), "/emulated_kernels.rs"));

/// Work that the calling thread does alone, in seconds: a few times what waking the others takes.
const ALONE: f64 = 30.0e-6;

/// Runs of blocks in this process, by which the checked build tells them apart.
static RUNS: AtomicU64 = AtomicU64::new(1);

/// The device.
pub struct Emulated {
    properties: Properties,
    workers: Mutex<Vec<Worker>>,
    /// The buffers of a checked device.
    checked: Option<memory::Shared>,
    recording: RefCell<Option<Vec<Work>>>,
    /// Seconds that a block of each kernel took at its last launch.
    paces: RefCell<HashMap<&'static str, f64>>,
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
        Emulated {
            properties,
            workers: Mutex::default(),
            checked: None,
            recording: RefCell::new(None),
            paces: RefCell::default(),
        }
    }

    /// The device with the checked kernels: the same results, several times slower.
    pub fn checked() -> Self {
        let mut device = Emulated { checked: Some(memory::Shared::default()), ..Emulated::new() };
        device.properties.name = "emulated, checked".into();
        device
    }

    fn failed(&self, action: &'static str, reason: &str) -> Error {
        Error::Device { device: self.properties.name.clone(), action, reason: reason.into() }
    }

    /// Refuses what a GPU cannot record.
    fn not_recording(&self, action: &'static str) -> Result<(), Error> {
        match *self.recording.borrow() {
            Some(_) => Err(self.failed(action, "only launches can be recorded")),
            None => Ok(()),
        }
    }

    fn kernels(&self) -> &'static [Compiled] {
        if self.checked.is_some() { CHECKED } else { KERNELS }
    }

    fn run(&self, work: &Work) -> Result<(), Error> {
        let Launch { grid, block, shared } = work.launch;
        let blocks = grid.iter().map(|&n| u64::from(n)).product::<u64>();
        let workers = &self.workers;
        let take = || {
            let free = workers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            Returned { worker: Some(free.unwrap_or_default()), to: workers }
        };
        let entry = work.kernel.entry;
        let args = Arguments(work.args.as_ptr().cast());
        let regions = self.checked.as_ref().map(|registry| memory::lock(registry).sorted());
        let launched = regions.as_ref().map(|regions| {
            let start = args.get() as usize;
            let first = RUNS.fetch_add(blocks, Ordering::Relaxed);
            Launched { first, regions, args: start..start + size_of_val(&*work.args) }
        });
        let run = |worker: &mut Returned<'_>, i: u64| {
            let [x, y] = [grid[0], grid[1]].map(u64::from);
            let index = [(i % x) as u32, (i / x % y) as u32, (i / x / y) as u32];
            let Some(worker) = worker.worker.as_mut() else { return Ok(()) };
            let checked = launched.as_ref().map(|launched| (launched, i));
            worker.run(&Block { entry, args: args.get(), index, grid, threads: block, shared, checked })
        };
        // Small launches end before others could be woken; those known to be long wake them at once.
        let begun = Instant::now();
        let pace = self.paces.borrow().get(work.kernel.name).map_or(0.0, |pace| pace * blocks as f64);
        let alone = || {
            let mut worker = take();
            for i in 0..blocks {
                if pace > ALONE || begun.elapsed().as_secs_f64() > ALONE {
                    return Ok(i);
                }
                run(&mut worker, i)?;
            }
            Ok(blocks)
        };
        let outcome = alone().and_then(|done| {
            let rest = (done..blocks).into_par_iter();
            rest.try_for_each_init(take, |worker, i| run(worker, i)).map(|()| done)
        });
        let seconds = begun.elapsed().as_secs_f64();
        let outcome = outcome.map(|done| {
            let threads = if done == blocks { 1 } else { blocks.min(rayon::current_num_threads() as u64) };
            let pace = seconds * threads as f64 / blocks as f64;
            self.paces.borrow_mut().insert(work.kernel.name, pace);
        });
        outcome.map_err(|reason| Error::Launch { kernel: work.kernel.name, grid, block, shared, reason })
    }
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
        Ok(host::available_bytes())
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer, Error> {
        Buffer::new(bytes, self.checked.as_ref()).ok_or_else(|| Error::OutOfMemory {
            device: self.properties.name.clone(),
            wanted: bytes,
            free: 0,
            total: self.properties.memory,
        })
    }

    fn address(&self, buffer: &Buffer) -> u64 {
        buffer.start as u64
    }

    fn upload(&self, from: &[u8], to: &mut Buffer, offset: usize) -> Result<(), Error> {
        assert!(offset + from.len() <= to.bytes, "upload beyond the buffer's end");
        self.not_recording("upload")?;
        // SAFETY: inside the buffer, by the assertion.
        unsafe { to.start.add(offset).copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        to.host_writes(offset, from.len());
        Ok(())
    }

    fn download(&self, from: &Buffer, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        assert!(offset + to.len() <= from.bytes, "download beyond the buffer's end");
        self.not_recording("download")?;
        // SAFETY: inside the buffer, by the assertion.
        unsafe { from.start.add(offset).copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn clear(&self, buffer: &mut Buffer) -> Result<(), Error> {
        self.not_recording("clear memory")?;
        // SAFETY: the buffer is of this size.
        unsafe { buffer.start.write_bytes(0, buffer.bytes) };
        buffer.host_writes(0, buffer.bytes);
        Ok(())
    }

    fn launch<A: Copy + 'static>(&self, kernel: &Kernel<A>, launch: Launch, args: A) -> Result<(), Error> {
        let Launch { grid, block, shared } = launch;
        let refuse = |reason: String| Error::Launch { kernel: kernel.name, grid, block, shared, reason };
        let compiled = self
            .kernels()
            .iter()
            .find(|k| k.name == kernel.name)
            .ok_or_else(|| refuse("there is no such kernel".into()))?;
        let [most, bytes] = *compiled.limits;
        if block == 0 || block % 32 != 0 || block > most {
            return Err(refuse(format!("a block must be a multiple of 32 threads, at most {most}")));
        }
        if grid.contains(&0) || grid[0] > i32::MAX as u32 || grid[1].max(grid[2]) > 65_535 {
            return Err(refuse(
                "a grid has from 1 to 2147483647, 65535 and 65535 blocks along x, y and z".into(),
            ));
        }
        if shared > SHARED {
            return Err(refuse(format!("a block has at most {SHARED} bytes of shared memory")));
        }
        if size_of::<A>() != bytes as usize {
            return Err(refuse(format!("its arguments have {bytes} bytes, not {}", size_of::<A>())));
        }
        let mut copy = vec![0_u64; size_of::<A>().div_ceil(8)].into_boxed_slice();
        // SAFETY: the box has room, and its alignment is at least that of any plain struct of numbers and
        // pointers.
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
        self.not_recording("record")?;
        *self.recording.borrow_mut() = Some(vec![]);
        Ok(())
    }

    fn end_recording(&self) -> Result<Graph, Error> {
        let recorded = self.recording.borrow_mut().take();
        recorded.map(Graph).ok_or_else(|| self.failed("end a recording", "none was begun"))
    }

    fn replay(&self, graph: &Graph) -> Result<(), Error> {
        self.not_recording("replay recorded work")?;
        graph.0.iter().try_for_each(|work| self.run(work))
    }

    fn event(&self) -> Result<Instant, Error> {
        self.not_recording("mark a moment")?;
        Ok(Instant::now())
    }

    fn elapsed(&self, from: &Instant, to: &Instant) -> Result<f64, Error> {
        self.not_recording("measure time")?;
        Ok(to.duration_since(*from).as_secs_f64())
    }

    fn synchronize(&self) -> Result<(), Error> {
        self.not_recording("finish its work")
    }
}

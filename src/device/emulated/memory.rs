//! Device memory, and what the checked build knows of each of its bytes.

use std::alloc::{self, Layout};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes between a checked buffer and anything else of this program.
const GUARD: usize = 64 << 10;
/// Bytes of freed buffers that are kept from being used again, so that an access to them is known for what it
/// is.
const QUARANTINE: usize = 64 << 20;

/// The cell of a byte that the host wrote before any launch. Runs of blocks start at 1.
pub(super) const HOST: u64 = 1;

/// The last write and the last read of each byte, as `check::Check` writes them; 0 is never.
pub(super) struct Shadow(Box<[[AtomicU64; 2]]>);

impl Shadow {
    /// Of memory nobody has written.
    pub(super) fn new(bytes: usize) -> Self {
        // Zeroed by the system where it is first used: most of a large buffer's shadow may never be.
        let cells = Box::into_raw(vec![[0_u64; 2]; bytes].into_boxed_slice());
        // SAFETY: an AtomicU64 is laid out as a u64, and the box is only now shared.
        Shadow(unsafe { Box::from_raw(cells as *mut [[AtomicU64; 2]]) })
    }

    /// (write, read) of each of these bytes.
    #[inline]
    pub(super) fn cells(&self, from: usize, bytes: usize) -> &[[AtomicU64; 2]] {
        &self.0[from..from + bytes]
    }

    /// The host has written these bytes.
    fn host_writes(&self, from: usize, bytes: usize) {
        self.cells(from, bytes).iter().for_each(|[write, _]| write.store(HOST, Ordering::Relaxed));
    }
}

/// A buffer as the checked build knows it.
#[derive(Clone)]
pub(super) struct Region {
    pub start: usize,
    pub bytes: usize,
    /// None once it is freed.
    pub shadow: Option<Arc<Shadow>>,
}

/// All buffers of a checked device.
#[derive(Default)]
pub(super) struct Registry {
    regions: BTreeMap<usize, Region>,
    /// Freed, the oldest first.
    freed: VecDeque<Allocation>,
    kept: usize,
    /// The regions by address, for launches; None when they have changed.
    sorted: Option<Arc<[Region]>>,
}

impl Registry {
    pub(super) fn sorted(&mut self) -> Arc<[Region]> {
        let regions = &self.regions;
        self.sorted.get_or_insert_with(|| regions.values().cloned().collect()).clone()
    }
}

/// What a device and its buffers share.
pub(super) type Shared = Arc<Mutex<Registry>>;

pub(super) fn lock(registry: &Shared) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Host memory outside Rust's ownership rules, as kernels write it through addresses.
struct Allocation {
    base: *mut u8,
    layout: Layout,
    /// Where the buffer starts, after its guard.
    start: *mut u8,
}

// SAFETY: owned memory.
unsafe impl Send for Allocation {}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: allocated in `Buffer::new` with this layout.
        unsafe { alloc::dealloc(self.base, self.layout) }
    }
}

/// Device memory.
pub struct Buffer {
    allocation: Option<Allocation>,
    pub(super) start: *mut u8,
    pub(super) bytes: usize,
    checked: Option<(Shared, Arc<Shadow>)>,
}

// SAFETY: owned memory, which is reached only through the device, and by kernels.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// None: no memory.
    pub(super) fn new(bytes: usize, registry: Option<&Shared>) -> Option<Self> {
        let guard = if registry.is_some() { GUARD } else { 0 };
        let layout = Layout::from_size_align(bytes.max(1).checked_add(2 * guard)?, 256).ok()?;
        // SAFETY: the size is not 0.
        let base = unsafe { alloc::alloc(layout) };
        if base.is_null() {
            return None;
        }
        // SAFETY: inside the allocation.
        let start = unsafe { base.add(guard) };
        // SAFETY: room for `bytes`. NaN as f32 and as f16: what nobody wrote shows.
        unsafe { start.write_bytes(0xff, bytes) };
        let checked = registry.map(|registry| {
            let shadow = Arc::new(Shadow::new(bytes));
            let region = Region { start: start as usize, bytes, shadow: Some(shadow.clone()) };
            let mut known = lock(registry);
            known.regions.insert(region.start, region);
            known.sorted = None;
            (registry.clone(), shadow)
        });
        Some(Buffer { allocation: Some(Allocation { base, layout, start }), start, bytes, checked })
    }

    /// Returns its size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The host has written these bytes.
    pub(super) fn host_writes(&self, from: usize, bytes: usize) {
        if let Some((_, shadow)) = &self.checked {
            shadow.host_writes(from, bytes);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let (Some((registry, _)), Some(allocation)) = (&self.checked, self.allocation.take()) else { return };
        let mut known = lock(registry);
        known.sorted = None;
        if let Some(region) = known.regions.get_mut(&(self.start as usize)) {
            region.shadow = None;
        }
        known.kept += allocation.layout.size();
        known.freed.push_back(allocation);
        while known.kept > QUARANTINE {
            let Some(oldest) = known.freed.pop_front() else { break };
            known.kept -= oldest.layout.size();
            known.regions.remove(&(oldest.start as usize));
        }
    }
}

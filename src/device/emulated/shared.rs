//! A block's shared memory.

use std::ops::Range;

/// Most bytes of dynamic shared memory of a block: an H100's.
pub(super) const SHARED: u32 = 227 << 10;

/// Bytes of static shared memory a block may have, as on a GPU.
const STATIC: usize = 48 << 10;
/// Bytes between two arrays, so that an access beyond one is not within the next.
const GAP: usize = 128;

#[derive(Clone, Copy)]
#[repr(C, align(128))]
struct Line([u8; 128]);

/// NaN as f32 and as f16: what nobody wrote shows.
const UNWRITTEN: u8 = 0xff;

/// Static arrays first, dynamic shared memory after them.
pub(super) struct SharedMemory {
    memory: Box<[Line]>,
    /// Key and bytes' place of each static array of this block.
    arrays: Vec<(usize, Range<usize>)>,
    used: usize,
    taken: usize,
    dynamic: usize,
}

/// Where dynamic shared memory starts: static arrays may all be small, each with its gap.
const DYNAMIC: usize = 4 * STATIC;

impl SharedMemory {
    /// For blocks with at most `most` bytes of dynamic shared memory.
    pub(super) fn new(most: usize) -> Self {
        let lines = (DYNAMIC + most + GAP).div_ceil(size_of::<Line>());
        let memory = vec![Line([UNWRITTEN; 128]); lines].into_boxed_slice();
        SharedMemory { memory, arrays: vec![], used: 0, taken: 0, dynamic: 0 }
    }

    /// Memory for a new block.
    pub(super) fn start(&mut self, dynamic: usize) {
        self.arrays.clear();
        (self.used, self.taken, self.dynamic) = (0, 0, dynamic);
        // SAFETY: `new` made room for it.
        unsafe { self.dynamic_start().write_bytes(UNWRITTEN, dynamic) };
    }

    /// Bytes of memory, used or not.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.memory)
    }

    /// The address of the first.
    pub(super) fn address(&self) -> usize {
        self.memory.as_ptr() as usize
    }

    pub(super) fn dynamic_start(&mut self) -> *mut u8 {
        // SAFETY: inside the memory, by `new`.
        unsafe { self.memory.as_mut_ptr().cast::<u8>().add(DYNAMIC) }
    }

    /// The static array that `key` stands for.
    pub(super) fn array(&mut self, key: usize, bytes: usize) -> Result<*mut u8, String> {
        let start = self.memory.as_mut_ptr().cast::<u8>();
        if let Some((_, place)) = self.arrays.iter().find(|array| array.0 == key) {
            // SAFETY: inside the memory, checked when it was made.
            return Ok(unsafe { start.add(place.start) });
        }
        let end = self.used + bytes;
        if self.taken + bytes > STATIC || end > DYNAMIC {
            return Err(format!("a block has at most {STATIC} bytes of static shared memory"));
        }
        if self.taken + bytes + self.dynamic > SHARED as usize {
            return Err(format!("a block has at most {SHARED} bytes of static and dynamic shared memory"));
        }
        // SAFETY: inside the memory, by the check above.
        let array = unsafe { start.add(self.used) };
        // SAFETY: as above.
        unsafe { array.write_bytes(UNWRITTEN, bytes) };
        self.arrays.push((key, self.used..end));
        self.taken += bytes;
        self.used = (end + GAP).next_multiple_of(128);
        Ok(array)
    }

    /// Whether `bytes` bytes `offset` into the memory lie within one array.
    pub(super) fn holds(&self, offset: usize, bytes: usize) -> bool {
        if offset >= DYNAMIC {
            return offset - DYNAMIC + bytes <= self.dynamic;
        }
        self.arrays.iter().any(|(_, place)| place.start <= offset && offset + bytes <= place.end)
    }

    /// A place in words.
    pub(super) fn name(&self, offset: usize) -> String {
        if offset >= DYNAMIC {
            return format!("byte {} of {} bytes of dynamic shared memory", offset - DYNAMIC, self.dynamic);
        }
        match self.arrays.iter().enumerate().rev().find(|(_, (_, place))| place.start <= offset) {
            Some((i, (_, place))) => {
                format!("byte {} of static shared array {i} of {} bytes", offset - place.start, place.len())
            }
            None => "no shared array".into(),
        }
    }
}

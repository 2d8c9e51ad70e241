//! `kernels/top_k.cu`.

use crate::device::driver::Kernel;

/// Scores of a tile.
pub const TILE: u32 = 8192;
/// Threads that read a tile.
pub const TILE_THREADS: u32 = 512;
/// Values of each of the first two digits of a key.
pub const WIDE: u32 = 8192;
/// Values of the last digit.
pub const NARROW: u32 = 64;

/// All the kernels of a top-k, one after another.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct TopKArgs {
    /// \[n\], 16-byte aligned.
    pub scores: *const f32,
    /// The result, ascending \[k\].
    pub indices: *mut u32,
    /// The threshold's leading digits so far; how many of the keys that begin with them are wanted \[2\].
    pub threshold: *mut u32,
    /// Keys by digit, of those that begin with the threshold: the first, the second, the last \[2 WIDE +
    /// NARROW\].
    pub histograms: *mut u32,
    /// By tile, how many keys are at least the threshold's first two digits and then d, for each last digit
    /// d, and how many are above them \[tiles, NARROW + 1\].
    pub counts: *mut u32,
    /// By tile, its first place in the result, how many it has there, how many of these equal the threshold
    /// \[3, tiles\].
    pub places: *mut u32,
    pub n: u32,
    /// Wanted, 1..=n.
    pub k: u32,
    /// Tiles: n / TILE, rounded up.
    pub tiles: u32,
    /// Which digit, 0 or 1, for the kernels that take one.
    pub digit: u32,
}

/// A block of 1024 threads.
pub const TOP_K_BEGIN: Kernel<TopKArgs> = Kernel::new("top_k", "top_k_begin");
/// Any grid of [`TILE_THREADS`] threads.
pub const TOP_K_HISTOGRAM: Kernel<TopKArgs> = Kernel::new("top_k", "top_k_histogram");
/// A block of 1024 threads.
pub const TOP_K_CHOOSE: Kernel<TopKArgs> = Kernel::new("top_k", "top_k_choose");
/// A block of [`TILE_THREADS`] threads a tile.
pub const TOP_K_COUNT: Kernel<TopKArgs> = Kernel::new("top_k", "top_k_count");
/// A block of 1024 threads.
pub const TOP_K_PLACE: Kernel<TopKArgs> = Kernel::new("top_k", "top_k_place");
/// A block of [`TILE_THREADS`] threads a tile.
pub const TOP_K_WRITE: Kernel<TopKArgs> = Kernel::new("top_k", "top_k_write");

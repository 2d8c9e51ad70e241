//! `kernels/augment.cu`.

use half::f16;

use crate::device::driver::Kernel;

/// Draws a batch.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DrawArgs {
    /// The split's pixels \[count,32,32,3\].
    pub pixels: *const u8,
    /// Its classes \[count\].
    pub classes: *const u8,
    /// The epoch's order of images \[count\]; null to take them as they lie, without augmentation.
    pub order: *const u32,
    /// Epoch, and images of it before the batch \[2\].
    pub cursor: *const u32,
    /// \[n,32,32,3\], overwritten.
    pub images: *mut f16,
    /// \[n\], overwritten.
    pub labels: *mut u8,
    /// The random numbers' purpose, that of augmentation.
    pub seed: u64,
    /// The augmentation's purpose, of `rng::Purpose`.
    pub purpose: u32,
    /// Images of the split, at least 1.
    pub count: u32,
    /// By channel.
    pub mean: [f32; 3],
    /// By channel.
    pub inverse_std: [f32; 3],
}

/// A block of [`DRAW_THREADS`] threads an image of the batch.
pub const DRAW_BATCH: Kernel<DrawArgs> = Kernel::new("augment", "draw_batch");
/// Sixteen bytes of an image each.
pub const DRAW_THREADS: u32 = 192;

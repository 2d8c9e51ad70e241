//! `kernels/loss.cu`.

use half::f16;

use crate::driver::Kernel;

/// Softmax cross-entropy.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LossArgs {
    /// \[n,classes\].
    pub logits: *const f16,
    /// \[n\].
    pub labels: *const u8,
    /// \[n,classes\], overwritten, or null.
    pub dlogits: *mut f16,
    /// Sum of losses \[1\], added to.
    pub loss: *mut f64,
    /// Correct images, images \[2\], added to.
    pub counts: *mut u64,
    /// The least (step, place) where a value was not finite \[1\].
    pub fault: *mut u64,
    /// The step \[1\].
    pub step: *const u32,
    /// The target of every class.
    pub spread: f64,
    /// What the label's target has on top.
    pub share: f64,
    /// Images.
    pub n: u32,
    /// Classes.
    pub classes: u32,
    /// The logits as a place.
    pub place: u32,
}

/// Most threads of [`SOFTMAX_CROSS_ENTROPY`]'s block.
pub const LOSS_THREADS: u32 = 512;

/// One block.
pub const SOFTMAX_CROSS_ENTROPY: Kernel<LossArgs> = Kernel::new("loss", "softmax_cross_entropy");

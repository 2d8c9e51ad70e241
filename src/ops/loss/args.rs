//! `kernels/loss.cu`.

use half::f16;

use crate::device::driver::Kernel;

/// Softmax cross-entropy.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
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
    pub n: u32,
    pub classes: u32,
    /// The logits as a place.
    pub place: u32,
}

/// Gradients of each image's own loss.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct ScoreGradientArgs {
    /// \[n,classes\].
    pub logits: *const f16,
    /// \[n\].
    pub labels: *const u8,
    /// \[n,classes\], overwritten.
    pub dlogits: *mut f16,
    /// The target of every class.
    pub spread: f64,
    /// What the wanted class's target has on top.
    pub share: f64,
    pub n: u32,
    pub classes: u32,
    /// The wanted class, whose probability weights the gradient; or [`LABEL`].
    pub wanted: u32,
    /// 1: weighted by the probability, 0: by its square root.
    pub absolute: u32,
}

/// The label's class, with weight 1.
pub const LABEL: u32 = u32::MAX;

/// Most threads of [`SOFTMAX_CROSS_ENTROPY`]'s block.
pub const LOSS_THREADS: u32 = 512;

/// A thread an image.
pub const SCORE_GRADIENT: Kernel<ScoreGradientArgs> = Kernel::new("loss", "score_gradient");
/// One block.
pub const SOFTMAX_CROSS_ENTROPY: Kernel<LossArgs> = Kernel::new("loss", "softmax_cross_entropy");

//! `kernels/sgd.cu`.

use half::f16;

use crate::device::driver::Kernel;

/// Nesterov SGD, of all weights or of kept ones.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SgdArgs {
    /// Master weights, the whole flat vector.
    pub weights: *mut f32,
    /// \[n\].
    pub velocity: *mut f32,
    /// Gradients, the whole flat vector.
    pub gradients: *const f32,
    /// The weights rounded, or null.
    pub halves: *mut f16,
    /// Whether a weight's gradient counts \[n\], for [`SGD_PUBLISHED`].
    pub kept: *const u8,
    /// The weights that move \[n\], for [`SGD_STRICT`].
    pub indices: *const u32,
    /// Learning rates of an epoch's steps.
    pub rates: *const f32,
    /// Which of them is this step's \[1\].
    pub step: *const u32,
    /// Weights that move.
    pub n: u32,
    /// Share of the velocity that stays.
    pub momentum: f32,
    /// Decay for the summed loss.
    pub weight_decay: f32,
}

/// Grid-stride, any grid.
pub const SGD_STEP: Kernel<SgdArgs> = Kernel::new("sgd", "sgd_step");
/// Grid-stride, any grid; gradients count where kept.
pub const SGD_PUBLISHED: Kernel<SgdArgs> = Kernel::new("sgd", "sgd_published");
/// One thread a kept weight, 256 a block.
pub const SGD_STRICT: Kernel<SgdArgs> = Kernel::new("sgd", "sgd_strict");

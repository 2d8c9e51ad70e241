//! `kernels/sgd.cu`.

use half::f16;

use crate::driver::Kernel;

/// Nesterov SGD.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SgdArgs {
    /// Master weights \[n\].
    pub weights: *mut f32,
    /// \[n\].
    pub velocity: *mut f32,
    /// \[n\].
    pub gradients: *const f32,
    /// The weights rounded \[n\], or null.
    pub halves: *mut f16,
    /// Learning rates of an epoch's steps.
    pub rates: *const f32,
    /// Which of them is this step's \[1\].
    pub step: *const u32,
    /// Weights.
    pub n: u32,
    /// Share of the velocity that stays.
    pub momentum: f32,
    /// Decay for the summed loss.
    pub weight_decay: f32,
}

/// Grid-stride, any grid.
pub const SGD_STEP: Kernel<SgdArgs> = Kernel::new("sgd", "sgd_step");

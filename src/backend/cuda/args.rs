//! One plain struct of arguments for each kernel. This file is the only definition: the build makes the C++ header from
//! it that `kernels/*.cu` include. Pointers are device addresses.

use half::f16;

use crate::driver::Kernel;

/// Nesterov SGD: see `kernels/sgd.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SgdArgs {
    /// Master weights \[n\].
    pub weights: *mut f32,
    /// \[n\].
    pub velocity: *mut f32,
    /// \[n\].
    pub gradients: *const f32,
    /// The weights rounded \[n\].
    pub halves: *mut f16,
    /// The step's learning rate \[1\].
    pub lr: *const f32,
    /// Weights.
    pub n: u32,
    /// Share of the velocity that stays.
    pub momentum: f32,
    /// Decay for the summed loss.
    pub weight_decay: f32,
}

/// `sgd_step`: grid-stride, any grid.
pub const SGD_STEP: Kernel<SgdArgs> = Kernel::new("sgd", "sgd_step");

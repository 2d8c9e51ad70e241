//! `kernels/linear.cu`. In all of them C inputs, K outputs, n images, and `scale` a factor of y.

use half::f16;

use crate::device::driver::Kernel;

/// Outputs that a thread sums at once: CIFAR-10's classes.
pub const OUTPUTS: u32 = 10;
/// Images of a block of [`LINEAR_FORWARD`], one a warp.
pub const FORWARD_IMAGES: u32 = 4;
/// Images of a thread of [`LINEAR_DGRAD`].
pub const DGRAD_IMAGES: u32 = 4;
/// Most warps of a block of [`LINEAR_WGRAD`], which share the images.
pub const WGRAD_WARPS: u32 = 16;

/// y = scale (x weight^T + bias).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct LinearForwardArgs {
    /// \[n,C\].
    pub x: *const f16,
    /// Master weights \[K,C\].
    pub weight: *const f32,
    /// \[K\], or null.
    pub bias: *const f32,
    /// \[n,K\], overwritten.
    pub y: *mut f16,
    pub n: u32,
    pub c: u32,
    pub k: u32,
    pub scale: f32,
}

/// dx = scale dy weight.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct LinearDgradArgs {
    /// \[n,K\].
    pub dy: *const f16,
    /// Master weights \[K,C\].
    pub weight: *const f32,
    /// \[n,C\], overwritten.
    pub dx: *mut f16,
    pub n: u32,
    pub c: u32,
    pub k: u32,
    pub scale: f32,
}

/// dweight = scale dy^T x; dbias = scale sum over images of dy. Or scores: dweight += scale sum over images
/// of the square, or magnitude, of dy x, and dbias += scale times that of dy.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct LinearWgradArgs {
    /// \[n,C\].
    pub x: *const f16,
    /// \[n,K\].
    pub dy: *const f16,
    /// \[K,C\], overwritten; scores are added to.
    pub dweight: *mut f32,
    /// \[K\], overwritten, or null; scores are added to.
    pub dbias: *mut f32,
    pub n: u32,
    pub c: u32,
    pub k: u32,
    /// The constant; for scores, its square or magnitude.
    pub scale: f32,
}

/// Grid (n / [`FORWARD_IMAGES`], K / [`OUTPUTS`]), 32 [`FORWARD_IMAGES`] threads.
pub const LINEAR_FORWARD: Kernel<LinearForwardArgs> = Kernel::new("linear", "linear_forward");
/// Grid (C / 128, n / [`DGRAD_IMAGES`]), 128 threads.
pub const LINEAR_DGRAD: Kernel<LinearDgradArgs> = Kernel::new("linear", "linear_dgrad");
/// Grid ((C + bias) / 32, K / [`OUTPUTS`]), at most 32 [`WGRAD_WARPS`] threads.
pub const LINEAR_WGRAD: Kernel<LinearWgradArgs> = Kernel::new("linear", "linear_wgrad");
/// Grid as [`LINEAR_WGRAD`]; squares are summed.
pub const LINEAR_SCORE_SQUARE: Kernel<LinearWgradArgs> = Kernel::new("linear", "linear_score_square");
/// Grid as [`LINEAR_WGRAD`]; magnitudes are summed.
pub const LINEAR_SCORE_ABSOLUTE: Kernel<LinearWgradArgs> = Kernel::new("linear", "linear_score_absolute");

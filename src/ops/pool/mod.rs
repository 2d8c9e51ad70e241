//! Global average pooling. Max pooling is part of the fused batch norm.

pub mod args;
mod cpu;
mod cuda;
mod layer;

use crate::device::{Buffers, Error};
pub use layer::GlobalAveragePool;

/// Mean over all pixels of x \[N,H,W,C\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AveragePool {
    /// Images.
    pub n: usize,
    /// Rows of x.
    pub h: usize,
    /// Columns of x.
    pub w: usize,
    /// Channels of x.
    pub c: usize,
}

/// Average pooling on a device.
pub trait PoolOps: Buffers {
    /// y \[N,C\] = mean of x \[N,H,W,C\] over pixels, overwritten.
    fn average_pool_forward(
        &mut self,
        pool: &AveragePool,
        x: &Self::Tensor,
        y: &mut Self::Tensor,
    ) -> Result<(), Error>;
    /// dx \[N,H,W,C\] = dy \[N,C\] / (H W), overwritten.
    fn average_pool_backward(
        &mut self,
        pool: &AveragePool,
        dy: &Self::Tensor,
        dx: &mut Self::Tensor,
    ) -> Result<(), Error>;
}

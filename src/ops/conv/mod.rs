//! Square convolutions without bias.

pub mod args;
pub mod cpu;
pub mod cuda;
mod layer;

use std::ops::Range;

use super::flat::{In, Out, Work};
use crate::device::{Buffers, Error, Scratch};
pub use layer::ConvLayer;

/// Geometry of one square convolution: x \[N,H,W,C\], filter \[K,R,R,C\], y \[N,P,Q,K\], no bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Images.
    pub n: usize,
    /// Input rows.
    pub h: usize,
    /// Input columns.
    pub w: usize,
    /// Input channels.
    pub c: usize,
    /// Output channels.
    pub k: usize,
    /// Filter rows and columns.
    pub r: usize,
    /// Step between outputs, in input pixels.
    pub stride: usize,
    /// Zero rows and columns around the input.
    pub pad: usize,
}

impl Conv {
    /// Output rows.
    pub fn p(&self) -> usize {
        (self.h + 2 * self.pad - self.r) / self.stride + 1
    }

    /// Output columns.
    pub fn q(&self) -> usize {
        (self.w + 2 * self.pad - self.r) / self.stride + 1
    }

    /// Elements of x.
    pub fn inputs(&self) -> usize {
        self.n * self.h * self.w * self.c
    }

    /// Elements of y.
    pub fn outputs(&self) -> usize {
        self.n * self.p() * self.q() * self.k
    }

    /// Elements of the filter.
    pub fn filter(&self) -> usize {
        self.k * self.r * self.r * self.c
    }

    /// Floating-point operations of one direct fprop, dgrad or wgrad: two for each multiply-add.
    pub fn flops(&self) -> u64 {
        2 * (self.n * self.p() * self.q() * self.k) as u64 * (self.r * self.r * self.c) as u64
    }
}

/// Convolutions on a device.
pub trait ConvOps: Buffers {
    /// Returns the scratch that all passes of a convolution need, at its n or a smaller one.
    fn conv_scratch(conv: &Conv, work: Work) -> Scratch;
    /// y = x * filter, overwritten.
    fn conv_fprop(&mut self, conv: &Conv, b: ConvFprop<Self>) -> Result<(), Error>;
    /// Gradient of a convolution's input, overwritten or added to.
    fn conv_dgrad(&mut self, conv: &Conv, b: ConvDgrad<Self>) -> Result<(), Error>;
    /// Gradient of a convolution's filter summed over the batch, overwritten, or its scores, added to.
    fn conv_wgrad(&mut self, conv: &Conv, b: ConvWgrad<Self>) -> Result<(), Error>;
}

/// Buffers of a forward pass.
pub struct ConvFprop<'a, B: Buffers + ?Sized> {
    /// Input \[N,H,W,C\].
    pub x: &'a B::Tensor,
    /// Filter \[K,R,R,C\], of a vector made by [`Buffers::upload_weights`].
    pub filter: In<'a, B>,
    /// Output \[N,P,Q,K\], overwritten.
    pub y: &'a mut B::Tensor,
    /// The sum and the sum of squares of y by channel \[2,K\], at this range, overwritten.
    pub sums: Option<(&'a mut B::Sums, Range<usize>)>,
}

/// Buffers of the input's gradient.
pub struct ConvDgrad<'a, B: Buffers + ?Sized> {
    /// Gradient of the output \[N,P,Q,K\].
    pub dy: &'a B::Tensor,
    /// Filter \[K,R,R,C\], of a vector made by [`Buffers::upload_weights`].
    pub filter: In<'a, B>,
    /// Gradient of the input \[N,H,W,C\].
    pub dx: &'a mut B::Tensor,
    /// Whether dx is added to rather than overwritten.
    pub accumulate: bool,
}

/// Buffers of the filter's gradient or scores.
pub struct ConvWgrad<'a, B: Buffers + ?Sized> {
    /// Input \[N,H,W,C\].
    pub x: &'a B::Tensor,
    /// Gradient of the output \[N,P,Q,K\].
    pub dy: &'a B::Tensor,
    /// Where the filter lies in the flat vector.
    pub filter: Range<usize>,
    /// Where its gradient \[K,R,R,C\] or its scores \[K,C,R,R\] go.
    pub into: Out<'a, B>,
}

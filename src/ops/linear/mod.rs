//! The linear layer.

pub mod args;
mod cpu;
mod cuda;
mod layer;

use std::ops::Range;

use super::flat::Out;
use crate::device::{Buffers, Error};
pub use layer::{LinearLayer, Scale};

/// A linear layer and the constant after it: `y = scale * (x weight^T + bias)`; x \[N,C\], weight \[K,C\], y
/// \[N,K\].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear {
    /// Images.
    pub n: usize,
    /// Inputs of an image.
    pub c: usize,
    /// Outputs of an image.
    pub k: usize,
    /// The constant.
    pub scale: f32,
}

/// A linear layer's parameters in the flat vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearParameters {
    /// Where the weight \[K,C\] lies.
    pub weight: Range<usize>,
    /// Where the bias \[K\] lies, if there is one.
    pub bias: Option<Range<usize>>,
}

/// Linear layers on a device.
pub trait LinearOps: Buffers {
    /// The linear layer.
    fn linear_forward(&mut self, linear: &Linear, b: LinearForward<Self>) -> Result<(), Error>;
    /// The backward pass of the linear layer.
    fn linear_backward(&mut self, linear: &Linear, b: LinearBackward<Self>) -> Result<(), Error>;
}

/// Buffers of a linear layer.
pub struct LinearForward<'a, B: Buffers + ?Sized> {
    /// Input \[N,C\].
    pub x: &'a B::Tensor,
    /// The flat vector.
    pub weights: &'a B::Vector,
    /// Where weight and bias lie in it.
    pub parameters: &'a LinearParameters,
    /// Output \[N,K\], overwritten.
    pub y: &'a mut B::Tensor,
}

/// Buffers of a linear layer's backward pass.
pub struct LinearBackward<'a, B: Buffers + ?Sized> {
    /// The forward pass's input \[N,C\].
    pub x: &'a B::Tensor,
    /// Gradient of y \[N,K\].
    pub dy: &'a B::Tensor,
    /// The flat vector.
    pub weights: &'a B::Vector,
    /// Where weight and bias, and their gradients or scores, lie.
    pub parameters: &'a LinearParameters,
    /// Gradient of x \[N,C\], overwritten.
    pub dx: &'a mut B::Tensor,
    /// Where the gradients or scores of weight and bias go.
    pub into: Out<'a, B>,
}

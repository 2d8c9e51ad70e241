//! Convolution.

mod layer;

pub use layer::ConvLayer;

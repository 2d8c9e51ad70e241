//! The CUDA backend: f16 storage, f32 accumulation, on any [`crate::driver::Driver`].

pub mod args;

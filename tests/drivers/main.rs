//! Devices: the driver for GPUs, the emulated one, the compiled kernels, and training steps on all of them.

#[path = "../support/mod.rs"]
mod support;

mod build_kernels;
mod cuda;
mod device;
mod emulated;

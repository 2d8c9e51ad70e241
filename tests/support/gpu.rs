//! The GPU, for tests that need one.

use std::thread;

use fishmask::device::Cuda;
use fishmask::device::gpu::Gpu;

/// The first GPU. Where there is none, or no kernels for it, says that the test is skipped; with
/// `REQUIRE_CUDA=1` the test fails instead.
pub fn gpu() -> Option<Gpu> {
    let reason = match Gpu::open(0) {
        Ok(gpu) => return Some(gpu),
        Err(reason) => reason,
    };
    let test = thread::current().name().unwrap_or("a test").to_string();
    assert!(std::env::var("REQUIRE_CUDA").as_deref() != Ok("1"), "{test} needs a GPU: {reason}");
    eprintln!("skipped: {test}: {reason}");
    None
}

/// Runs a test of the CUDA backend on the first GPU, or says that it is skipped. The test may open it more
/// than once.
pub fn on_gpu(test: impl FnOnce(&(dyn Fn() -> Cuda<Gpu> + Sync))) {
    if gpu().is_some() {
        test(&|| Cuda::new(Gpu::open(0).unwrap()).unwrap());
    }
}

//! The GPU, for tests that need one.

use std::thread;

use fishmask::driver::cuda::Gpu;

/// The first GPU. Where there is none, or no kernels for it, says that the test is skipped; with `REQUIRE_CUDA=1` the
/// test fails instead.
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

//! The driver for GPUs: against a fake libcuda (`libcuda.c`), which child processes find instead of the real
//! one, and against a GPU where there is one.

#[cfg(target_os = "linux")]
mod fake;
#[cfg(target_os = "linux")]
mod opening;
#[cfg(target_os = "linux")]
mod scenarios;
#[cfg(target_os = "linux")]
mod work;

use crate::support::gpu::gpu;
use fishmask::device::cuda::args::{ADVANCE, AdvanceArgs};
use fishmask::device::driver::{Driver, Error, Launch};
use fishmask::device::emulated::Emulated;

/// A counter that launches move on, recorded and not.
fn counts<D: Driver>(device: &D) {
    let mut counter = device.allocate(4).unwrap();
    device.upload(&7_u32.to_le_bytes(), &mut counter, 0).unwrap();
    let address = device.address(&counter);
    let advance = |by| {
        let args = AdvanceArgs { counter: address as *mut u32, by };
        device.launch(&ADVANCE, Launch::new(1, 32), args)
    };
    let read = || {
        let mut bytes = [0; 4];
        device.download(&counter, 0, &mut bytes).unwrap();
        u32::from_le_bytes(bytes)
    };
    let from = device.event().unwrap();
    advance(2).unwrap();
    // More shared memory than a block has unasked, and no more than any GPU can give.
    let args = AdvanceArgs { counter: address as *mut u32, by: 3 };
    device.launch(&ADVANCE, Launch { grid: [1, 1, 1], block: 32, shared: 96 << 10 }, args).unwrap();
    let to = device.event().unwrap();
    assert_eq!(read(), 12);
    assert!(device.elapsed(&from, &to).unwrap() >= 0.0);

    device.begin_recording().unwrap();
    advance(100).unwrap();
    advance(1000).unwrap();
    let graph = device.end_recording().unwrap();
    assert_eq!(read(), 12, "recorded launches ran");
    for _ in 0..3 {
        device.replay(&graph).unwrap();
    }
    assert_eq!(read(), 3312);

    let args = AdvanceArgs { counter: address as *mut u32, by: 1 };
    let refused = device.launch(&ADVANCE, Launch::new(1, 64), args).unwrap_err().to_string();
    assert!(refused.contains("a block must be a multiple of 32 threads, at most 32"), "{refused}");
    device.synchronize().unwrap();
    assert!(device.free_bytes().unwrap() > 0);

    let mut halves = device.allocate(8).unwrap();
    device.upload(&[1, 2, 3, 4, 5, 6, 7, 8], &mut halves, 0).unwrap();
    device.upload(&[9, 9], &mut halves, 5).unwrap();
    let mut bytes = [0; 3];
    device.download(&halves, 4, &mut bytes).unwrap();
    assert_eq!(bytes, [5, 9, 9]);
    device.clear(&mut halves).unwrap();
    device.download(&halves, 0, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 3]);
}

#[test]
fn counts_emulated() {
    counts(&Emulated::new());
}

#[test]
fn counts_cuda() {
    if let Some(gpu) = gpu() {
        counts(&gpu);
    }
}

#[test]
fn has_no_room_cuda() {
    let Some(gpu) = gpu() else { return };
    let total = gpu.properties().memory;
    let refused = gpu.allocate(total + 1).map(|_| ()).unwrap_err();
    assert!(matches!(&refused, Error::OutOfMemory { wanted, .. } if *wanted == total + 1), "{refused}");
    counts(&gpu);
}

/// Opened twice, a GPU lends both the same context.
#[test]
fn opens_twice_cuda() {
    if let (Some(one), Some(two)) = (gpu(), gpu()) {
        counts(&two);
        drop(two);
        counts(&one);
    }
}

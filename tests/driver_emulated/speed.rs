//! How fast the emulation is: `cargo test --release --test driver_emulated speed -- --ignored --nocapture`.

use std::time::Instant;

use fishmask::driver::emulated::Emulated;
use fishmask::driver::{Driver, Launch};

use super::{Rig, both};

/// Seconds of the quickest of five runs on one thread.
fn seconds(device: Emulated, kernel: &'static str, launch: Launch, n: u32) -> f64 {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(move || {
        let mut rig = Rig::new(device, 1 << 16, 1, 1 << 16, 1);
        rig.device.clear(&mut rig.floats).unwrap();
        rig.device.clear(&mut rig.words).unwrap();
        let run = |_| {
            let begun = Instant::now();
            rig.run(kernel, launch, n).unwrap();
            begun.elapsed().as_secs_f64()
        };
        (0..5).map(run).fold(f64::MAX, f64::min)
    })
}

#[test]
#[ignore = "measures, checks nothing"]
fn speed_emulated() {
    for (device, build) in both().into_iter().zip(["fast", "checked"]) {
        drop(device);
        let device = || if build == "fast" { Emulated::new() } else { Emulated::checked() };
        let products = seconds(device(), "test_many_products", Launch::new(1, 128), 1000);
        println!("{build}: products {:.1} GFLOP/s", 4.0 * 1000.0 * 16.0 * 4096.0 / products / 1e9);
        let shuffles = seconds(device(), "test_many_shuffles", Launch::new(1, 128), 1000);
        println!("{build}: {:.1} ns a lane and shuffle", shuffles / 128e3 * 1e9);
        for threads in [128, 1024] {
            let barriers = seconds(device(), "test_many_barriers", Launch::new(1, threads), 1000);
            println!(
                "{build}: {:.1} ns a thread and barrier, {threads} threads",
                barriers / (f64::from(threads) * 1e3) * 1e9
            );
        }
        let elements = seconds(device(), "test_many_elements", Launch::new(64, 256), 1 << 16) / 65536.0;
        println!("{build}: {:.1} ns an element of two reads and a write of 4 bytes", elements * 1e9);
        let small = seconds(device(), "test_many_barriers", Launch::new(1, 32), 0);
        println!("{build}: a launch of 1 block of 32: {:.2} us", small * 1e6);
        let many = seconds(device(), "test_many_barriers", Launch::new(256, 256), 0);
        println!(
            "{build}: a launch of 256 blocks of 256: {:.1} us, {:.1} ns a thread",
            many * 1e6,
            many / 65536.0 * 1e9
        );
    }
}

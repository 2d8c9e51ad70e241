//! What the emulated device costs, on one thread: `cargo bench --bench emulated`. Best of five runs each.

use std::time::Instant;

use fishmask::device::driver::{Driver, Error, Launch};
use fishmask::device::emulated::Emulated;
use fishmask::device::emulated::args::{TestArgs, testing};

/// Elements of each buffer.
const N: usize = 1 << 16;

/// Seconds of the quickest of five launches.
fn seconds(device: &Emulated, kernel: &'static str, launch: Launch, n: u32) -> Result<f64, Error> {
    let mut buffers = [device.allocate(8 * N)?, device.allocate(8 * N)?];
    buffers.iter_mut().try_for_each(|buffer| device.clear(buffer))?;
    let [floats, words] = [0, 1].map(|i| device.address(&buffers[i]));
    let args = TestArgs {
        floats: floats as *mut f32,
        halves: std::ptr::null_mut(),
        words: words as *mut u32,
        longs: std::ptr::null_mut(),
        n,
    };
    let mut best = f64::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        device.launch(&testing(kernel), launch, args)?;
        best = best.min(begun.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn table(device: &Emulated) -> Result<(), Error> {
    println!("{}", device.properties().name);
    let products = seconds(device, "test_many_products", Launch::new(1, 128), 1000)?;
    let flop = 4.0 * 1000.0 * 16.0 * 4096.0;
    println!("  warp_mma<4, 4>                       {:8.1} GFLOP/s", flop / products / 1e9);
    let shuffles = seconds(device, "test_many_shuffles", Launch::new(1, 128), 1000)?;
    println!("  a shuffle, each lane                 {:8.1} ns", shuffles / 128e3 * 1e9);
    for threads in [128, 1024] {
        let barriers = seconds(device, "test_many_barriers", Launch::new(1, threads), 1000)?;
        let each = barriers / (f64::from(threads) * 1e3) * 1e9;
        println!("  a barrier of {threads:4} threads, each     {each:8.1} ns");
    }
    let elements = seconds(device, "test_many_elements", Launch::new(64, 256), N as u32)? / N as f64;
    println!("  a += b, each of {N} f32            {:8.1} ns", elements * 1e9);
    let small = seconds(device, "test_many_barriers", Launch::new(1, 32), 0)?;
    println!("  launch of 1 block of 32              {:8.2} us", small * 1e6);
    let many = seconds(device, "test_many_barriers", Launch::new(256, 256), 0)?;
    println!("  launch of 256 blocks of 256          {:8.1} us", many * 1e6);
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    pool.install(|| table(&Emulated::new()).and_then(|()| table(&Emulated::checked())))?;
    Ok(())
}

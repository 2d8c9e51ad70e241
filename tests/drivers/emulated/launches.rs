//! Launches, recording and replay, and what a launch refuses.

use fishmask::device::cuda::args::{ADVANCE, AdvanceArgs};
use fishmask::device::driver::{Driver, Error, Kernel, Launch};
use fishmask::device::emulated::Emulated;
use fishmask::optim::sgd::args::{SGD_STEP, SgdArgs};
use rayon::prelude::*;

use super::{Rig, both};

#[test]
fn runs_a_kernel_emulated() {
    both().into_iter().for_each(|device| run_sgd(&device));
}

fn run_sgd(device: &Emulated) {
    let n = 1000_usize;
    let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let mut weights = device.allocate(4 * n).unwrap();
    let mut velocity = device.allocate(4 * n).unwrap();
    let mut gradients = device.allocate(4 * n).unwrap();
    let halves = device.allocate(2 * n).unwrap();
    let mut rates = device.allocate(8).unwrap();
    let mut step = device.allocate(4).unwrap();
    device.upload(bytemuck::cast_slice(&values), &mut weights, 0).unwrap();
    device.clear(&mut velocity).unwrap();
    device.upload(bytemuck::cast_slice(&values), &mut gradients, 0).unwrap();
    device.upload(bytemuck::cast_slice(&[9.0_f32, 0.5]), &mut rates, 0).unwrap();
    device.upload(&1_u32.to_le_bytes(), &mut step, 0).unwrap();
    let args = SgdArgs {
        weights: device.address(&weights) as *mut f32,
        velocity: device.address(&velocity) as *mut f32,
        gradients: device.address(&gradients) as *const f32,
        halves: device.address(&halves) as *mut half::f16,
        kept: std::ptr::null(),
        indices: std::ptr::null(),
        rates: device.address(&rates) as *const f32,
        step: device.address(&step) as *const u32,
        n: n as u32,
        momentum: 0.5,
        weight_decay: 0.0,
    };
    device.launch(&SGD_STEP, Launch::new(3, 64), args).unwrap();
    let mut bytes = vec![0; 4 * n];
    device.download(&weights, 0, &mut bytes).unwrap();
    let found: &[f32] = bytemuck::cast_slice(&bytes);
    // v = -0.5 g; w = g - 0.5 g - 0.25 g
    assert!(found.iter().zip(&values).all(|(f, v)| *f == 0.25 * v), "{:?}", &found[..5]);
}

#[test]
fn recorded_launches_run_when_replayed_emulated() {
    for device in both() {
        let mut rig = Rig::new(device, 1, 1, 1, 1);
        let Rig { device, words, .. } = &mut rig;
        device.clear(words).unwrap();
        let counter = device.address(words) as *mut u32;
        device.begin_recording().unwrap();
        for by in [2, 5] {
            device.launch(&ADVANCE, Launch::new(1, 32), AdvanceArgs { counter, by }).unwrap();
        }
        let graph = device.end_recording().unwrap();
        assert_eq!(rig.get::<u32>(&rig.words), [0]);
        (0..3).for_each(|_| rig.device.replay(&graph).unwrap());
        assert_eq!(rig.get::<u32>(&rig.words), [21]);
    }
}

/// As a GPU does.
#[test]
fn only_launches_are_recorded_emulated() {
    let mut rig = Rig::new(Emulated::new(), 1, 1, 32, 1);
    let Rig { device, words, .. } = &mut rig;
    let (moment, empty) = (device.event().unwrap(), [0; 4]);
    assert!(device.end_recording().is_err(), "none was begun");
    device.begin_recording().unwrap();
    let refused = [
        device.begin_recording(),
        device.upload(&empty, words, 0),
        device.download(words, 0, &mut [0; 4]),
        device.clear(words),
        device.event().map(drop),
        device.elapsed(&moment, &moment).map(drop),
        device.synchronize(),
    ];
    for refused in refused {
        let text = refused.unwrap_err().to_string();
        assert!(text.ends_with("only launches can be recorded"), "{text}");
    }
    let graph = device.end_recording().unwrap();
    device.begin_recording().unwrap();
    assert!(device.replay(&graph).is_err());
    device.end_recording().unwrap();
    device.replay(&graph).unwrap();
}

#[test]
fn a_refused_launch_is_not_recorded_emulated() {
    let rig = Rig::new(Emulated::new(), 1, 1, 32, 1);
    rig.device.begin_recording().unwrap();
    let refused = rig.run("no_such_kernel", Launch::new(1, 32), 0);
    let graph = rig.device.end_recording().unwrap();
    assert!(matches!(refused, Err(Error::Launch { .. })));
    rig.device.replay(&graph).unwrap();
    // Launches run again.
    rig.run("test_many_barriers", Launch::new(1, 32), 3).unwrap();
    assert_eq!(rig.get::<u32>(&rig.words), [3; 32]);
}

#[test]
fn wrong_launches_are_refused_emulated() {
    for device in both() {
        let rig = Rig::new(device, 64, 64, 64, 64);
        let refused = |kernel, launch, says: &str| {
            let error = rig.run(kernel, launch, 0).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(kernel), "{error}");
        };
        refused("no_such_kernel", Launch::new(1, 32), "there is no such kernel");
        for threads in [0, 31, 33, 288, 1024] {
            refused("test_halves", Launch::new(1, threads), "a multiple of 32 threads, at most 256");
        }
        for grid in [[0, 1, 1], [1, 65_536, 1], [1, 1, 65_536]] {
            refused("test_halves", Launch { grid, block: 32, shared: 0 }, "a grid has from 1 to");
        }
        let launch = Launch { grid: [1; 3], block: 32, shared: 232_449 };
        refused("test_halves", launch, "at most 232448 bytes of shared memory");
        let launch = Launch { grid: [1; 3], block: 32, shared: 232_448 };
        refused("test_places", launch, "at most 232448 bytes of static and dynamic shared memory");
        let wrong: Kernel<[u64; 9]> = Kernel::new("testing", "test_halves");
        let error = rig.device.launch(&wrong, Launch::new(1, 32), [0; 9]).unwrap_err().to_string();
        assert!(error.contains("its arguments have 40 bytes, not 72"), "{error}");
    }
}

/// Launches from inside the pool that runs the blocks.
#[test]
fn launches_from_every_thread_of_the_pool_emulated() {
    let sums: Vec<u32> = (0..64_u32)
        .into_par_iter()
        .map(|i| {
            let device = if i % 4 == 0 { Emulated::checked() } else { Emulated::new() };
            let rig = Rig::new(device, 1, 1, 64 * 64, 1);
            rig.run("test_many_shuffles", Launch::new(64, 64), i).unwrap();
            rig.get::<u32>(&rig.words).iter().fold(0, |sum, word| sum ^ word)
        })
        .collect();
    assert_eq!(sums.len(), 64);
}

/// The same bits from both builds and on any number of threads.
#[test]
fn the_same_bits_from_both_builds_on_any_threads_emulated() {
    let run = |device: Emulated, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let values: Vec<f32> = (0..2000).map(|i| (i as f32).sin()).collect();
        pool.install(move || {
            let mut rig = Rig::new(device, 2000, 1, 2000, 1);
            super::upload(&rig.device, &values, &mut rig.floats);
            rig.run("test_float_sums", Launch::new(1, 64), 0).unwrap();
            rig.run("test_many_shuffles", Launch::new(31, 64), 100).unwrap();
            (rig.get::<u32>(&rig.floats), rig.get::<u32>(&rig.words))
        })
    };
    let expected = run(Emulated::new(), 1);
    assert_eq!(run(Emulated::new(), 3), expected);
    assert_eq!(run(Emulated::checked(), 3), expected);
}

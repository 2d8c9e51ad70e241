//! The emulated device runs kernels as a GPU would.

#![cfg(fishmask_emulated)]

use fishmask::backend::cuda::args::sgd::{SGD_STEP, SgdArgs};
use fishmask::driver::emulated::Emulated;
use fishmask::driver::{Driver, Launch};

#[test]
fn runs_a_kernel() {
    let device = Emulated::new();
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

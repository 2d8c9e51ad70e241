//! What a test body needs to run on any backend: buffers with known contents, and how far results may be off.

use fishmask::device::Cpu;
use fishmask::device::driver::Driver;
use fishmask::device::emulated::Emulated;
use fishmask::device::{Array, Cuda};
use fishmask::ops::Backend;
use fishmask::optim::TrainingBackend;

use super::reference::Tensor;

/// Unit roundoff of f32, in which every backend computes.
pub const U: f64 = 1.0 / (1 << 24) as f64;

/// How a backend stores activations.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Unit roundoff of a stored activation.
    pub storage: f64,
    /// Half the least positive number it can store.
    pub tiny: f64,
}

impl Tolerance {
    /// Activations in f32.
    pub const F32: Tolerance = Tolerance { storage: U, tiny: 1e-45 };
    /// Activations in f16: 11 significant bits, the least positive number 2^-24.
    pub const F16: Tolerance = Tolerance { storage: 1.0 / 2048.0, tiny: 1.0 / 33_554_432.0 };
}

/// What the tests need of a backend beside its operations.
pub trait Probe: TrainingBackend {
    /// How it stores activations.
    const TOLERANCE: Tolerance;
    /// Sums holding `values`.
    fn sums_of(&self, values: &[f64]) -> Self::Sums;
    /// All bytes.
    fn read_bytes(&self, bytes: &Self::Bytes) -> Vec<u8>;
}

impl Probe for Cpu {
    const TOLERANCE: Tolerance = Tolerance::F32;

    fn sums_of(&self, values: &[f64]) -> Vec<f64> {
        values.to_vec()
    }

    fn read_bytes(&self, bytes: &Vec<u8>) -> Vec<u8> {
        bytes.clone()
    }
}

impl<D: Driver> Probe for Cuda<D> {
    const TOLERANCE: Tolerance = Tolerance::F16;

    fn sums_of(&self, values: &[f64]) -> Array<D, f64> {
        Array::of(self.driver(), values).unwrap()
    }

    fn read_bytes(&self, bytes: &Array<D, u8>) -> Vec<u8> {
        bytes.read(self.driver(), bytes.len()).unwrap()
    }
}

/// The CUDA backend on the emulated device, which stops at what a GPU would only corrupt.
pub fn emulated() -> Cuda<Emulated> {
    Cuda::new(Emulated::checked()).unwrap()
}

/// Activations that begin with `values` and go on with `spare` NaNs, which must stay out of every result.
pub fn tensor<B: Backend>(backend: &B, values: &[f32], spare: usize) -> B::Tensor {
    let mut all = values.to_vec();
    all.resize(values.len() + spare, f32::NAN);
    let mut tensor = backend.tensor(all.len()).unwrap();
    backend.write_tensor(&all, &mut tensor).unwrap();
    tensor
}

/// Activations that are all NaN.
pub fn poisoned<B: Backend>(backend: &B, elements: usize) -> B::Tensor {
    tensor(backend, &[], elements)
}

/// The first `used` of a tensor's `elements`, after asserting that the rest is still NaN.
#[track_caller]
pub fn front<B: Backend>(
    backend: &B,
    tensor: &B::Tensor,
    used: usize,
    elements: usize,
    what: &str,
) -> Vec<f32> {
    let mut values = backend.read_tensor(tensor, elements).unwrap();
    assert!(values[used..].iter().all(|v| v.is_nan()), "{what}: wrote beyond its images");
    values.truncate(used);
    values
}

/// Rounded to 11 significant bits, so that f16 storage holds it exactly (numbers of ordinary size).
pub fn half(t: Tensor) -> Tensor {
    let round = |v: f64| {
        if v == 0.0 {
            return v;
        }
        let unit = 2f64.powi(v.abs().log2().floor() as i32 - 10).max(2f64.powi(-24));
        (v / unit).round() * unit
    };
    Tensor { data: t.data.into_iter().map(round).collect(), shape: t.shape }
}

/// As a backend stores it, rounded once.
pub fn stored<B: Probe>(t: Tensor) -> Tensor {
    if B::TOLERANCE.storage == U {
        return t;
    }
    let round = |v| half::f16::from_f64(v).to_f64();
    Tensor { data: t.data.into_iter().map(round).collect(), shape: t.shape }
}

/// Largest magnitude.
pub fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m, v| v.abs().max(m))
}

/// Tests functions of the CUDA backend on the emulated device and a GPU: `name` becomes `name::on_emulated`
/// and `name::on_cuda`.
macro_rules! on_cuda_devices {
    (@within $test:ident) => {
        #[test]
        fn on_emulated() {
            super::$test(crate::support::device::emulated());
        }

        #[test]
        fn on_cuda() {
            crate::support::gpu::on_gpu(|cuda| super::$test(cuda()));
        }
    };
    ($($test:ident),+) => {$(
        mod $test {
            crate::support::device::on_cuda_devices!(@within $test);
        }
    )+};
}

/// Likewise functions of any backend, on the CPU too: `name::on_cpu`.
macro_rules! on_every_device {
    ($($test:ident),+) => {$(
        mod $test {
            #[test]
            fn on_cpu() {
                super::$test(fishmask::device::Cpu::new());
            }

            crate::support::device::on_cuda_devices!(@within $test);
        }
    )+};
}

#[allow(unused_imports)]
pub(crate) use {on_cuda_devices, on_every_device};

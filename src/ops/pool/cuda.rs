//! Global average pooling.

use half::f16;

use super::args::{
    AVERAGE_BACKWARD_1, AVERAGE_BACKWARD_8, AVERAGE_FORWARD_1, AVERAGE_FORWARD_8, AveragePoolArgs, THREADS,
};
use super::{AveragePool, PoolOps};
use crate::device::driver::{Driver, Launch};
use crate::device::{Array, Cuda, Error};

impl<D: Driver> PoolOps for Cuda<D> {
    fn average_pool_forward(
        &mut self,
        pool: &AveragePool,
        x: &Array<D, f16>,
        y: &mut Array<D, f16>,
    ) -> Result<(), Error> {
        let &AveragePool { n, h, w, c } = pool;
        assert!(x.len() >= n * h * w * c && y.len() >= n * c, "buffers too small for {pool:?}");
        let (args, launch) = arguments(pool, x.pointer(), y.pointer_mut());
        let kernel = if c.is_multiple_of(8) { &AVERAGE_FORWARD_8 } else { &AVERAGE_FORWARD_1 };
        Ok(self.driver.launch(kernel, launch, args)?)
    }

    fn average_pool_backward(
        &mut self,
        pool: &AveragePool,
        dy: &Array<D, f16>,
        dx: &mut Array<D, f16>,
    ) -> Result<(), Error> {
        let &AveragePool { n, h, w, c } = pool;
        assert!(dy.len() >= n * c && dx.len() >= n * h * w * c, "buffers too small for {pool:?}");
        let (args, launch) = arguments(pool, dy.pointer(), dx.pointer_mut());
        let kernel = if c.is_multiple_of(8) { &AVERAGE_BACKWARD_8 } else { &AVERAGE_BACKWARD_1 };
        Ok(self.driver.launch(kernel, launch, args)?)
    }
}

/// A thread for each image and its 8 channels or one.
fn arguments(pool: &AveragePool, from: *const f16, to: *mut f16) -> (AveragePoolArgs, Launch) {
    let &AveragePool { n, h, w, c } = pool;
    let args = AveragePoolArgs {
        from,
        to,
        n: n as u32,
        pixels: (h * w) as u32,
        c: c as u32,
        share: 1.0 / (h * w) as f32,
    };
    let width = if c.is_multiple_of(8) { 8 } else { 1 };
    (args, Launch::new((n * (c / width)).div_ceil(THREADS as usize) as u32, THREADS))
}

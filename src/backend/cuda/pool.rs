//! Global average pooling.

use half::f16;

use super::{Array, Cuda};
use crate::backend::{AveragePool, Error};
use crate::driver::Driver;

impl<D: Driver> Cuda<D> {
    pub(super) fn average(
        &mut self,
        _pool: &AveragePool,
        _x: &Array<D, f16>,
        _y: &mut Array<D, f16>,
    ) -> Result<(), Error> {
        todo!()
    }

    pub(super) fn average_backward(
        &mut self,
        _pool: &AveragePool,
        _dy: &Array<D, f16>,
        _dx: &mut Array<D, f16>,
    ) -> Result<(), Error> {
        todo!()
    }
}

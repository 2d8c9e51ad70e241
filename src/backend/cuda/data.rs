//! The data set on the device, and batches drawn from it.

use std::sync::Arc;

use half::f16;

use super::{Array, Cuda};
use crate::backend::{Error, Position};
use crate::data::Split;
use crate::driver::Driver;

/// A split on the device.
pub struct Data<D: Driver> {
    /// Pixels \[N,32,32,3\].
    pub images: Array<D, u8>,
}

impl<D: Driver> Data<D> {
    pub(super) fn new(
        _driver: &D,
        _split: &Arc<Split>,
        _training: Option<(usize, u64)>,
    ) -> Result<Self, Error> {
        todo!()
    }

    pub(super) fn seek(&mut self, _driver: &D, _position: Position) -> Result<(), Error> {
        todo!()
    }
}

impl<D: Driver> Cuda<D> {
    pub(super) fn draw(
        &mut self,
        _data: &mut Data<D>,
        _n: usize,
        _images: &mut Array<D, f16>,
        _labels: &mut Array<D, u8>,
    ) -> Result<(), Error> {
        todo!()
    }
}

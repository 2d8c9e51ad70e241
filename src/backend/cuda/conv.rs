//! Convolution: fprop with batch norm's sums, dgrad, wgrad.

use std::ops::Range;

use half::f16;

use super::{Array, Cuda, Vector};
use crate::backend::{Conv, Error};
use crate::driver::Driver;

/// Values of scratch all three passes of a convolution need.
pub(super) fn scratch(_conv: &Conv) -> usize {
    todo!()
}

impl<D: Driver> Cuda<D> {
    pub(super) fn fprop(
        &mut self,
        _conv: &Conv,
        _x: &Array<D, f16>,
        _weights: &Vector<D>,
        _filter: Range<usize>,
        _y: &mut Array<D, f16>,
        _sums: Option<(&mut Array<D, f64>, Range<usize>)>,
    ) -> Result<(), Error> {
        todo!()
    }

    pub(super) fn dgrad(
        &mut self,
        _conv: &Conv,
        _dy: &Array<D, f16>,
        _weights: &Vector<D>,
        _filter: Range<usize>,
        _dx: &mut Array<D, f16>,
        _accumulate: bool,
    ) -> Result<(), Error> {
        todo!()
    }

    pub(super) fn wgrad(
        &mut self,
        _conv: &Conv,
        _x: &Array<D, f16>,
        _dy: &Array<D, f16>,
        _gradients: &mut Vector<D>,
        _filter: Range<usize>,
    ) -> Result<(), Error> {
        todo!()
    }
}

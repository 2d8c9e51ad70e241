//! The linear layer.

use std::ops::Range;

use half::f16;

use super::{Array, Cuda, Vector};
use crate::backend::{Error, Linear};
use crate::driver::Driver;

impl<D: Driver> Cuda<D> {
    pub(super) fn linear(
        &mut self,
        _linear: &Linear,
        _x: &Array<D, f16>,
        _weights: &Vector<D>,
        _weight: Range<usize>,
        _bias: Option<Range<usize>>,
        _y: &mut Array<D, f16>,
    ) -> Result<(), Error> {
        todo!()
    }

    pub(super) fn linear_dgrad(
        &mut self,
        _linear: &Linear,
        _dy: &Array<D, f16>,
        _weights: &Vector<D>,
        _weight: Range<usize>,
        _dx: &mut Array<D, f16>,
    ) -> Result<(), Error> {
        todo!()
    }

    pub(super) fn linear_wgrad(
        &mut self,
        _linear: &Linear,
        _x: &Array<D, f16>,
        _dy: &Array<D, f16>,
        _gradients: &mut Vector<D>,
        _weight: Range<usize>,
        _bias: Option<Range<usize>>,
    ) -> Result<(), Error> {
        todo!()
    }
}

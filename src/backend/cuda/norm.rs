//! Batch norm with what follows it.

use std::ops::Range;

use super::{Array, Cuda, Vector};
use crate::backend::{Error, Norm, NormBackward, NormForward};
use crate::driver::Driver;

/// Values of scratch a batch norm's backward pass needs.
pub(super) fn scratch(_norm: &Norm) -> usize {
    todo!()
}

impl<D: Driver> Cuda<D> {
    pub(super) fn batch_moments(
        &mut self,
        _count: usize,
        _sums: &Array<D, f64>,
        _moments: &mut Vector<D>,
        _running: &mut Vector<D>,
        _at: Range<usize>,
    ) -> Result<(), Error> {
        todo!()
    }

    pub(super) fn running_moments(
        &mut self,
        _running: &Vector<D>,
        _moments: &mut Vector<D>,
        _at: Range<usize>,
    ) -> Result<(), Error> {
        todo!()
    }

    pub(super) fn fused_norm(&mut self, _norm: &Norm, _b: NormForward<Self>) -> Result<(), Error> {
        todo!()
    }

    pub(super) fn fused_norm_backward(&mut self, _norm: &Norm, _b: NormBackward<Self>) -> Result<(), Error> {
        todo!()
    }
}

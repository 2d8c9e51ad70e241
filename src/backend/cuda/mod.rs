//! The CUDA backend: f16 storage, f32 accumulation and master weights, on any [`Driver`].
//!
//! Each operation lies in a file of its own, next to its kernels' arguments in [`args`], and is a method of [`Cuda`] that
//! checks its buffers' lengths, chooses a launch and launches. Operations are queued; reading a result waits for them.

pub mod args;
mod array;
pub mod conv;
mod data;
mod gather;
mod linear;
mod loss;
mod norm;
mod pool;
mod sgd;
mod sparse;
mod top_k;

use std::ops::Range;
use std::sync::Arc;

use half::f16;

use super::{
    AveragePool, Backend, Conv, Error, Fault, Linear, Loss, Norm, NormBackward, NormForward, Position, Sgd,
    Totals,
};
use crate::data::Split;
use crate::driver::Driver;
use args::counter::{ADVANCE, AdvanceArgs};
pub use array::{Array, Vector};
pub use data::Data;
pub use top_k::TopKScratch;

/// A device with what the operations need beside their buffers.
pub struct Cuda<D: Driver> {
    driver: D,
    /// Where kernels leave partial results for the kernel after them; see [`Backend::reserve`].
    scratch: Array<D, f32>,
    /// The same for scoring; see [`Sparse::reserve_scoring`](super::Sparse::reserve_scoring).
    scoring: Array<D, f32>,
    loss: loss::State<D>,
    split: data::Last<D>,
    sgd: sgd::State<D>,
}

impl<D: Driver> Cuda<D> {
    /// A backend on a device, with no scratch yet; see [`Backend::reserve`].
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(driver: D) -> Result<Self, Error> {
        Ok(Cuda {
            scratch: Array::new(&driver, 0)?,
            scoring: Array::new(&driver, 0)?,
            loss: loss::State::new(&driver)?,
            split: data::Last::none(),
            sgd: sgd::State::new(&driver)?,
            driver,
        })
    }

    /// The device.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// Adds to a counter on the device.
    fn advance(&self, counter: *mut u32, by: u32) -> Result<(), Error> {
        let launch = crate::driver::Launch::new(1, 32);
        Ok(self.driver.launch(&ADVANCE, launch, AdvanceArgs { counter, by })?)
    }
}

impl<D: Driver> Backend for Cuda<D> {
    type Tensor = Array<D, f16>;
    type Vector = Vector<D>;
    type Sums = Array<D, f64>;
    type Bytes = Array<D, u8>;
    type Data = Data<D>;
    type Recording = D::Graph;

    const ACTIVATION: usize = 2;
    /// Three in f32, and the rounded weight.
    const WEIGHT: usize = 3 * 4 + 2;
    const QUEUES: bool = true;

    fn device(&self) -> String {
        self.driver.properties().name.clone()
    }

    fn free_bytes(&self) -> Result<usize, Error> {
        Ok(self.driver.free_bytes()?)
    }

    fn tensor(&self, elements: usize) -> Result<Self::Tensor, Error> {
        Ok(Array::new(&self.driver, elements)?)
    }

    fn vector(&self, values: &[f32]) -> Result<Vector<D>, Error> {
        Ok(Vector { values: Array::of(&self.driver, values)?, halves: None })
    }

    fn weights(&self, values: &[f32]) -> Result<Vector<D>, Error> {
        let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
        let halves = Some(Array::of(&self.driver, &halves)?);
        Ok(Vector { values: Array::of(&self.driver, values)?, halves })
    }

    fn sums(&self, elements: usize) -> Result<Self::Sums, Error> {
        Ok(Array::zeroed(&self.driver, elements)?)
    }

    fn bytes(&self, elements: usize) -> Result<Self::Bytes, Error> {
        Ok(Array::zeroed(&self.driver, elements)?)
    }

    fn read(&self, vector: &Vector<D>) -> Result<Vec<f32>, Error> {
        Ok(vector.values.read(&self.driver, vector.values.len())?)
    }

    fn read_range(&self, vector: &Vector<D>, range: Range<usize>) -> Result<Vec<f32>, Error> {
        Ok(vector.values.read_range(&self.driver, range)?)
    }

    fn read_tensor(&self, tensor: &Self::Tensor, elements: usize) -> Result<Vec<f32>, Error> {
        let halves = tensor.read(&self.driver, elements)?;
        Ok(halves.into_iter().map(f32::from).collect())
    }

    fn write(&self, values: &[f32], vector: &mut Vector<D>) -> Result<(), Error> {
        assert!(values.len() == vector.values.len(), "as many values as there were");
        vector.values.write(&self.driver, values)?;
        if let Some(halves) = &mut vector.halves {
            let rounded: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
            halves.write(&self.driver, &rounded)?;
        }
        Ok(())
    }

    fn write_tensor(&self, values: &[f32], tensor: &mut Self::Tensor) -> Result<(), Error> {
        let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
        Ok(tensor.write(&self.driver, &halves)?)
    }

    fn write_bytes(&self, values: &[u8], bytes: &mut Self::Bytes) -> Result<(), Error> {
        Ok(bytes.write(&self.driver, values)?)
    }

    fn reserve(&mut self, convs: &[Conv], norms: &[Norm]) -> Result<(), Error> {
        conv::countable(convs)?;
        self.scratch = Array::new(&self.driver, scratch(convs, norms))?;
        Ok(())
    }

    fn scratch_bytes(convs: &[Conv], norms: &[Norm]) -> usize {
        4 * scratch(convs, norms)
    }

    fn record(&mut self) -> Result<(), Error> {
        Ok(self.driver.begin_recording()?)
    }

    fn recorded(&mut self) -> Result<Option<D::Graph>, Error> {
        Ok(Some(self.driver.end_recording()?))
    }

    fn replay(&mut self, recording: &D::Graph) -> Result<(), Error> {
        Ok(self.driver.replay(recording)?)
    }

    fn data(&self, split: &Arc<Split>, training: Option<(usize, u64)>) -> Result<Data<D>, Error> {
        Data::new(&self.driver, &self.split, split, training)
    }

    fn seek(&mut self, data: &mut Data<D>, position: Position) -> Result<(), Error> {
        data.seek(&self.driver, position)
    }

    fn next_batch(
        &mut self,
        data: &mut Data<D>,
        n: usize,
        images: &mut Self::Tensor,
        labels: &mut Self::Bytes,
    ) -> Result<(), Error> {
        self.draw(data, n, images, labels)
    }

    fn conv_fprop(
        &mut self,
        conv: &Conv,
        x: &Self::Tensor,
        weights: &Vector<D>,
        filter: Range<usize>,
        y: &mut Self::Tensor,
        sums: Option<(&mut Self::Sums, Range<usize>)>,
    ) -> Result<(), Error> {
        self.fprop(conv, x, weights, filter, y, sums)
    }

    fn conv_dgrad(
        &mut self,
        conv: &Conv,
        dy: &Self::Tensor,
        weights: &Vector<D>,
        filter: Range<usize>,
        dx: &mut Self::Tensor,
        accumulate: bool,
    ) -> Result<(), Error> {
        self.dgrad(conv, dy, weights, filter, dx, accumulate)
    }

    fn conv_wgrad(
        &mut self,
        conv: &Conv,
        x: &Self::Tensor,
        dy: &Self::Tensor,
        gradients: &mut Vector<D>,
        filter: Range<usize>,
    ) -> Result<(), Error> {
        self.wgrad(conv, x, dy, gradients, filter)
    }

    fn batch_statistics(
        &mut self,
        count: usize,
        sums: &Self::Sums,
        moments: &mut Vector<D>,
        running: &mut Vector<D>,
        at: Range<usize>,
    ) -> Result<(), Error> {
        self.batch_moments(count, sums, moments, running, at)
    }

    fn running_statistics(
        &mut self,
        running: &Vector<D>,
        moments: &mut Vector<D>,
        at: Range<usize>,
    ) -> Result<(), Error> {
        self.running_moments(running, moments, at)
    }

    fn norm_forward(&mut self, norm: &Norm, buffers: NormForward<Self>) -> Result<(), Error> {
        self.fused_norm(norm, buffers)
    }

    fn norm_backward(&mut self, norm: &Norm, buffers: NormBackward<Self>) -> Result<(), Error> {
        self.fused_norm_backward(norm, buffers)
    }

    fn average_pool_forward(
        &mut self,
        pool: &AveragePool,
        x: &Self::Tensor,
        y: &mut Self::Tensor,
    ) -> Result<(), Error> {
        self.average(pool, x, y)
    }

    fn average_pool_backward(
        &mut self,
        pool: &AveragePool,
        dy: &Self::Tensor,
        dx: &mut Self::Tensor,
    ) -> Result<(), Error> {
        self.average_backward(pool, dy, dx)
    }

    fn linear_forward(
        &mut self,
        linear: &Linear,
        x: &Self::Tensor,
        weights: &Vector<D>,
        weight: Range<usize>,
        bias: Option<Range<usize>>,
        y: &mut Self::Tensor,
    ) -> Result<(), Error> {
        self.linear(linear, x, weights, weight, bias, y)
    }

    fn linear_backward(
        &mut self,
        linear: &Linear,
        x: &Self::Tensor,
        dy: &Self::Tensor,
        weights: &Vector<D>,
        weight: Range<usize>,
        bias: Option<Range<usize>>,
        dx: &mut Self::Tensor,
        gradients: &mut Vector<D>,
    ) -> Result<(), Error> {
        self.linear_dgrad(linear, dy, weights, weight.clone(), dx)?;
        self.linear_wgrad(linear, x, dy, gradients, weight, bias)
    }

    fn softmax_cross_entropy(
        &mut self,
        loss: &Loss,
        logits: &Self::Tensor,
        labels: &Self::Bytes,
        dlogits: Option<&mut Self::Tensor>,
    ) -> Result<(), Error> {
        self.cross_entropy(loss, logits, labels, dlogits)
    }

    fn totals(&self) -> Result<Totals, Error> {
        self.loss.totals(&self.driver)
    }

    fn set_totals(&mut self, totals: Totals) -> Result<(), Error> {
        self.loss.set_totals(&self.driver, totals)
    }

    fn fault(&self) -> Result<Option<Fault>, Error> {
        self.loss.fault(&self.driver)
    }

    fn set_rates(&mut self, rates: &[f32], next: usize) -> Result<(), Error> {
        self.sgd.set_rates(&self.driver, rates, next)
    }

    fn sgd(
        &mut self,
        sgd: &Sgd,
        gradients: &Vector<D>,
        velocity: &mut Vector<D>,
        weights: &mut Vector<D>,
    ) -> Result<(), Error> {
        self.sgd_step(sgd, gradients, velocity, weights)
    }
}

/// Values of scratch these operations need: they run one after another, so the most that one needs.
fn scratch(convs: &[Conv], norms: &[Norm]) -> usize {
    let convs = convs.iter().map(conv::scratch);
    let norms = norms.iter().map(norm::scratch);
    // No other operation needs any.
    convs.chain(norms).max().unwrap_or(0)
}

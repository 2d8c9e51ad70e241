//! The CPU backend: f32, NHWC, all cores through rayon.
//!
//! Buffers are plain vectors. How work is divided never depends on the number of threads, so neither do the bits.

pub mod conv;
mod linear;
mod loss;
mod matmul;
mod norm;
mod pool;
mod sample_norm;
mod sgd;
mod simd;
mod sparse;
mod top_k;

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::{
    AveragePool, Backend, Conv, Error, Fault, Linear, Loss, Norm, NormBackward, NormForward, Place, Position,
    ResidualGradient, Sgd, Totals,
};
use crate::data::augment::normalise;
use crate::data::{IMAGE, Prefetcher, Split};

/// The CPU.
#[derive(Default)]
pub struct Cpu {
    workspace: Option<conv::Workspace>,
    scratch: norm::Scratch,
    scoring: sparse::Scratch,
    totals: Totals,
    fault: Option<Fault>,
    rates: Vec<f32>,
    step: usize,
}

/// A split and, for training, batches of it made ahead by a thread of their own.
pub struct Data {
    split: Arc<Split>,
    training: Option<(usize, Prefetcher)>,
    next: Position,
}

impl Cpu {
    /// A backend with no scratch yet; see [`Backend::reserve`].
    pub fn new() -> Self {
        Self::default()
    }

    fn workspace(&mut self) -> &mut conv::Workspace {
        self.workspace.get_or_insert_with(|| conv::Workspace::new(&[]))
    }

    /// The next step's learning rate, which that step uses up.
    fn next_rate(&mut self) -> Result<f32, Error> {
        let steps = Error::Steps { steps: self.step + 1, most: self.rates.len() };
        let &lr = self.rates.get(self.step).ok_or(steps)?;
        self.step += 1;
        Ok(lr)
    }

    /// Remembers the first place where not all values are finite.
    fn watch(&mut self, finite: bool, place: Place) {
        if !finite && self.fault.is_none() {
            self.fault = Some(Fault { step: self.step as u32, place });
        }
    }
}

impl Backend for Cpu {
    type Tensor = Vec<f32>;
    type Vector = Vec<f32>;
    type Sums = Vec<f64>;
    type Bytes = Vec<u8>;
    type Data = Data;
    type Recording = Infallible;

    const ACTIVATION: usize = 4;
    const WEIGHT: usize = 3 * 4;
    const QUEUES: bool = false;

    fn device(&self) -> String {
        match rayon::current_num_threads() {
            1 => "cpu, 1 thread".into(),
            threads => format!("cpu, {threads} threads"),
        }
    }

    /// The operating system's business.
    fn free_bytes(&self) -> Result<usize, Error> {
        Ok(usize::MAX)
    }

    fn tensor(&self, elements: usize) -> Result<Vec<f32>, Error> {
        Ok(vec![0.0; elements])
    }

    fn vector(&self, values: &[f32]) -> Result<Vec<f32>, Error> {
        Ok(values.to_vec())
    }

    fn weights(&self, values: &[f32]) -> Result<Vec<f32>, Error> {
        self.vector(values)
    }

    fn sums(&self, elements: usize) -> Result<Vec<f64>, Error> {
        Ok(vec![0.0; elements])
    }

    fn bytes(&self, elements: usize) -> Result<Vec<u8>, Error> {
        Ok(vec![0; elements])
    }

    fn read(&self, vector: &Vec<f32>) -> Result<Vec<f32>, Error> {
        Ok(vector.clone())
    }

    fn read_range(&self, vector: &Vec<f32>, range: Range<usize>) -> Result<Vec<f32>, Error> {
        Ok(vector[range].to_vec())
    }

    fn write(&self, values: &[f32], vector: &mut Vec<f32>) -> Result<(), Error> {
        vector.copy_from_slice(values);
        Ok(())
    }

    fn read_tensor(&self, tensor: &Vec<f32>, elements: usize) -> Result<Vec<f32>, Error> {
        Ok(tensor[..elements].to_vec())
    }

    fn write_tensor(&self, values: &[f32], tensor: &mut Vec<f32>) -> Result<(), Error> {
        tensor[..values.len()].copy_from_slice(values);
        Ok(())
    }

    fn write_bytes(&self, values: &[u8], bytes: &mut Vec<u8>) -> Result<(), Error> {
        bytes[..values.len()].copy_from_slice(values);
        Ok(())
    }

    fn reserve(&mut self, convs: &[Conv], norms: &[Norm]) -> Result<(), Error> {
        self.workspace = Some(conv::Workspace::new(convs));
        self.scratch.reserve(norms);
        Ok(())
    }

    fn scratch_bytes(convs: &[Conv], norms: &[Norm]) -> usize {
        conv::Workspace::new(convs).bytes() + norm::scratch_bytes(norms)
    }

    fn record(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn recorded(&mut self) -> Result<Option<Infallible>, Error> {
        Ok(None)
    }

    fn replay(&mut self, recording: &Infallible) -> Result<(), Error> {
        match *recording {}
    }

    fn data(&self, split: &Arc<Split>, training: Option<(usize, u64)>) -> Result<Data, Error> {
        let prefetch = |(batch, seed)| Ok::<_, Error>((batch, Prefetcher::new(split.clone(), batch, seed)?));
        let training = training.map(prefetch).transpose()?;
        Ok(Data { split: split.clone(), training, next: Position::default() })
    }

    fn seek(&mut self, data: &mut Data, position: Position) -> Result<(), Error> {
        data.next = position;
        Ok(())
    }

    fn next_batch(
        &mut self,
        data: &mut Data,
        n: usize,
        images: &mut Vec<f32>,
        labels: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let (images, labels) = (&mut images[..n * IMAGE], &mut labels[..n]);
        let Position { epoch, image } = data.next;
        data.next.image += n;
        if let Some((batch, prefetcher)) = &mut data.training {
            if n != *batch {
                return Err(Error::Batch { expected: *batch, found: n });
            }
            return Ok(prefetcher.batch(epoch, (image / n) as u32, images, labels)?);
        }
        if data.next.image > data.split.len() {
            return Err(Error::Images { last: data.next.image, images: data.split.len() });
        }
        labels.copy_from_slice(&data.split.labels[image..image + n]);
        let pixels = data.split.images[image * IMAGE..(image + n) * IMAGE].par_chunks_exact(IMAGE);
        let images = images.par_chunks_exact_mut(IMAGE);
        images.zip(pixels).for_each(|(image, pixels)| normalise(pixels, image));
        Ok(())
    }

    fn conv_fprop(
        &mut self,
        conv: &Conv,
        x: &Vec<f32>,
        weights: &Vec<f32>,
        filter: Range<usize>,
        y: &mut Vec<f32>,
        sums: Option<(&mut Vec<f64>, Range<usize>)>,
    ) -> Result<(), Error> {
        let (x, y) = (&x[..conv.inputs()], &mut y[..conv.outputs()]);
        let sums = sums.map(|(sums, at)| &mut sums[at]);
        conv::fprop(conv, x, &weights[filter], y, sums, self.workspace());
        Ok(())
    }

    fn conv_dgrad(
        &mut self,
        conv: &Conv,
        dy: &Vec<f32>,
        weights: &Vec<f32>,
        filter: Range<usize>,
        dx: &mut Vec<f32>,
        accumulate: bool,
    ) -> Result<(), Error> {
        let (dy, dx) = (&dy[..conv.outputs()], &mut dx[..conv.inputs()]);
        conv::dgrad(conv, dy, &weights[filter], dx, accumulate, self.workspace());
        Ok(())
    }

    fn conv_wgrad(
        &mut self,
        conv: &Conv,
        x: &Vec<f32>,
        dy: &Vec<f32>,
        gradients: &mut Vec<f32>,
        filter: Range<usize>,
    ) -> Result<(), Error> {
        let (x, dy) = (&x[..conv.inputs()], &dy[..conv.outputs()]);
        conv::wgrad(conv, x, dy, &mut gradients[filter], self.workspace());
        Ok(())
    }

    fn batch_statistics(
        &mut self,
        count: usize,
        sums: &Vec<f64>,
        moments: &mut Vec<f32>,
        running: &mut Vec<f32>,
        at: Range<usize>,
    ) -> Result<(), Error> {
        self.watch(sums[at.clone()].iter().all(|v| v.is_finite()), Place::Forward(at.start));
        norm::batch_statistics(count, &sums[at.clone()], &mut moments[at.clone()], &mut running[at]);
        Ok(())
    }

    fn running_statistics(
        &mut self,
        running: &Vec<f32>,
        moments: &mut Vec<f32>,
        at: Range<usize>,
    ) -> Result<(), Error> {
        norm::running_statistics(&running[at.clone()], &mut moments[at]);
        Ok(())
    }

    fn norm_forward(&mut self, norm: &Norm, b: NormForward<Self>) -> Result<(), Error> {
        norm::forward(norm, norm::Forward::of(b), &mut self.scratch);
        Ok(())
    }

    fn norm_backward(&mut self, norm: &Norm, b: NormBackward<Self>) -> Result<(), Error> {
        let place = Place::Backward(b.at.start);
        let (mut buffers, residual) = norm::Backward::of(b);
        norm::begin(norm, &mut buffers);
        match residual {
            ResidualGradient::None | ResidualGradient::InPlace => {}
            ResidualGradient::Overwrite(to) => norm::residual(norm, &buffers, to, false),
            ResidualGradient::Accumulate(to) => norm::residual(norm, &buffers, to, true),
        }
        norm::finish(norm, &mut buffers, &mut self.scratch);
        let (weight, bias) = &buffers.gradients;
        let finite = weight.iter().chain(bias.iter()).all(|v| v.is_finite());
        self.watch(finite, place);
        Ok(())
    }

    fn average_pool_forward(
        &mut self,
        pool: &AveragePool,
        x: &Vec<f32>,
        y: &mut Vec<f32>,
    ) -> Result<(), Error> {
        pool::average_forward(pool, x, y);
        Ok(())
    }

    fn average_pool_backward(
        &mut self,
        pool: &AveragePool,
        dy: &Vec<f32>,
        dx: &mut Vec<f32>,
    ) -> Result<(), Error> {
        pool::average_backward(pool, dy, dx);
        Ok(())
    }

    fn linear_forward(
        &mut self,
        linear: &Linear,
        x: &Vec<f32>,
        weights: &Vec<f32>,
        weight: Range<usize>,
        bias: Option<Range<usize>>,
        y: &mut Vec<f32>,
    ) -> Result<(), Error> {
        linear::forward(linear, x, &weights[weight], bias.map(|bias| &weights[bias]), y);
        Ok(())
    }

    fn linear_backward(
        &mut self,
        linear: &Linear,
        x: &Vec<f32>,
        dy: &Vec<f32>,
        weights: &Vec<f32>,
        weight: Range<usize>,
        bias: Option<Range<usize>>,
        dx: &mut Vec<f32>,
        gradients: &mut Vec<f32>,
    ) -> Result<(), Error> {
        linear::dgrad(linear, dy, &weights[weight.clone()], dx);
        linear::wgrad(linear, x, dy, &mut gradients[weight]);
        if let Some(bias) = bias {
            linear::bias_grad(linear, dy, &mut gradients[bias]);
        }
        Ok(())
    }

    fn softmax_cross_entropy(
        &mut self,
        loss: &Loss,
        logits: &Vec<f32>,
        labels: &Vec<u8>,
        dlogits: Option<&mut Vec<f32>>,
    ) -> Result<(), Error> {
        let dlogits = dlogits.map(Vec::as_mut_slice);
        loss::softmax_cross_entropy(loss, logits, labels, dlogits, &mut self.totals);
        self.watch(self.totals.loss.is_finite(), Place::Logits);
        Ok(())
    }

    fn totals(&self) -> Result<Totals, Error> {
        Ok(self.totals)
    }

    fn set_totals(&mut self, totals: Totals) -> Result<(), Error> {
        (self.totals, self.fault) = (totals, None);
        Ok(())
    }

    fn fault(&self) -> Result<Option<Fault>, Error> {
        Ok(self.fault)
    }

    fn set_rates(&mut self, rates: &[f32], next: usize) -> Result<(), Error> {
        self.rates.clear();
        self.rates.extend_from_slice(rates);
        self.step = next;
        Ok(())
    }

    fn sgd(
        &mut self,
        sgd: &Sgd,
        gradients: &Vec<f32>,
        velocity: &mut Vec<f32>,
        weights: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let lr = self.next_rate()?;
        sgd::step(sgd, lr, gradients, velocity, weights);
        Ok(())
    }
}

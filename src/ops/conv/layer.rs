//! Convolution as a layer of a graph and a step of a plan.

use super::{Conv, ConvDgrad, ConvFprop, ConvWgrad};
use crate::device::{Error, Scratch};
use crate::ops::backend::Backend;
use crate::ops::flat::{In, Work};
use crate::ops::layer::{Init, Layer, NewParameter, Shape, single};
use crate::ops::step::{Destination, Gradients, Operands, Pass, Run, Step};

/// A square convolution without bias.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvLayer {
    /// Output channels.
    pub k: usize,
    /// Filter rows and columns.
    pub r: usize,
    /// Input pixels from one output to the next.
    pub stride: usize,
    /// Zero rows and columns around the input.
    pub pad: usize,
    /// How the filter's values begin.
    pub init: Init,
}

impl ConvLayer {
    fn geometry(&self, n: usize, Shape { h, w, c }: Shape) -> Conv {
        let ConvLayer { k, r, stride, pad, .. } = *self;
        Conv { n, h, w, c, k, r, stride, pad }
    }
}

impl Layer for ConvLayer {
    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let x @ Shape { h, w, .. } = single(inputs)?;
        let ConvLayer { k, r, stride, pad, .. } = *self;
        if stride == 0 {
            return Err("a stride of 0 never ends".into());
        }
        if h.min(w) + 2 * pad < r {
            return Err(format!("a {r}x{r} filter is larger than its {h}x{w} input with padding {pad}"));
        }
        let conv = self.geometry(1, x);
        Ok(Shape { h: conv.p(), w: conv.q(), c: k })
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<NewParameter> {
        let filter = |x: &Shape| NewParameter {
            suffix: "weight",
            shape: vec![self.k, x.c, self.r, self.r],
            init: self.init,
        };
        inputs.iter().map(filter).collect()
    }

    fn step<B: Backend>(&self, batch: usize, x: Shape) -> Option<Box<dyn Step<B>>> {
        Some(Box::new(self.geometry(batch, x)))
    }
}

impl<B: Backend> Step<B> for Conv {
    fn leaves_sums(&self) -> bool {
        true
    }

    fn can_write(&self, _: usize, destination: Destination) -> bool {
        destination != Destination::InPlace
    }

    fn flops(&self) -> u64 {
        Conv { n: 1, ..*self }.flops()
    }

    fn scratch(&self, work: Work) -> Scratch {
        B::conv_scratch(self, work)
    }

    fn forward(&self, at: &Operands, run: &mut Run<B>) -> Result<(), Error> {
        let conv = Conv { n: run.n, ..*self };
        let sums = (run.pass == Pass::Train && !at.statistics.is_empty())
            .then(|| (&mut *run.sums, at.statistics.clone()));
        let buffers = ConvFprop {
            x: &*run.tensors[at.inputs[0]].borrow(),
            filter: In { vector: run.weights, at: at.parameters[0].clone() },
            y: &mut *run.tensors[at.output].borrow_mut(),
            sums,
        };
        run.backend.conv_fprop(&conv, buffers)
    }

    fn backward(&self, at: &Operands, gradients: &Gradients, run: &mut Run<B>) -> Result<(), Error> {
        let conv = Conv { n: run.n, ..*self };
        let filter = at.parameters[0].clone();
        let dy = &*run.tensors[gradients.output].borrow();
        if run.wanted.gradients {
            let x = &*run.tensors[at.inputs[0]].borrow();
            let into = run.pass.out(run.gradients);
            run.backend.conv_wgrad(&conv, ConvWgrad { x, dy, filter: filter.clone(), into })?;
        }
        let to = gradients.inputs[0];
        let Some(slot) = to.slot().filter(|_| run.wanted.inputs) else { return Ok(()) };
        let buffers = ConvDgrad {
            dy,
            filter: In { vector: run.weights, at: filter },
            dx: &mut *run.tensors[slot].borrow_mut(),
            accumulate: matches!(to, Destination::Accumulate(_)),
        };
        run.backend.conv_dgrad(&conv, buffers)
    }
}

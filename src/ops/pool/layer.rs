//! Pooling as layers of a graph, and the mean over all pixels as a step of a plan.

use crate::backend::{AveragePool, Error, Pool, Sparse};
use crate::ops::layer::{Layer, Shape, single};
use crate::ops::step::{Destination, Gradients, Operands, Run, Step};

/// The mean over all pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GlobalAveragePool;

/// The largest value of each window; joins a batch norm.
impl Layer for Pool {
    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let Shape { h, w, c } = single(inputs)?;
        let Pool { size, stride, pad } = *self;
        if h.min(w) + 2 * pad < size {
            return Err(format!("a {size}x{size} window is larger than its {h}x{w} input"));
        }
        if stride == 0 {
            return Err("a stride of 0 never ends".into());
        }
        if 2 * pad > size {
            return Err(format!("padding {pad} is more than half of a {size}x{size} window"));
        }
        if size > 15 {
            return Err(format!("a {size}x{size} window has more places than a byte can number"));
        }
        Ok(Shape { h: self.outputs(h), w: self.outputs(w), c })
    }
}

impl Layer for GlobalAveragePool {
    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(Shape { h: 1, w: 1, c: single(inputs)?.c })
    }

    fn step<B: Sparse>(&self, n: usize, Shape { h, w, c }: Shape) -> Option<Box<dyn Step<B>>> {
        Some(Box::new(AveragePool { n, h, w, c }))
    }
}

impl<B: Sparse> Step<B> for AveragePool {
    fn keeps_input(&self) -> bool {
        false
    }

    fn can_write(&self, _: usize, destination: Destination) -> bool {
        matches!(destination, Destination::Nowhere | Destination::Overwrite(_))
    }

    fn forward(&self, at: &Operands, run: &mut Run<B>) -> Result<(), Error> {
        let (x, mut y) = (run.tensors[at.inputs[0]].borrow(), run.tensors[at.output].borrow_mut());
        run.backend.average_pool_forward(&AveragePool { n: run.n, ..*self }, &x, &mut y)
    }

    fn backward(&self, _: &Operands, gradients: &Gradients, run: &mut Run<B>) -> Result<(), Error> {
        let Some(dx) = gradients.inputs[0].slot() else { return Ok(()) };
        let (dy, mut dx) = (run.tensors[gradients.output].borrow(), run.tensors[dx].borrow_mut());
        run.backend.average_pool_backward(&AveragePool { n: run.n, ..*self }, &dy, &mut dx)
    }
}

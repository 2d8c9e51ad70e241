//! Nesterov SGD on devices that run kernels.

use half::f16;

use super::args::{SGD_PUBLISHED, SGD_STEP, SGD_STRICT, SgdArgs};
use super::{Moves, Sgd, SgdBuffers, SgdOps};
use crate::device::driver::{Driver, Launch};
use crate::device::{Array, Cuda, Error};
use crate::optim::rates::rates_pointer;

impl<D: Driver> SgdOps for Cuda<D> {
    fn sgd(&mut self, sgd: &Sgd, moves: Moves<Self>, b: SgdBuffers<Self>) -> Result<(), Error> {
        let SgdBuffers { gradients, velocity, weights } = b;
        let all = weights.values.len();
        // The kernel, the weights that it moves, and how many of them a thread takes.
        let (kernel, n, each) = match &moves {
            Moves::All => (&SGD_STEP, all, 8),
            Moves::At(indices) => (&SGD_STRICT, indices.len(), 1),
            Moves::GradientsWhere(_) => (&SGD_PUBLISHED, all, 8),
        };
        let (kept, indices) = match moves {
            Moves::All => (std::ptr::null(), std::ptr::null()),
            Moves::At(indices) => (std::ptr::null(), indices.pointer()),
            Moves::GradientsWhere(kept) => {
                assert!(kept.len() >= n, "whether it is kept, for each of {n} weights");
                (kept.pointer(), std::ptr::null())
            }
        };
        assert!(gradients.values.len() == all, "one gradient a weight");
        assert!(velocity.values.len() == n, "one velocity a weight that moves");
        assert!(all <= u32::MAX as usize, "{all} weights are too many");
        let args = SgdArgs {
            weights: weights.values.pointer_mut(),
            velocity: velocity.values.pointer_mut(),
            gradients: gradients.values.pointer(),
            halves: weights.halves.as_mut().map_or(std::ptr::null_mut::<f16>(), Array::pointer_mut),
            kept,
            indices,
            rates: rates_pointer(self)?,
            step: self.watch.step.pointer(),
            n: n as u32,
            momentum: sgd.momentum,
            weight_decay: sgd.weight_decay,
        };
        let blocks = n.div_ceil(each * 256).max(1);
        self.driver.launch(kernel, Launch::new(blocks as u32, 256), args)?;
        let step = self.watch.step.pointer_mut();
        self.advance(step, 1)
    }
}

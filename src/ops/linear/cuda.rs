//! The linear layer on devices that run kernels.

use half::f16;

use super::args::{
    DGRAD_IMAGES, FORWARD_IMAGES, LINEAR_DGRAD, LINEAR_FORWARD, LINEAR_SCORE_ABSOLUTE, LINEAR_SCORE_SQUARE,
    LINEAR_WGRAD, LinearDgradArgs, LinearForwardArgs, LinearWgradArgs, OUTPUTS, WGRAD_WARPS,
};
use super::{Linear, LinearBackward, LinearForward, LinearOps, LinearParameters};
use crate::device::driver::{Driver, Launch};
use crate::device::{Array, Cuda, Error};
use crate::ops::flat::{Out, Power};

/// Images, inputs and outputs as kernels take them, after a check of the lengths.
fn shape<D: Driver>(
    linear: &Linear,
    x: &Array<D, f16>,
    y: &Array<D, f16>,
    parameters: &LinearParameters,
) -> [u32; 3] {
    let &Linear { n, c, k, .. } = linear;
    assert!(
        x.len() >= n * c && y.len() >= n * k && parameters.weight.len() == k * c,
        "buffers too short for {linear:?}"
    );
    assert!(n * c.max(k) <= u32::MAX as usize && k * c <= u32::MAX as usize, "{linear:?} is too large");
    assert!(parameters.bias.as_ref().is_none_or(|bias| bias.len() == k), "one bias an output");
    [n, c, k].map(|v| v as u32)
}

/// A launch of blocks along x and y.
fn plane(x: u32, y: u32, threads: u32) -> Launch {
    Launch { grid: [x, y, 1], block: threads, shared: 0 }
}

impl<D: Driver> LinearOps for Cuda<D> {
    fn linear_forward(&mut self, linear: &Linear, b: LinearForward<Self>) -> Result<(), Error> {
        let [n, c, k] = shape(linear, b.x, b.y, b.parameters);
        let bias = b.parameters.bias.as_ref();
        let args = LinearForwardArgs {
            x: b.x.pointer(),
            weight: b.weights.values.slice(&b.parameters.weight),
            bias: bias.map_or(std::ptr::null(), |bias| b.weights.values.slice(bias)),
            y: b.y.pointer_mut(),
            n,
            c,
            k,
            scale: linear.scale,
        };
        let launch = plane(n.div_ceil(FORWARD_IMAGES), k.div_ceil(OUTPUTS), 32 * FORWARD_IMAGES);
        Ok(self.driver.launch(&LINEAR_FORWARD, launch, args)?)
    }

    fn linear_backward(&mut self, linear: &Linear, b: LinearBackward<Self>) -> Result<(), Error> {
        let LinearParameters { weight, bias } = b.parameters;
        let [n, c, k] = shape(linear, b.x, b.dy, b.parameters);
        assert!(b.dx.len() >= linear.n * linear.c, "dx is too short for {linear:?}");
        let args = LinearDgradArgs {
            dy: b.dy.pointer(),
            weight: b.weights.values.slice(weight),
            dx: b.dx.pointer_mut(),
            n,
            c,
            k,
            scale: linear.scale,
        };
        let launch = plane(c.div_ceil(128), n.div_ceil(DGRAD_IMAGES), 128);
        self.driver.launch(&LINEAR_DGRAD, launch, args)?;

        let scale = linear.scale;
        let (kernel, scale, into) = match b.into {
            Out::Gradients(gradients) => (&LINEAR_WGRAD, scale, gradients),
            Out::Scores(Power::Square, scores) => (&LINEAR_SCORE_SQUARE, scale * scale, scores),
            Out::Scores(Power::Absolute, scores) => (&LINEAR_SCORE_ABSOLUTE, scale.abs(), scores),
        };
        let args = LinearWgradArgs {
            x: b.x.pointer(),
            dy: b.dy.pointer(),
            dweight: into.values.slice_mut(weight),
            dbias: bias.as_ref().map_or(std::ptr::null_mut(), |bias| into.values.slice_mut(bias)),
            n,
            c,
            k,
            scale,
        };
        let columns = c + u32::from(bias.is_some());
        // A few images a warp at least.
        let warps = n.div_ceil(4).clamp(1, WGRAD_WARPS);
        let launch = plane(columns.div_ceil(32), k.div_ceil(OUTPUTS), 32 * warps);
        Ok(self.driver.launch(kernel, launch, args)?)
    }
}

//! The linear layer.

use std::ops::Range;

use half::f16;

use super::args::linear::{
    DGRAD_IMAGES, FORWARD_IMAGES, LINEAR_DGRAD, LINEAR_FORWARD, LINEAR_SCORE_ABSOLUTE, LINEAR_SCORE_SQUARE,
    LINEAR_WGRAD, LinearDgradArgs, LinearForwardArgs, LinearWgradArgs, OUTPUTS, WGRAD_WARPS,
};
use super::{Array, Cuda, Vector};
use crate::backend::{Error, Linear, Power};
use crate::driver::{Driver, Kernel, Launch};

/// Images, inputs and outputs as kernels take them, after a check of the lengths.
fn shape<D: Driver>(
    linear: &Linear,
    x: &Array<D, f16>,
    y: &Array<D, f16>,
    weight: &Range<usize>,
) -> [u32; 3] {
    let &Linear { n, c, k, .. } = linear;
    assert!(
        x.len() >= n * c && y.len() >= n * k && weight.len() == k * c,
        "buffers too short for {linear:?}"
    );
    assert!(n * c.max(k) <= u32::MAX as usize && k * c <= u32::MAX as usize, "{linear:?} is too large");
    [n, c, k].map(|v| v as u32)
}

/// A launch of blocks along x and y.
fn plane(x: u32, y: u32, threads: u32) -> Launch {
    Launch { grid: [x, y, 1], block: threads, shared: 0 }
}

impl<D: Driver> Cuda<D> {
    pub(super) fn linear(
        &mut self,
        linear: &Linear,
        x: &Array<D, f16>,
        weights: &Vector<D>,
        weight: Range<usize>,
        bias: Option<Range<usize>>,
        y: &mut Array<D, f16>,
    ) -> Result<(), Error> {
        let [n, c, k] = shape(linear, x, y, &weight);
        if let Some(bias) = &bias {
            assert!(bias.len() == linear.k, "one bias an output");
        }
        let args = LinearForwardArgs {
            x: x.pointer(),
            weight: weights.values.slice(&weight),
            bias: bias.map_or(std::ptr::null(), |bias| weights.values.slice(&bias)),
            y: y.pointer_mut(),
            n,
            c,
            k,
            scale: linear.scale,
        };
        let launch = plane(n.div_ceil(FORWARD_IMAGES), k.div_ceil(OUTPUTS), 32 * FORWARD_IMAGES);
        Ok(self.driver.launch(&LINEAR_FORWARD, launch, args)?)
    }

    pub(super) fn linear_dgrad(
        &mut self,
        linear: &Linear,
        dy: &Array<D, f16>,
        weights: &Vector<D>,
        weight: Range<usize>,
        dx: &mut Array<D, f16>,
    ) -> Result<(), Error> {
        let [n, c, k] = shape(linear, dx, dy, &weight);
        let args = LinearDgradArgs {
            dy: dy.pointer(),
            weight: weights.values.slice(&weight),
            dx: dx.pointer_mut(),
            n,
            c,
            k,
            scale: linear.scale,
        };
        let launch = plane(c.div_ceil(128), n.div_ceil(DGRAD_IMAGES), 128);
        Ok(self.driver.launch(&LINEAR_DGRAD, launch, args)?)
    }

    pub(super) fn linear_wgrad(
        &mut self,
        linear: &Linear,
        x: &Array<D, f16>,
        dy: &Array<D, f16>,
        gradients: &mut Vector<D>,
        weight: Range<usize>,
        bias: Option<Range<usize>>,
    ) -> Result<(), Error> {
        self.linear_sums(&LINEAR_WGRAD, linear, linear.scale, x, dy, gradients, weight, bias)
    }

    #[allow(clippy::too_many_arguments)] // The operation's own.
    pub(super) fn linear_scores(
        &mut self,
        linear: &Linear,
        power: Power,
        x: &Array<D, f16>,
        dy: &Array<D, f16>,
        scores: &mut Vector<D>,
        weight: Range<usize>,
        bias: Option<Range<usize>>,
    ) -> Result<(), Error> {
        let (kernel, scale) = match power {
            Power::Square => (&LINEAR_SCORE_SQUARE, linear.scale * linear.scale),
            Power::Absolute => (&LINEAR_SCORE_ABSOLUTE, linear.scale.abs()),
        };
        self.linear_sums(kernel, linear, scale, x, dy, scores, weight, bias)
    }

    #[allow(clippy::too_many_arguments)] // The operation's own, and how.
    fn linear_sums(
        &mut self,
        kernel: &Kernel<LinearWgradArgs>,
        linear: &Linear,
        scale: f32,
        x: &Array<D, f16>,
        dy: &Array<D, f16>,
        gradients: &mut Vector<D>,
        weight: Range<usize>,
        bias: Option<Range<usize>>,
    ) -> Result<(), Error> {
        let [n, c, k] = shape(linear, x, dy, &weight);
        if let Some(bias) = &bias {
            assert!(bias.len() == linear.k, "one bias an output");
        }
        let columns = c + u32::from(bias.is_some());
        let args = LinearWgradArgs {
            x: x.pointer(),
            dy: dy.pointer(),
            dweight: gradients.values.slice_mut(&weight),
            dbias: bias.map_or(std::ptr::null_mut(), |bias| gradients.values.slice_mut(&bias)),
            n,
            c,
            k,
            scale,
        };
        // A few images a warp at least.
        let warps = n.div_ceil(4).clamp(1, WGRAD_WARPS);
        let launch = plane(columns.div_ceil(32), k.div_ceil(OUTPUTS), 32 * warps);
        Ok(self.driver.launch(kernel, launch, args)?)
    }
}

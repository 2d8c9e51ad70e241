//! Convolution on the CPU: f32, activations NHWC, filters KRSC.
//!
//! Two implementations of the passes. `im2col` does every geometry: blocks of the input are unrolled into a
//! scratch that stays in cache and multiplied. `winograd` does 3x3 stride 1 pad 1 with a quarter (F(4x4,3x3))
//! or 4/9 (F(2x2,3x3)) of the multiplications; [`algorithm`] says which one a shape gets. Scores have
//! `score`.
//!
//! The partition of the work and the order of every sum follow from the shape alone, so results have the same
//! bits whatever the number of threads. Work is spread over the current rayon pool.

mod im2col;
mod score;
mod square;
mod sums;
mod tiles;
mod transform;
mod winograd;
mod workspace;

use super::{Conv, ConvDgrad, ConvFprop, ConvOps, ConvWgrad};
use crate::device::{Cpu, Error, Scratch};
use crate::ops::flat::{Out, Work};
use transform::{F2, F4};
use workspace::{Dgrad, Fprop, Need, Workspace};

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Unroll and multiply; any geometry.
    Im2col,
    /// Winograd F(2x2,3x3): 16 products where direct convolution has 36. 3x3, stride 1, pad 1 only.
    Winograd2,
    /// Winograd F(4x4,3x3): 36 products where direct convolution has 144. 3x3, stride 1, pad 1 only.
    Winograd4,
}

/// Returns the fastest way to compute `conv`, by measurement (benches/conv_cpu.rs). Depends on the geometry,
/// not on n.
pub fn algorithm(conv: &Conv) -> Algorithm {
    if conv.r != 3 || conv.stride != 1 || conv.pad != 1 || conv.c < 8 || conv.k < 8 {
        Algorithm::Im2col
    } else if conv.h <= 2 && conv.w <= 2 {
        Algorithm::Winograd2
    } else {
        Algorithm::Winograd4
    }
}

/// Returns the scratch that all passes of a convolution need by an algorithm, at its n or a smaller one.
pub fn scratch(conv: &Conv, algorithm: Algorithm) -> Scratch {
    need(conv, algorithm).scratch()
}

fn need(conv: &Conv, algorithm: Algorithm) -> Need {
    match algorithm {
        Algorithm::Im2col => im2col::need(conv),
        Algorithm::Winograd2 => winograd::need::<F2, 2, 4>(conv),
        Algorithm::Winograd4 => winograd::need::<F4, 4, 6>(conv),
    }
}

impl ConvOps for Cpu {
    fn conv_scratch(conv: &Conv, work: Work) -> Scratch {
        let passes = scratch(conv, algorithm(conv));
        match work {
            Work::Train => passes,
            Work::Score => passes.or(score::scratch(conv)),
        }
    }

    fn conv_fprop(&mut self, conv: &Conv, b: ConvFprop<Self>) -> Result<(), Error> {
        self.conv_fprop_by(algorithm(conv), conv, b);
        Ok(())
    }

    fn conv_dgrad(&mut self, conv: &Conv, b: ConvDgrad<Self>) -> Result<(), Error> {
        self.conv_dgrad_by(algorithm(conv), conv, b);
        Ok(())
    }

    fn conv_wgrad(&mut self, conv: &Conv, b: ConvWgrad<Self>) -> Result<(), Error> {
        self.conv_wgrad_by(algorithm(conv), conv, b);
        Ok(())
    }
}

/// Passes by a given algorithm, which must be able to do the convolution.
///
/// # Panics
/// If it is not, a buffer is too short, or no scratch was reserved.
impl Cpu {
    /// [`ConvOps::conv_fprop`] by a given algorithm.
    pub fn conv_fprop_by(&mut self, algorithm: Algorithm, conv: &Conv, b: ConvFprop<Self>) {
        let slices = Fprop {
            x: &b.x[..conv.inputs()],
            filter: &b.filter.vector[b.filter.at],
            y: &mut b.y[..conv.outputs()],
            sums: b.sums.map(|(sums, at)| &mut sums[at]),
        };
        check(algorithm, conv, slices.filter.len());
        let workspace = Workspace::new(&mut self.scratch, need(conv, algorithm));
        match algorithm {
            Algorithm::Im2col => im2col::fprop(conv, slices, workspace),
            Algorithm::Winograd2 => winograd::fprop::<F2, 2, 4>(conv, slices, workspace),
            Algorithm::Winograd4 => winograd::fprop::<F4, 4, 6>(conv, slices, workspace),
        }
    }

    /// [`ConvOps::conv_dgrad`] by a given algorithm.
    pub fn conv_dgrad_by(&mut self, algorithm: Algorithm, conv: &Conv, b: ConvDgrad<Self>) {
        let slices = Dgrad {
            dy: &b.dy[..conv.outputs()],
            filter: &b.filter.vector[b.filter.at],
            dx: &mut b.dx[..conv.inputs()],
            accumulate: b.accumulate,
        };
        check(algorithm, conv, slices.filter.len());
        let workspace = Workspace::new(&mut self.scratch, need(conv, algorithm));
        match algorithm {
            Algorithm::Im2col => im2col::dgrad(conv, slices, workspace),
            Algorithm::Winograd2 => winograd::dgrad::<F2, 2, 4>(conv, slices, workspace),
            Algorithm::Winograd4 => winograd::dgrad::<F4, 4, 6>(conv, slices, workspace),
        }
    }

    /// [`ConvOps::conv_wgrad`] by a given algorithm; scores have but one.
    pub fn conv_wgrad_by(&mut self, algorithm: Algorithm, conv: &Conv, b: ConvWgrad<Self>) {
        let (x, dy) = (&b.x[..conv.inputs()], &b.dy[..conv.outputs()]);
        check(algorithm, conv, b.filter.len());
        let gradients = match b.into {
            Out::Gradients(gradients) => &mut gradients[b.filter],
            Out::Scores(power, scores) => {
                return score::score(conv, power, [x, dy], &mut scores[b.filter], &mut self.scratch);
            }
        };
        let workspace = Workspace::new(&mut self.scratch, need(conv, algorithm));
        match algorithm {
            Algorithm::Im2col => im2col::wgrad(conv, x, dy, gradients, workspace),
            Algorithm::Winograd2 => winograd::wgrad::<F2, 2, 4>(conv, x, dy, gradients, workspace),
            Algorithm::Winograd4 => winograd::wgrad::<F4, 4, 6>(conv, x, dy, gradients, workspace),
        }
    }
}

fn check(algorithm: Algorithm, conv: &Conv, filter: usize) {
    let three = conv.r == 3 && conv.stride == 1 && conv.pad == 1;
    assert!(algorithm == Algorithm::Im2col || three, "Winograd is for 3x3, stride 1, pad 1, not {conv:?}");
    assert_eq!(filter, conv.filter(), "length of the filter for {conv:?}");
}

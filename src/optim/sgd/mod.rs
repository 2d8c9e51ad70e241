//! Nesterov SGD over the flat vector, whole or where a mask keeps it.

pub mod args;
mod cpu;
mod cuda;

use super::rates::RateOps;
use crate::device::{Buffers, Error};

/// One step of Nesterov SGD: `d = -lr (g + wd w); v = momentum v + d; w += d + momentum v`, with the next of
/// the learning rates that [`RateOps::set_rates`] has set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Share of the velocity that stays.
    pub momentum: f32,
    /// Decay for the summed loss.
    pub weight_decay: f32,
}

impl Sgd {
    /// Names of the vectors that SGD keeps between steps, each with one value for each weight that moves.
    pub const STATE: &[&str] = &["velocity"];
}

/// The weights that a step moves.
pub enum Moves<'a, B: Buffers + ?Sized> {
    /// All of them.
    All,
    /// Those at these indices alone, the strict rule: nothing else is touched, nor read. Velocity has one
    /// value for each of them, in their order.
    At(&'a B::Indices),
    /// All of them, the published rule: a gradient counts only where this byte of the weight is not 0,
    /// momentum and decay move every weight. Gradients elsewhere may be anything.
    GradientsWhere(&'a B::Bytes),
}

/// SGD on a device.
pub trait SgdOps: RateOps {
    /// One step, which uses up a learning rate.
    fn sgd(&mut self, sgd: &Sgd, moves: Moves<Self>, b: SgdBuffers<Self>) -> Result<(), Error>;
}

/// The flat vectors of a step.
pub struct SgdBuffers<'a, B: Buffers + ?Sized> {
    /// One gradient a weight.
    pub gradients: &'a B::Vector,
    /// One velocity for each weight that moves.
    pub velocity: &'a mut B::Vector,
    /// The weights, made by [`Buffers::upload_weights`].
    pub weights: &'a mut B::Vector,
}

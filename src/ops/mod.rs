//! The operations that a plan's steps are made of, one folder each: its shape, its trait and parameters in
//! `mod.rs`, its code for the CPU and for kernels in `cpu` and `cuda`, its kernels' arguments in `args.rs`.
//!
//! Activations are NHWC, filters KRSC. Every operation takes buffers its caller owns and a plain description
//! of shapes, and says whether it overwrites or accumulates. `n`, the number of images, may be anything up to
//! the number the buffers were made for. Operations fail when the device does.

pub mod augment;
pub mod conv;
mod flat;
pub mod gather;
pub mod linear;
pub mod loss;
pub mod norm;
pub mod pool;
pub mod top_k;

pub use augment::{AugmentOps, Position};
pub use conv::{Conv, ConvDgrad, ConvFprop, ConvOps, ConvWgrad};
pub use flat::{In, Out, Power, Work};
pub use gather::GatherOps;
pub use linear::{Linear, LinearBackward, LinearForward, LinearOps, LinearParameters};
pub use loss::{Loss, LossOps, ScoreGradient, ScoredClass, Totals};
pub use norm::{
    Affine, DEAD, Groups, Norm, NormBackward, NormForward, NormOps, Pool, ResidualGradient, StatisticsOf,
};
pub use pool::{AveragePool, PoolOps};
pub use top_k::TopKOps;

/// A device with every operation.
pub trait Backend:
    AugmentOps + ConvOps + NormOps + PoolOps + LinearOps + LossOps + TopKOps + GatherOps
{
}

impl<B: AugmentOps + ConvOps + NormOps + PoolOps + LinearOps + LossOps + TopKOps + GatherOps> Backend for B {}

//! The operations that a plan's steps are made of, one folder each: its shape, its trait and parameters in
//! `mod.rs`, its code for the CPU and for kernels in `cpu` and `cuda`, its kernels' arguments in `args.rs`.
//!
//! Activations are NHWC, filters KRSC. Every operation takes buffers its caller owns and a plain description
//! of shapes, and says whether it overwrites or accumulates. `n`, the number of images, may be anything up to
//! the number the buffers were made for. Operations fail when the device does.

pub mod augment;
mod backend;
pub mod conv;
mod flat;
pub mod gather;
pub mod layer;
pub mod linear;
pub mod loss;
pub mod norm;
pub mod pool;
pub mod step;
pub mod top_k;

pub use augment::{AugmentOps, Position};
pub use backend::Backend;
pub use conv::{Conv, ConvDgrad, ConvFprop, ConvLayer, ConvOps, ConvWgrad};
pub use flat::{In, Out, Power, Work};
pub use gather::GatherOps;
pub use linear::{Linear, LinearBackward, LinearForward, LinearLayer, LinearOps, LinearParameters, Scale};
pub use loss::{Loss, LossOps, ScoreGradient, ScoredClass, Totals};
pub use norm::{
    Add, Affine, BatchNorm, DEAD, Groups, Norm, NormBackward, NormForward, NormOps, Pool, Relu,
    ResidualGradient, StatisticsOf,
};
pub use pool::{AveragePool, GlobalAveragePool, PoolOps};
pub use top_k::TopKOps;

/// Makes [`Op`] of a list of layers.
macro_rules! layers {
    ($($name:ident($layer:ty),)+) => {
        /// What a node of a graph computes. A new layer is a line of this list.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)] // Each layer is documented where it is defined.
        pub enum Op {
            $($name($layer),)+
        }

        $(impl From<$layer> for Op {
            fn from(layer: $layer) -> Op {
                Op::$name(layer)
            }
        })+

        impl Op {
            /// Returns the layer, whichever it is.
            pub fn layer(&self) -> &dyn layer::Layer {
                match self {
                    $(Op::$name(layer) => layer,)+
                }
            }

            /// Returns [`Layer::step`](layer::Layer::step) of the layer.
            pub fn step<B: Backend>(&self, batch: usize, x: layer::Shape) -> Option<Box<dyn step::Step<B>>> {
                match self {
                    $(Op::$name(layer) => layer::Layer::step(layer, batch, x),)+
                }
            }
        }
    };
}

layers! {
    Input(layer::Input),
    Conv(conv::ConvLayer),
    BatchNorm(norm::BatchNorm),
    Relu(norm::Relu),
    Add(norm::Add),
    MaxPool(norm::Pool),
    GlobalAveragePool(pool::GlobalAveragePool),
    Linear(linear::LinearLayer),
    Scale(linear::Scale),
}

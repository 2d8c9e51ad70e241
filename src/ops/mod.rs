//! The operations of a network, one folder each: shapes, the layer a graph is built of, and the arithmetic.

pub mod conv;
pub mod layer;
pub mod linear;
pub mod norm;
pub mod pool;
pub mod step;

use crate::backend::{Pool, Sparse};

/// Makes [`Op`] of a list of layers.
macro_rules! layers {
    ($($(#[$doc:meta])* $name:ident($layer:ty),)+) => {
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
            pub fn step<B: Sparse>(&self, batch: usize, x: layer::Shape) -> Option<Box<dyn step::Step<B>>> {
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
    MaxPool(Pool),
    GlobalAveragePool(pool::GlobalAveragePool),
    Linear(linear::LinearLayer),
    Scale(linear::Scale),
}

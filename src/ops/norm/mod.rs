//! Batch norm and what is computed together with it.

mod layer;

pub use layer::{Add, BatchNorm, Relu};

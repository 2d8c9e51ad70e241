//! Max pooling, which joins a batch norm, and the mean over all pixels.

mod layer;

pub use layer::GlobalAveragePool;

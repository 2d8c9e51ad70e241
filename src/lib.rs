//! fishmask: CIFAR ResNets trained on hand-written kernels, with fixed sparse masks.
//!
//! A model's weights are one flat vector; masks, the optimiser, checkpoints and merges are operations on
//! ranges and index sets of that vector and know nothing of layers.

#![warn(clippy::unwrap_used, clippy::expect_used)]

pub mod checkpoint;
pub mod data;
pub mod device;
pub mod distributed;
pub mod graph;
pub mod mask;
pub mod ops;
pub mod optim;
pub mod records;
pub mod rng;
mod run;
pub mod settings;
pub mod train;

pub use run::{Error, Evaluated, Evaluation, Run, Saved, Selected, Selection};

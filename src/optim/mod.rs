//! The optimiser's schedule; its arithmetic is [`crate::backend::Backend::sgd`]'s.

mod schedule;

pub use schedule::PiecewiseLinear;

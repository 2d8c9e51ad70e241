//! The CPU backend: f32, NHWC, all cores through rayon.

pub mod conv;

//! One plain struct of arguments for each kernel, by kernel file. These are the only definitions: the build makes
//! `args/<file>.h` from `<file>.rs`, which `kernels/<file>.cu` includes. Pointers are device addresses.

pub mod augment;
pub mod batch_norm;
pub mod clear;
pub mod conv;
pub mod conv_score;
pub mod counter;
pub mod gather;
pub mod linear;
pub mod loss;
pub mod pool;
pub mod sgd;
#[doc(hidden)]
pub mod testing;
pub mod top_k;

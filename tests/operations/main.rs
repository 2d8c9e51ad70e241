//! Operations on every device, against the f64 reference, PyTorch's values and sums by hand.

#[path = "../support/mod.rs"]
mod support;

mod op_augment;
mod op_conv;
mod op_conv_kernels;
mod op_gather;
mod op_linear;
mod op_loss;
mod op_norm;
mod op_norm_score;
mod op_pool;
mod op_score;
mod op_score_kernels;
mod op_sgd;
mod op_sgd_masked;
mod op_top_k;
mod reference;

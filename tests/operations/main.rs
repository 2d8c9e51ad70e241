//! Operations on every device, against the f64 reference, PyTorch's values and sums by hand.

#[path = "../support/mod.rs"]
mod support;

mod op_conv;
mod op_conv_kernels;
mod op_data;
mod op_gather;
mod op_linear;
mod op_loss;
mod op_norm;
mod op_pool;
mod op_score;
mod op_score_kernels;
mod op_score_norm;
mod op_sgd;
mod op_sparse_sgd;
mod op_top_k;
mod reference;

//! Convolution fprop, dgrad, wgrad.

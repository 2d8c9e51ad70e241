//! The linear layer and the constant after it.

mod layer;

pub use layer::{LinearLayer, Scale};

//! Files that keep a model: weights alone ([`weights`]), all that a resumed run needs ([`full`]), or what a
//! masked run has changed since a base ([`chain`]).
//!
//! All are safetensors files with PyTorch's names, shapes and order, written whole or not at all
//! ([`atomic`]).

pub mod atomic;
mod bits;
pub mod chain;
pub(crate) mod container;
mod error;
mod file_kind;
pub mod full;
mod hash;
pub mod lock;
mod moment;
mod progress;
mod target;
mod tensors;
pub mod weights;

pub use container::save_tensor;
pub use error::{Error, Problem};
pub use hash::{Digest, Digest8, Hash};
pub use lock::RunLock;
pub use moment::Moment;
pub use progress::{EpochExchange, Origin, Progress};
pub use target::{followed, is_same};

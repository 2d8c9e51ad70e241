//! Safetensors files: the one writer and the one reader of all that the program keeps.
//!
//! Every file has at most one metadata entry, [`KEY`], with JSON: with more, a hash map's order would decide
//! the bytes.

mod bytes;
mod endian;
mod metadata;
mod read;
mod write;

pub use bytes::{Bytes, read};
pub use endian::{little_endian, values};
pub use metadata::{parse_entry, without_digest};
pub use read::{File, Head, TensorEntry, head, head_of};
pub use write::{Failed, Out, Spec, Tensor, save, save_tensor, write};

/// The key of the metadata entry.
pub const KEY: &str = "fishmask";

//! Safetensors files: the one writer and the one reader of all that the program keeps.
//!
//! What is read passes the same checks whatever it is: a header of bounded length ([`OURS`], [`ANY`]), read
//! in one pass, whose tensors fill the data. The data is read only then.
//!
//! Every file has at most one metadata entry, [`KEY`], with JSON: with more, a hash map's order would decide
//! the bytes.

mod bounded;
mod bytes;
mod endian;
mod foreign;
mod head;
mod header;
mod metadata;
mod read;
mod write;

pub use endian::{little_endian, values};
pub use head::Head;
pub use header::TensorEntry;
pub use metadata::{check, parse_entry, seal, without_digest};
pub use read::{File, View};
pub use write::{Failed, Out, Spec, Tensor, save, save_tensor, write};

/// The key of the metadata entry.
pub const KEY: &str = "fishmask";

/// Bytes of the header of a file of this program's, at most.
pub const OURS: u64 = 1_000_000;

/// Bytes of the header of any file, at most: the limit of the format's own library.
pub const ANY: u64 = 100_000_000;

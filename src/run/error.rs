//! Why the library could not do what it was asked.

use crate::settings::ConfigError;
use crate::{checkpoint, data, device, graph, mask, train};

/// Why the library could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting does not suit the data.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The images cannot be got.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// The device cannot be opened, or fails.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// The network cannot be built.
    #[error(transparent)]
    Graph(#[from] graph::Error),
    /// No mask keeps what is asked for.
    #[error(transparent)]
    Mask(#[from] mask::Error),
    /// A file of a mask cannot be read or written.
    #[error(transparent)]
    MaskFile(#[from] mask::file::Error),
    /// A file of weights or checkpoints cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The network fails on the images.
    #[error(transparent)]
    Train(#[from] train::Error),
}

//! What every device gives the operations: buffers, scratch, recording, and a watch for values that are not
//! finite.

use std::ops::Range;

use super::error::Error;
use super::watch::Fault;

/// The memory of a device, and the recording of what is done to it.
///
/// # Errors
/// Methods fail when the device does: when it has no room, or a kernel was stopped.
pub trait Buffers: 'static {
    /// Activations and their gradients.
    type Tensor;
    /// f32 values over the flat vector or the statistics.
    type Vector;
    /// f64 (or as exact) sums by channel.
    type Sums;
    /// Labels, and the winners of pooling.
    type Bytes;
    /// Indices of the flat vector, ascending, in memory order.
    type Indices;
    /// Operations that can be done again.
    type Recording;

    /// Bytes of an activation.
    const ACTIVATION: usize;
    /// Bytes of a weight with what a device keeps beside it for the tensor cores.
    const WEIGHT: usize;
    /// Whether operations are queued, so that reading any result waits for all of them.
    const QUEUES: bool;

    /// The device in a few words.
    fn device(&self) -> String;
    /// Bytes of memory that are free, as far as is known.
    fn free_bytes(&self) -> Result<usize, Error>;

    /// Allocates activations, not initialised to anything in particular.
    fn tensor(&self, elements: usize) -> Result<Self::Tensor, Error>;
    /// Allocates a vector that holds `values`.
    fn vector(&self, values: &[f32]) -> Result<Self::Vector, Error>;
    /// Allocates a vector that holds `values` and that operations take as weights.
    fn upload_weights(&self, values: &[f32]) -> Result<Self::Vector, Error>;
    /// Allocates sums, all zero.
    fn sums(&self, elements: usize) -> Result<Self::Sums, Error>;
    /// Allocates bytes, all zero.
    fn bytes(&self, elements: usize) -> Result<Self::Bytes, Error>;
    /// Allocates indices with these values.
    fn indices(&self, indices: &[u32]) -> Result<Self::Indices, Error>;

    /// Returns a vector's values.
    fn read(&self, vector: &Self::Vector) -> Result<Vec<f32>, Error>;
    /// Returns a part of a vector's values.
    fn read_range(&self, vector: &Self::Vector, range: Range<usize>) -> Result<Vec<f32>, Error>;
    /// Replaces all of a vector's values where they are.
    fn write(&self, values: &[f32], vector: &mut Self::Vector) -> Result<(), Error>;
    /// Returns the first `elements` of some activations, as f32.
    fn read_tensor(&self, tensor: &Self::Tensor, elements: usize) -> Result<Vec<f32>, Error>;
    /// Replaces the first elements of some activations.
    fn write_tensor(&self, values: &[f32], tensor: &mut Self::Tensor) -> Result<(), Error>;
    /// Replaces the first bytes.
    fn write_bytes(&self, values: &[u8], bytes: &mut Self::Bytes) -> Result<(), Error>;

    /// Makes room for operations that need so much scratch. Scratch never shrinks, and growing it invalidates
    /// recordings: all of it is reserved before the first.
    ///
    /// # Errors
    /// [`Error::Activations`] if a layer has more activations than the device's kernels count.
    fn reserve(&mut self, scratch: Scratch) -> Result<(), Error>;
    /// Returns the bytes that [`Buffers::reserve`] takes in all.
    fn scratch_bytes(scratch: Scratch) -> usize;

    /// Begins a recording: the operations that follow, up to [`Buffers::recorded`], are not done but noted.
    fn record(&mut self) -> Result<(), Error>;
    /// Ends a recording; none from a device that does not record, on which the operations have been done.
    fn recorded(&mut self) -> Result<Option<Self::Recording>, Error>;
    /// Does the recorded operations again, on the same buffers, with the batch and learning rate that are
    /// next.
    fn replay(&mut self, recording: &Self::Recording) -> Result<(), Error>;

    /// Returns where a value that is not finite first appeared since the totals of the loss were set.
    fn fault(&self) -> Result<Option<Fault>, Error>;
}

/// Scratch that an operation needs beside its buffers. Operations run one after another, so several of them
/// need the most that one does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scratch {
    /// Bytes for all threads together.
    pub shared: usize,
    /// Bytes for each thread of the CPU, beside those.
    pub local: usize,
    /// Activations of the largest buffer that a kernel indexes.
    pub activations: usize,
}

impl Scratch {
    /// Returns the scratch in which either of two operations can run.
    #[must_use]
    pub fn or(self, other: Scratch) -> Scratch {
        Scratch {
            shared: self.shared.max(other.shared),
            local: self.local.max(other.local),
            activations: self.activations.max(other.activations),
        }
    }
}

impl FromIterator<Scratch> for Scratch {
    fn from_iter<I: IntoIterator<Item = Scratch>>(all: I) -> Scratch {
        all.into_iter().fold(Scratch::default(), Scratch::or)
    }
}

//! What exchanges cost: bytes that one worker sends and receives, and its time.
//!
//! Bytes are those of the messages' content over MPI, each (sent, received). A run in one process counts by
//! the same formulas, so that both report the same.

use super::{segment, windows};

/// Bytes of the message by which processes [agree](super::Communicator::agree): a BLAKE3 and a signal.
pub const AGREEMENT: usize = 36;
/// Bytes that precede a [broadcast](super::Communicator::broadcast): its length.
pub const HEADER: usize = 8;

const F32: usize = size_of::<f32>();

/// What exchanges took of one worker: that of this process with the lowest rank.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Bytes sent to other workers.
    pub sent: u64,
    /// Bytes received from them.
    pub received: u64,
    /// Seconds in which processes agreed, which is where they wait for each other.
    pub waiting: f64,
    /// Seconds of all other exchanges, reading values from devices included.
    pub exchanging: f64,
}

impl Traffic {
    /// Counts (sent, received) bytes.
    pub(super) fn add(&mut self, (sent, received): (u64, u64)) {
        self.sent += sent;
        self.received += received;
    }
}

/// A rank sends every other rank its part of each window, to be added up, and then its own part's sum to all.
pub fn merge(length: usize, rank: usize, size: usize) -> (u64, u64) {
    let elements = windows(length).map(|window| {
        let own = segment(&window, rank, size).len();
        (window.len() - own) + (size - 1) * own
    });
    let bytes = (F32 * elements.sum::<usize>()) as u64;
    (bytes, bytes)
}

/// A rank sends its values to all.
pub fn all_gather(lengths: &[usize], rank: usize) -> (u64, u64) {
    let all: usize = lengths.iter().sum();
    ((F32 * (lengths.len() - 1) * lengths[rank]) as u64, (F32 * (all - lengths[rank])) as u64)
}

/// One rank's vector goes to the root; as the root sees it when `rank` is 0, else as the sender.
pub fn fetch(length: usize, from: usize, rank: usize) -> (u64, u64) {
    let bytes = (F32 * length) as u64;
    match (from, rank) {
        (0, _) => (0, 0),
        (_, 0) => (0, bytes),
        _ if from == rank => (bytes, 0),
        _ => (0, 0),
    }
}

/// The root's bytes go to all.
pub fn broadcast(length: usize, rank: usize, size: usize) -> (u64, u64) {
    match rank {
        0 => (((size - 1) * (HEADER + length)) as u64, 0),
        _ => (0, (HEADER + length) as u64),
    }
}

/// Every rank tells every other.
pub fn agree(size: usize) -> (u64, u64) {
    let bytes = ((size - 1) * AGREEMENT) as u64;
    (bytes, bytes)
}

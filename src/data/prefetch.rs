//! Batches made ahead of the step that needs them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rayon::prelude::*;

use super::augment::augment;
use super::dataset::{IMAGE, Split};
use super::error::Error;
use crate::rng::{Purpose, permutation};

/// One batch, with where in the training it belongs.
#[derive(Debug)]
struct Batch {
    epoch: u32,
    position: u32,
    /// [batch, 32, 32, 3], normalised.
    images: Vec<f32>,
    /// `[batch]`
    labels: Vec<u8>,
}

/// Makes shuffled and augmented batches on a thread of its own, one ahead of the caller.
///
/// Batch `position` of an epoch holds images `position * batch ..` of that epoch's permutation; the last
/// partial batch is dropped. Its bits depend on the seed, the epoch and the position alone, so any may be
/// asked for at any time, as a resumed run does; asking in order is what is fast. Two buffers go back and
/// forth: nothing of the size of a batch is allocated after the start.
#[derive(Debug)]
pub struct Prefetcher {
    batch: usize,
    batches: u32,
    /// Taken when dropped, which ends the thread.
    orders: Option<SyncSender<Batch>>,
    made: Receiver<Batch>,
    thread: Option<JoinHandle<()>>,
}

impl Prefetcher {
    /// Starts the thread on the first batch of epoch 0.
    ///
    /// # Errors
    /// [`Error::BatchSize`] for a batch of 0 or of more images than there are, [`Error::Stopped`] if no
    /// thread can be started.
    pub fn new(split: Arc<Split>, batch: usize, seed: u64) -> Result<Self, Error> {
        let images = split.len();
        if batch == 0 || batch > images || u32::try_from(images).is_err() {
            return Err(Error::BatchSize { batch, images });
        }
        let (orders, incoming) = sync_channel::<Batch>(1);
        let (finished, made) = sync_channel(1);
        let work = move || {
            let mut order = (0, permutation(images as u32, seed, Purpose::Shuffle, 0));
            for mut work in incoming {
                if order.0 != work.epoch {
                    order = (work.epoch, permutation(images as u32, seed, Purpose::Shuffle, work.epoch));
                }
                let indices = &order.1[work.position as usize * batch..][..batch];
                make(&split, indices, seed, work.epoch, &mut work.images, &mut work.labels);
                if finished.send(work).is_err() {
                    break;
                }
            }
        };
        let thread =
            std::thread::Builder::new().name("prefetch".into()).spawn(work).map_err(|_| Error::Stopped)?;
        let first = Batch { epoch: 0, position: 0, images: vec![0.0; batch * IMAGE], labels: vec![0; batch] };
        orders.send(first).map_err(|_| Error::Stopped)?;
        Ok(Prefetcher {
            batch,
            batches: (images / batch) as u32,
            orders: Some(orders),
            made,
            thread: Some(thread),
        })
    }

    /// Whole batches in an epoch.
    pub fn batches(&self) -> u32 {
        self.batches
    }

    /// Copies batch `position` of `epoch` to `images` [batch, 32, 32, 3] and `labels` `[batch]`, and sets the
    /// thread to the one after it, which follows an epoch's last with the next epoch's first.
    ///
    /// # Errors
    /// [`Error::Position`], [`Error::Buffer`]; [`Error::Stopped`] if the thread has panicked.
    pub fn batch(
        &mut self,
        epoch: u32,
        position: u32,
        images: &mut [f32],
        labels: &mut [u8],
    ) -> Result<(), Error> {
        if position >= self.batches {
            return Err(Error::Position { position, batches: self.batches });
        }
        for (what, expected, found) in
            [("images", self.batch * IMAGE, images.len()), ("labels", self.batch, labels.len())]
        {
            if expected != found {
                return Err(Error::Buffer { what, expected, found });
            }
        }
        let mut ready = self.made.recv().map_err(|_| Error::Stopped)?;
        if (ready.epoch, ready.position) != (epoch, position) {
            self.order(epoch, position, ready)?;
            ready = self.made.recv().map_err(|_| Error::Stopped)?;
        }
        images.copy_from_slice(&ready.images);
        labels.copy_from_slice(&ready.labels);
        match position + 1 < self.batches {
            true => self.order(epoch, position + 1, ready),
            false => self.order(epoch.wrapping_add(1), 0, ready),
        }
    }

    fn order(&mut self, epoch: u32, position: u32, mut buffer: Batch) -> Result<(), Error> {
        (buffer.epoch, buffer.position) = (epoch, position);
        let orders = self.orders.as_ref().ok_or(Error::Stopped)?;
        orders.send(buffer).map_err(|_| Error::Stopped)
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already shown itself as `Stopped`.
            _ = thread.join();
        }
    }
}

/// Augments the images of the data set at `indices` `[B]` for `epoch`, in parallel, to `images` [B, 32, 32,
/// 3], with their `labels` `[B]`.
///
/// # Panics
/// When the lengths do not agree or an index lies beyond the data set.
pub fn make(split: &Split, indices: &[u32], seed: u64, epoch: u32, images: &mut [f32], labels: &mut [u8]) {
    assert!(images.len() == indices.len() * IMAGE && labels.len() == indices.len());
    images.par_chunks_exact_mut(IMAGE).zip(labels).zip(indices).for_each(|((out, label), &index)| {
        *label = split.labels[index as usize];
        augment(split, index, seed, epoch, out);
    });
}

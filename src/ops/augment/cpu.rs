//! Batches on the CPU: training's are made ahead by a thread of their own.

use std::sync::Arc;

use rayon::prelude::*;

use super::{AugmentOps, Position};
use crate::data::augment::normalise;
use crate::data::{IMAGE, Prefetcher, Split};
use crate::device::{Cpu, Error};

/// A split and, for training, batches of it made ahead.
pub struct Data {
    split: Arc<Split>,
    training: Option<(usize, Prefetcher)>,
    next: Position,
}

impl AugmentOps for Cpu {
    type Data = Data;

    fn data(&mut self, split: &Arc<Split>, training: Option<(usize, u64)>) -> Result<Data, Error> {
        let prefetch = |(batch, seed)| Ok::<_, Error>((batch, Prefetcher::new(split.clone(), batch, seed)?));
        let training = training.map(prefetch).transpose()?;
        Ok(Data { split: split.clone(), training, next: Position::default() })
    }

    fn seek(&mut self, data: &mut Data, position: Position) -> Result<(), Error> {
        data.next = position;
        Ok(())
    }

    fn next_batch(
        &mut self,
        data: &mut Data,
        n: usize,
        images: &mut Vec<f32>,
        labels: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let (images, labels) = (&mut images[..n * IMAGE], &mut labels[..n]);
        let Position { epoch, image } = data.next;
        data.next.image += n;
        if let Some((batch, prefetcher)) = &mut data.training {
            if n != *batch {
                return Err(Error::Batch { expected: *batch, found: n });
            }
            return Ok(prefetcher.batch(epoch, (image / n) as u32, images, labels)?);
        }
        if data.next.image > data.split.len() {
            return Err(Error::Images { last: data.next.image, images: data.split.len() });
        }
        labels.copy_from_slice(&data.split.labels[image..image + n]);
        let pixels = data.split.images[image * IMAGE..(image + n) * IMAGE].par_chunks_exact(IMAGE);
        let images = images.par_chunks_exact_mut(IMAGE);
        let set = data.split.set;
        images.zip(pixels).for_each(|(image, pixels)| normalise(&set.pixels, pixels, image));
        Ok(())
    }
}

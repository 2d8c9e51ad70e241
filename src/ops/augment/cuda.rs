//! The data set on a device that runs kernels, and batches drawn from it.

use std::rc::{self, Rc};
use std::sync::{self, Arc};

use half::f16;

use super::args::{DRAW_BATCH, DRAW_THREADS, DrawArgs};
use super::{AugmentOps, Position};
use crate::data::{self, IMAGE, Pixels, Split};
use crate::device::driver::{Driver, Launch};
use crate::device::{Array, Cuda, Error};
use crate::rng::{Purpose, permutation};

/// A split on the device, and which images of it are next.
///
/// That is a cursor on the device, so that a recorded batch is the next one each time it is replayed; the
/// host does not know where it stands. A batch beyond the split's end repeats the last image; whoever draws
/// counts the batches.
pub struct Data<D: Driver> {
    split: Rc<Resident<D>>,
    pixels: &'static Pixels,
    training: Option<Training<D>>,
    /// Epoch, and images of it before the next batch \[2\].
    cursor: Array<D, u32>,
}

/// A split on the device.
struct Resident<D: Driver> {
    /// Pixels \[N,32,32,3\].
    images: Array<D, u8>,
    /// Classes \[N\].
    labels: Array<D, u8>,
}

/// The split that was last brought to the device: several workers draw from one.
struct Last<D: Driver>((sync::Weak<Split>, rc::Weak<Resident<D>>));

impl<D: Driver> Last<D> {
    fn none() -> Self {
        Last((sync::Weak::new(), rc::Weak::new()))
    }

    /// The split on the device, which may be there already.
    fn bring(&mut self, driver: &D, split: &Arc<Split>) -> Result<Rc<Resident<D>>, Error> {
        let last = &mut self.0;
        if std::ptr::eq(last.0.as_ptr(), Arc::as_ptr(split))
            && let Some(resident) = last.1.upgrade()
        {
            return Ok(resident);
        }
        let (images, labels) = (Array::of(driver, &split.images)?, Array::of(driver, &split.labels)?);
        let resident = Rc::new(Resident { images, labels });
        *last = (Arc::downgrade(split), Rc::downgrade(&resident));
        Ok(resident)
    }
}

/// How a split is shuffled and augmented.
struct Training<D: Driver> {
    batch: usize,
    seed: u64,
    /// The permutation of an epoch \[N\].
    order: Array<D, u32>,
    /// The epoch that `order` is of.
    epoch: u32,
}

fn shuffled(images: usize, seed: u64, epoch: u32) -> Vec<u32> {
    permutation(images as u32, seed, Purpose::Shuffle, epoch)
}

impl<D: Driver> AugmentOps for Cuda<D> {
    type Data = Data<D>;

    fn data(&mut self, split: &Arc<Split>, training: Option<(usize, u64)>) -> Result<Data<D>, Error> {
        let images = split.len();
        let driver = &self.driver;
        let prepare = |(batch, seed)| {
            if batch == 0 || batch > images || u32::try_from(images).is_err() {
                return Err(Error::Data(data::Error::BatchSize { batch, images }));
            }
            Ok(Training { batch, seed, order: Array::of(driver, &shuffled(images, seed, 0))?, epoch: 0 })
        };
        let training = training.map(prepare).transpose()?;
        let (last, driver) = self.state(|_| Ok(Last::none()))?;
        let (pixels, split) = (&split.set.pixels, last.bring(driver, split)?);
        Ok(Data { split, pixels, training, cursor: Array::zeroed(driver, 2)? })
    }

    fn seek(&mut self, data: &mut Data<D>, position: Position) -> Result<(), Error> {
        let Position { epoch, image } = position;
        let images = data.split.labels.len();
        if image > images {
            return Err(Error::Images { last: image, images });
        }
        if let Some(training) = data.training.as_mut().filter(|training| training.epoch != epoch) {
            training.order.write(&self.driver, &shuffled(images, training.seed, epoch))?;
            training.epoch = epoch;
        }
        Ok(data.cursor.write(&self.driver, &[epoch, image as u32])?)
    }

    fn next_batch(
        &mut self,
        data: &mut Data<D>,
        n: usize,
        images: &mut Array<D, f16>,
        labels: &mut Array<D, u8>,
    ) -> Result<(), Error> {
        if let Some(Training { batch, .. }) = data.training
            && n != batch
        {
            return Err(Error::Batch { expected: batch, found: n });
        }
        let count = data.split.labels.len();
        if n > count {
            return Err(Error::Images { last: n, images: count });
        }
        assert!(images.len() >= n * IMAGE && labels.len() >= n, "buffers too short for {n} images");
        let args = DrawArgs {
            pixels: data.split.images.pointer(),
            classes: data.split.labels.pointer(),
            order: data.training.as_ref().map_or(std::ptr::null(), |training| training.order.pointer()),
            cursor: data.cursor.pointer(),
            images: images.pointer_mut(),
            labels: labels.pointer_mut(),
            seed: data.training.as_ref().map_or(0, |training| training.seed),
            purpose: Purpose::Augment as u32,
            count: count as u32,
            mean: data.pixels.mean,
            inverse_std: data.pixels.inverse_std,
        };
        self.driver.launch(&DRAW_BATCH, Launch::new(n as u32, DRAW_THREADS), args)?;
        self.advance(data.cursor.pointer_mut().wrapping_add(1), n as u32)
    }
}

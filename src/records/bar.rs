//! How far the epoch that runs is: its training, its evaluation, and the selection of a mask.

use super::Meter;
use crate::train::{Error, Event, Listener};

/// Shows the epoch's images, images/s and time left. It must hear events before the table does: it clears the
/// line on which the table's row begins.
#[derive(Debug)]
pub struct Bar {
    meter: Meter,
    epochs: u32,
    /// The epoch that runs, and its words on the bar: they are not made anew at every step.
    epoch: (u32, String),
}

impl Bar {
    /// A bar on the error stream if that is a terminal; else a line there a minute.
    pub fn stderr() -> Self {
        Bar::new(Meter::stderr())
    }

    /// Shows by this meter.
    pub fn new(meter: Meter) -> Self {
        Bar { meter, epochs: 0, epoch: (0, String::new()) }
    }
}

impl Listener for Bar {
    fn hear(&mut self, event: &Event) -> Result<(), Error> {
        match *event {
            Event::Started(run) => self.epochs = run.config.train.epochs,
            Event::Step { epoch, step, steps, images } => {
                let images = |steps: u32| u64::from(steps) * images as u64;
                if self.epoch.0 != epoch {
                    self.epoch = (epoch, format!("epoch {epoch}/{}", self.epochs));
                }
                self.meter.show(&self.epoch.1, "images", images(step), images(steps));
            }
            Event::Scored { done, samples } => {
                self.meter.show("scoring", "samples", done as u64, samples as u64);
            }
            Event::Tested { done, images } => {
                self.meter.show("testing", "images", done as u64, images as u64);
            }
            Event::Mask(_) | Event::Epoch(_) | Event::Ended { .. } => {
                self.meter.clear();
                self.meter.rest();
            }
            Event::Merge(_) | Event::Checkpoint(_) => {}
        }
        Ok(())
    }
}

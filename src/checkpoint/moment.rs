//! The place in a run that a checkpoint is of.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A place between two steps of a run. The first is epoch 0, step 0; an epoch's end is step 0 of the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moment {
    /// Whole epochs behind it.
    pub epoch: u32,
    /// Steps of the next epoch behind it.
    #[serde(rename = "batch")]
    pub step: u32,
}

impl Moment {
    /// After so many epochs and so many steps of the next.
    pub const fn new(epoch: u32, step: u32) -> Moment {
        Moment { epoch, step }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.step {
            0 => write!(f, "epoch {}", self.epoch),
            step => write!(f, "epoch {} step {step}", self.epoch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_say_epoch_and_step() {
        let moments = [(0, 7), (2, 78), (10, 0)].map(|(epoch, step)| Moment::new(epoch, step).to_string());
        assert_eq!(moments, ["epoch 0 step 7", "epoch 2 step 78", "epoch 10"]);
    }
}

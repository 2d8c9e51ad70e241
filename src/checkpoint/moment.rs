//! The place in a run that a checkpoint is of.

use std::fmt;
use std::str::FromStr;

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

impl FromStr for Moment {
    type Err = String;

    /// Reads `EPOCH` or `EPOCH:STEP`.
    fn from_str(text: &str) -> Result<Moment, String> {
        let number = |digits: &str| digits.parse().ok().filter(|_| !digits.starts_with('+'));
        let (epoch, step) = text.split_once(':').unwrap_or((text, "0"));
        let moment = number(epoch).zip(number(step)).map(|(epoch, step)| Moment { epoch, step });
        moment.ok_or_else(|| "a checkpoint is named by EPOCH or EPOCH:STEP, such as 3 or 3:120".into())
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

    #[test]
    fn moments_are_read_as_epoch_and_step() {
        for (text, epoch, step) in [("3", 3, 0), ("3:120", 3, 120), ("0:0", 0, 0)] {
            assert_eq!(text.parse(), Ok(Moment::new(epoch, step)));
        }
        for text in ["", ":", "3:", ":5", "3.120", "3:1:2", "-1", "+1", "3:+1", "4294967296", "x"] {
            assert!(text.parse::<Moment>().unwrap_err().contains("3:120"), "{text}");
        }
    }
}

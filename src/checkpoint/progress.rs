//! Where a run is and how it fared, as every checkpoint says it in the JSON of its metadata.

use serde::{Deserialize, Serialize};

use super::{Moment, bits};
use crate::ops::Totals;

/// Where a run is, and how it fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The place between two steps.
    #[serde(flatten)]
    pub at: Moment,
    /// Training totals of the epoch begun; of several workers each has its own, in a file beside the
    /// checkpoint.
    #[serde(flatten, with = "TotalsFields")]
    pub totals: Totals,
    /// Training time of the epoch begun, in seconds.
    #[serde(with = "bits")]
    pub train_seconds: f64,
    /// Training time before that epoch, in seconds.
    #[serde(with = "bits")]
    pub total_seconds: f64,
    /// Test accuracy after the last completed epoch in percent, where it is known. Full checkpoints do not
    /// keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_accuracy: Option<f64>,
}

/// How [`Totals`] stand in JSON.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Totals")]
pub(super) struct TotalsFields {
    #[serde(with = "bits")]
    loss: f64,
    correct: u64,
    images: u64,
}

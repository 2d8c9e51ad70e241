//! Where a run is and how it fared, as every checkpoint says it in the JSON of its metadata.

use serde::{Deserialize, Deserializer, Serialize};

use super::{Digest8, Moment, bits};
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
    /// What the run was begun with; files of before do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// The data and the settings that a run was begun with, by their digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Of the images and labels.
    pub data: Digest8,
    /// Of the settings.
    pub settings: Digest8,
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

/// What workers have exchanged in an epoch so far. Bytes and seconds are those of the worker of the lowest
/// rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochExchange {
    /// Merges in the epoch.
    pub merges: u32,
    /// Bytes that a worker would have sent in them had all weights been merged.
    pub dense: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Seconds spent waiting for other workers.
    pub waiting: f64,
    /// Seconds spent exchanging.
    pub exchanging: f64,
}

/// Reads an exchange, also of files of before, which hold it as JSON in a string.
pub(super) fn read_exchange<'de, D: Deserializer<'de>>(from: D) -> Result<EpochExchange, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Fields(EpochExchange),
        Text(String),
    }
    Ok(match Written::deserialize(from)? {
        Written::Fields(exchange) => exchange,
        Written::Text(text) => serde_json::from_str(&text).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Hash;

    #[test]
    fn an_origin_is_two_texts_of_16_digits_and_may_be_absent() {
        let [data, settings] = [&b"data"[..], b"settings"].map(|bytes| Hash::of_bytes(bytes).short());
        let with = Progress { origin: Some(Origin { data, settings }), ..Progress::default() };
        let json = serde_json::to_value(with).unwrap();
        assert_eq!(json["origin"]["data"], blake3::hash(b"data").to_hex()[..16]);
        assert_eq!(serde_json::from_value::<Progress>(json).unwrap(), with);
        let without = serde_json::to_value(Progress::default()).unwrap();
        assert!(without.get("origin").is_none());
        assert_eq!(serde_json::from_value::<Progress>(without).unwrap(), Progress::default());
    }

    #[test]
    fn an_exchange_of_a_former_file_is_text() {
        #[derive(Deserialize)]
        struct File {
            #[serde(alias = "run", deserialize_with = "read_exchange")]
            exchange: EpochExchange,
        }
        let expected =
            EpochExchange { merges: 2, dense: 9, sent: 3, received: 4, waiting: 0.5, exchanging: 0.25 };
        let fields = serde_json::to_string(&expected).unwrap();
        let text = serde_json::to_string(&fields).unwrap();
        for json in [format!("{{\"exchange\": {fields}}}"), format!("{{\"run\": {text}}}")] {
            assert_eq!(serde_json::from_str::<File>(&json).unwrap().exchange, expected, "{json}");
        }
        let unknown = serde_json::from_str::<File>("{\"run\": \"anything\"}").unwrap();
        assert_eq!(unknown.exchange, EpochExchange::default());
    }
}

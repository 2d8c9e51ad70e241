//! The JSON of the metadata entry, and the digest in it that guards a file.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::KEY;
use crate::checkpoint::{Hash, Problem};

/// Reads the entry, whose `format` must be this version. The error says why it cannot be used.
pub fn parse_entry<T: DeserializeOwned>(json: Option<&str>, version: u32) -> Result<T, String> {
    let json = json.ok_or_else(|| format!("it has no metadata entry `{KEY}`"))?;
    let reason = |e: serde_json::Error| format!("metadata entry `{KEY}`: {e}");
    // The format first: the rest is only known to be there in this one.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_str(json).map_err(reason)?;
    if format != version {
        return Err(format!("its format is version {format}; this program reads version {version}"));
    }
    serde_json::from_str(json).map_err(reason)
}

/// The entry with an empty text in the place of its digest, as the digest is taken of it. An empty digest
/// stays: it would stand for itself, and nothing hashes to it.
pub fn without_digest(json: &str, digest: &str) -> String {
    json.replacen(&format!("\"{digest}\""), "\"\"", 1)
}

/// The entry of a file with these data, which a hasher has been fed: its JSON, in whose empty `check` stands
/// the BLAKE3 of the data and then of the JSON without it. It is as long whatever the data.
pub fn seal(mut data: blake3::Hasher, entry: &impl Serialize) -> serde_json::Result<String> {
    let json = serde_json::to_string(entry)?;
    let digest = Hash::of(data.update(json.as_bytes()));
    Ok(json.replacen("\"check\":\"\"", &format!("\"check\":\"{digest}\""), 1))
}

/// Whether `digest`, the entry's `check`, is of data that a hasher has been fed and of the entry. Returns the
/// hash of the data alone.
pub fn check(mut data: blake3::Hasher, json: &str, digest: &str) -> Result<Hash, Problem> {
    let hash = Hash::of(&data);
    let found = Hash::of(data.update(without_digest(json, digest).as_bytes()));
    match digest == found.to_string() {
        true => Ok(hash),
        false => Err(Problem::Damaged { expected: digest.into(), found }),
    }
}

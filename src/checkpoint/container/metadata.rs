//! The JSON of the metadata entry.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::KEY;

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

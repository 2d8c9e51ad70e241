//! Checksums put right again after a file was changed, so that what lies behind them is read.

use serde_json::{Value, json};

/// A safetensors file whose metadata entry has the digest that its content asks for; none where there is no
/// such entry to be found.
pub fn sealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = usize::try_from(u64::from_le_bytes(*bytes.first_chunk()?)).ok()?;
    let (header, data) = bytes[8..].split_at_checked(length)?;
    let mut header: Value = serde_json::from_slice(header).ok()?;
    let entry = header.get_mut("__metadata__")?.get_mut("fishmask")?;
    let mut content: Value = serde_json::from_str(entry.as_str()?).ok()?;
    *content.get_mut("check")? = json!("");
    let blank = content.to_string();
    content["check"] =
        json!(blake3::Hasher::new().update(data).update(blank.as_bytes()).finalize().to_hex().as_str());
    *entry = json!(content.to_string());
    let header = header.to_string();
    Some([&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat())
}

/// Whether a file's metadata entry, if it is there and has a digest, has the right one.
pub fn is_sealed(bytes: &[u8]) -> bool {
    let Ok((length, metadata)) = safetensors::SafeTensors::read_metadata(bytes) else { return false };
    let Some(entry) = metadata.metadata().as_ref().and_then(|map| map.get("fishmask")) else { return true };
    let Ok(content) = serde_json::from_str::<Value>(entry) else { return false };
    let Some(check) = content.get("check").and_then(Value::as_str) else { return true };
    let blank = entry.replacen(&format!("\"{check}\""), "\"\"", 1);
    let digest = blake3::Hasher::new().update(&bytes[8 + length..]).update(blank.as_bytes()).finalize();
    digest.to_hex().as_str() == check
}

/// A PNG whose chunks have the checksums that their content asks for.
pub fn png(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (bytes.to_vec(), 8);
    while let Some(length) = out.get(at..).and_then(|rest| rest.first_chunk()) {
        let length = u32::from_be_bytes(*length) as usize;
        let end = at + 8 + length;
        let Some(content) = out.get(at + 4..end) else { break };
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let sum = crc.sum().to_be_bytes();
        let Some(place) = out.get_mut(end..end + 4) else { break };
        place.copy_from_slice(&sum);
        at = end + 4;
    }
    out
}

/// The bytes packed by gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

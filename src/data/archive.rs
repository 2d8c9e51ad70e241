//! Reading a tar.gz into memory.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

use super::error::Error;

/// Most bytes an archive may unpack to. The official one has 184 million.
const UNPACKED: u64 = 1 << 30;

/// The members of a tar.gz whose file name is one of `wanted`, whatever their folder, by that name.
///
/// `file` names the archive in errors. No member may have more than `limit` bytes, nor the whole more than a
/// GiB. Nothing is written to the disk, so names in the archive can do no harm.
///
/// # Errors
/// [`Error::Malformed`], [`Error::TooLong`].
pub fn members(
    file: &Path,
    reader: impl Read,
    wanted: &[&'static str],
    limit: u64,
) -> Result<BTreeMap<&'static str, Vec<u8>>, Error> {
    let malformed = |problem: String| Error::Malformed { file: file.into(), format: "tar.gz", problem };
    let mut archive = tar::Archive::new(GzDecoder::new(reader).take(UNPACKED));
    let entries = archive.entries().map_err(|error| malformed(error.to_string()))?;
    let mut found = BTreeMap::new();
    // Raw entries: the extensions for long names, which an archive of these files has no use for, would be
    // read into memory without a bound.
    for entry in entries.raw(true) {
        let mut entry = entry.map_err(|error| malformed(error.to_string()))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path_bytes().into_owned();
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let Some(&name) = wanted.iter().find(|wanted| wanted.as_bytes() == name) else { continue };
        let size = entry.size();
        if size > limit {
            return Err(Error::TooLong { file: file.join(name), limit, found: size });
        }
        // Grown while reading: the size is only the header's claim.
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|error| malformed(format!("its member {name}: {error}")))?;
        if bytes.len() as u64 != size {
            return Err(malformed(format!("its member {name} ends after {} of {size} bytes", bytes.len())));
        }
        found.insert(name, bytes);
    }
    // The tar ends before the gzip stream does, whose checksum comes last.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink())
        .map_err(|error| malformed(error.to_string()))?;
    Ok(found)
}

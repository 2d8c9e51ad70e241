//! Reading a tar into memory, packed by gzip or not.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;

use super::error::Error;

/// Most bytes an archive may unpack to. The official one has 184 million.
const UNPACKED: u64 = 1 << 30;

/// Most bytes of an archive that are unpacked to find out whether it holds what is wanted.
const PEEKED: u64 = 64 << 20;

/// The members of an archive whose file name is one of `wanted`, whatever their folder, by that name.
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
    let malformed = |problem: String| malformed(file, problem);
    let mut archive = open(file, reader, UNPACKED)?;
    let mut found = BTreeMap::new();
    each_wanted(file, &mut archive, wanted, |name, entry| {
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
        Ok(true)
    })?;
    // The tar ends before the gzip stream does, whose checksum comes last.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink())
        .map_err(|error| malformed(error.to_string()))?;
    Ok(found)
}

/// The first of `wanted` that is a member of an archive; none if it holds none in its first 64 MiB.
///
/// # Errors
/// [`Error::Malformed`].
pub fn first(file: &Path, reader: impl Read, wanted: &[&'static str]) -> Result<Option<&'static str>, Error> {
    let mut archive = open(file, reader, PEEKED)?;
    let mut found = None;
    each_wanted(file, &mut archive, wanted, |name, _| {
        found = Some(name);
        Ok(false)
    })?;
    Ok(found)
}

type Archive<'a> = tar::Archive<Box<dyn Read + 'a>>;

/// Opens an archive, of which at most so many bytes are unpacked.
fn open<'a>(file: &Path, reader: impl Read + 'a, most: u64) -> Result<Archive<'a>, Error> {
    let mut reader = BufReader::new(reader);
    let beginning = reader.fill_buf().map_err(|error| malformed(file, error.to_string()))?;
    let unpacked: Box<dyn Read> = match beginning.starts_with(&[0x1f, 0x8b]) {
        true => Box::new(GzDecoder::new(reader).take(most)),
        false => Box::new(reader.take(most)),
    };
    Ok(tar::Archive::new(unpacked))
}

/// Calls `each` for every file whose name is one of `wanted`, as long as it answers true.
fn each_wanted<'a>(
    file: &Path,
    archive: &mut Archive<'a>,
    wanted: &[&'static str],
    mut each: impl FnMut(&'static str, &mut tar::Entry<Box<dyn Read + 'a>>) -> Result<bool, Error>,
) -> Result<(), Error> {
    let entries = archive.entries().map_err(|error| malformed(file, error.to_string()))?;
    // Raw entries: the extensions for long names, which an archive of these files has no use for, would be
    // read into memory without a bound.
    for entry in entries.raw(true) {
        let mut entry = entry.map_err(|error| malformed(file, error.to_string()))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path_bytes().into_owned();
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let Some(&name) = wanted.iter().find(|wanted| wanted.as_bytes() == name) else { continue };
        if !each(name, &mut entry)? {
            break;
        }
    }
    Ok(())
}

fn malformed(file: &Path, problem: String) -> Error {
    let format = if file.extension().is_some_and(|ending| ending == "tar") { "tar" } else { "tar.gz" };
    Error::Malformed { file: file.into(), format, problem }
}

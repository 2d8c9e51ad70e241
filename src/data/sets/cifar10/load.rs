//! Finding, fetching and keeping the data set.

use std::sync::Arc;

use super::find::find;
use super::race::race;
use super::read::read;
use crate::data::place::Place;
use crate::data::{Dataset, Error, Options, Progress, background};

/// Returns the data set: from `data_dir` in whatever layout it is there, else fetched.
///
/// The folder's content is used as it is if it is in the official binary layout, and otherwise converted to
/// it and kept there as `cifar-10-batches-bin`; if that cannot be written, a note says so. Processes that
/// share a folder wait for one another while fetching and converting.
///
/// # Errors
/// Those of the files found, which are never replaced by a download; [`Error::Offline`],
/// [`Error::Unavailable`] and [`Error::Interrupted`]; and [`Error::Io`] for a folder that would have to be
/// written to.
pub fn load(options: &Options, progress: &mut dyn FnMut(Progress)) -> Result<Dataset, Error> {
    let owned = options.clone();
    background::run(&options.stop, progress, move |told| prepare(&owned, told))
}

fn prepare(options: &Options, progress: &mut dyn FnMut(Progress)) -> Result<Dataset, Error> {
    let dir = &options.data_dir;
    let place = Arc::new(Place::new(dir));
    match find(dir)? {
        Some(found) if found.is_stored_form() || found.path == *dir => {
            return read(&found, options, progress);
        }
        Some(_) => {}
        None if options.offline => return Err(Error::Offline { folder: dir.clone() }),
        // Told now rather than after the download.
        None => place.probe()?,
    }
    place.lock(progress);
    // Another process may have stored it while this one waited.
    match find(dir)? {
        Some(found) => read(&found, options, progress),
        None => race(options, &place, progress),
    }
}

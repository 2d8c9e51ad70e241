//! The images of a subcommand: their flags, and their progress on the error stream; and the threads that use
//! them.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Context;
use fishmask::data::{self, DataSource, Dataset, Progress};
use fishmask::settings::threads;
use indicatif::{ProgressBar, ProgressStyle};

/// Where the data is and how it may be got.
#[derive(clap::Args)]
pub struct DataFlags {
    /// Folder that holds the data set, or is to hold it
    #[arg(long, value_name = "DIR", default_value = "data")]
    data_dir: PathBuf,
    /// Never use the network
    #[arg(long)]
    offline: bool,
    /// Use data whose md5 is not CIFAR-10's
    #[arg(long)]
    no_verify: bool,
}

impl DataFlags {
    /// Finds, fetches or makes the data set, and shows on the error stream what is going on.
    pub fn load(&self, set: DataSource) -> Result<Dataset, fishmask::Error> {
        let (data_dir, offline, verify) = (self.data_dir.clone(), self.offline, !self.no_verify);
        let options = data::Options { data_dir, offline, verify, ..Default::default() };
        let mut shown = Shown::default();
        let dataset = data::load(set, &options, &mut |progress| shown.show(progress));
        shown.clear();
        Ok(dataset?)
    }
}

/// A bar on a terminal, a line for each thing begun elsewhere.
#[derive(Default)]
struct Shown {
    what: String,
    bar: Option<ProgressBar>,
}

impl Shown {
    fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Downloading { what, bytes, total } => self.bytes("downloading", what, bytes, total),
            Progress::Unpacking { what, bytes, total } => self.bytes("unpacking", what, bytes, total),
            Progress::Verifying { what } => self.bytes("verifying", what, 0, None),
            Progress::Note(note) => {
                self.clear();
                eprintln!("{note}");
            }
        }
    }

    fn bytes(&mut self, verb: &str, what: &str, bytes: u64, total: Option<u64>) {
        let title = format!("{verb} {what}");
        if title != self.what {
            self.clear();
            if std::io::stderr().is_terminal() {
                let counts = if total.is_some() {
                    "[{wide_bar}] {bytes}/{total_bytes}, {eta} left"
                } else {
                    "{bytes}"
                };
                let style = ProgressStyle::with_template(&format!("{{msg}} {counts}"));
                let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
                self.bar = style.ok().map(|style| bar.with_style(style).with_message(title.clone()));
            } else {
                eprintln!("{title}");
            }
            self.what = title;
        }
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.what.clear();
    }
}

/// Sets the number of threads.
pub fn use_threads(given: Option<usize>) -> anyhow::Result<()> {
    let threads = threads(given)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build_global().with_context(|| format!("--threads {threads}: the threads cannot be started"))
}

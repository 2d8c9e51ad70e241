//! The images of a subcommand: their flags, and their progress on the error stream; and the threads that use
//! them.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use anyhow::Context;
use fishmask::data::{self, DataSource, Dataset, Progress};
use fishmask::settings::threads;
use indicatif::{DecimalBytes, HumanDuration, MultiProgress, ProgressBar, ProgressStyle};

/// Where the data is and how it may be got.
#[derive(clap::Args)]
pub struct DataFlags {
    /// Folder that holds the data set, or is to hold it; or an archive of it [default: data]
    #[arg(long, value_name = "PATH")]
    data_dir: Option<PathBuf>,
    /// Address of an archive of CIFAR-10 to try first, in any layout; may be repeated
    #[arg(long, value_name = "URL")]
    data_url: Vec<String>,
    /// Never use the network
    #[arg(long)]
    offline: bool,
    /// Use data whose md5 is not CIFAR-10's, under the name "CIFAR-10 (changed)"
    #[arg(long)]
    no_verify: bool,
}

impl DataFlags {
    /// Finds, fetches or makes the data set, and shows on the error stream what is going on.
    ///
    /// `fallback` allows the synthetic set where CIFAR-10 cannot be had, unless a flag says where it is.
    /// `stop` ends it: 0, or the number of a signal.
    pub fn load(
        &self,
        set: DataSource,
        fallback: bool,
        stop: Arc<AtomicUsize>,
    ) -> Result<Dataset, fishmask::Error> {
        let default = data::Options::default();
        let options = data::Options {
            data_dir: self.data_dir.clone().unwrap_or(default.data_dir),
            offline: self.offline,
            verify: !self.no_verify,
            fallback: fallback && self.data_dir.is_none() && self.data_url.is_empty(),
            urls: self.data_url.clone(),
            stop,
            ..data::Options::default()
        };
        let mut shown = Shown::default();
        let dataset = data::load(set, &options, &mut |progress| shown.show(progress));
        shown.clear();
        Ok(dataset?)
    }
}

/// How often a line says how far a download is, where there is no terminal for a bar.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// A bar for each thing under way on a terminal; a line for each thing begun elsewhere, and for downloads one
/// every minute.
#[derive(Default)]
struct Shown {
    bars: MultiProgress,
    shown: BTreeMap<String, Line>,
}

/// One thing under way, from when it was first shown.
struct Line {
    bar: Option<ProgressBar>,
    /// Bytes at the beginning: those were here before.
    from: u64,
    begun: Instant,
    last: Instant,
}

impl Shown {
    fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Downloading { what, bytes, total } => {
                self.bytes(format!("downloading {what}"), bytes, total, true);
            }
            Progress::Unpacking { what, bytes, total } => {
                self.bytes(format!("unpacking {what}"), bytes, total, false);
            }
            Progress::Verifying { what } => self.bytes(format!("verifying {what}"), 0, None, false),
            Progress::Note(note) => {
                self.clear();
                eprintln!("{note}");
            }
        }
    }

    fn bytes(&mut self, title: String, bytes: u64, total: Option<u64>, arrives: bool) {
        let Shown { bars, shown } = self;
        let line = shown.entry(title.clone()).or_insert_with(|| {
            let now = Instant::now();
            let mut line = Line { bar: None, from: bytes, begun: now, last: now };
            match std::io::stderr().is_terminal() {
                true => line.bar = bar(&title, total, arrives).map(|bar| bars.add(bar)),
                false => eprintln!("{title}"),
            }
            if let Some(bar) = &line.bar {
                bar.set_position(bytes);
                bar.reset_eta();
            }
            line
        });
        match &line.bar {
            Some(bar) => bar.set_position(bytes),
            None if arrives && line.last.elapsed() >= HEARTBEAT => {
                line.last = Instant::now();
                eprintln!("{title}: {}", line.how_far(bytes, total));
            }
            None => {}
        }
    }

    /// Takes all bars away. What goes on shows itself again.
    fn clear(&mut self) {
        for line in self.shown.values_mut() {
            if let Some(bar) = line.bar.take() {
                bar.finish_and_clear();
            }
        }
        if std::io::stderr().is_terminal() {
            self.shown.clear();
        }
    }
}

impl Line {
    /// Bytes so far, bytes a second, and the time that is left.
    fn how_far(&self, bytes: u64, total: Option<u64>) -> String {
        let seconds = self.begun.elapsed().as_secs_f64();
        let rate = bytes.saturating_sub(self.from) as f64 / seconds;
        let (so_far, a_second) = (DecimalBytes(bytes), DecimalBytes(rate as u64));
        let Some(total) = total else { return format!("{so_far}, {a_second}/s") };
        let left = Duration::try_from_secs_f64(total.saturating_sub(bytes) as f64 / rate);
        let left = left.map_or_else(|_| "time unknown".into(), |left| HumanDuration(left).to_string());
        format!("{so_far} of {}, {a_second}/s, {left} left", DecimalBytes(total))
    }
}

/// A bar; of bytes that arrive over a network it says how fast, and how long it will take.
fn bar(title: &str, total: Option<u64>, arrives: bool) -> Option<ProgressBar> {
    let counts = match (total.is_some(), arrives) {
        (true, true) => {
            " [{bar:20}] {decimal_bytes}/{decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left"
        }
        (true, false) => " [{bar:20}] {decimal_bytes}/{decimal_total_bytes}",
        (false, true) => " {decimal_bytes}, {decimal_bytes_per_sec}",
        (false, false) => "",
    };
    let style = ProgressStyle::with_template(&format!("{{msg}}{counts}")).ok()?;
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    Some(bar.with_style(style).with_message(title.to_string()))
}

/// Sets the number of threads.
pub fn use_threads(given: Option<usize>) -> anyhow::Result<()> {
    let threads = threads(given)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build_global().with_context(|| format!("--threads {threads}: the threads cannot be started"))
}

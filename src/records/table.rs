//! The table a person reads.

use std::io::{self, Write};
use std::path::Path;

use super::grouped;
use crate::checkpoint::Moment;
use crate::data::Set;
use crate::settings::{Config, Reasons, counted};
use crate::train::{EpochReport, Error, Event, Listener, MaskReport, Outcome, Started};

/// The two lines above the rows, which fit into 80 columns.
const HEADING: [&str; 2] = [
    "                  training           test         seconds of",
    "epoch      lr    loss  correct    loss  correct   train   test   total",
];

/// Gives the command that goes on with the run in a folder.
pub type ResumedBy = Box<dyn Fn(&Path) -> String>;

/// Writes a header, a row an epoch, and a last line. Each of them names the data set where it is not
/// CIFAR-10.
pub struct Table<W> {
    out: W,
    reasons: Reasons,
    /// Gives the command that goes on with the run in a folder, where it was started by one.
    resume: Option<ResumedBy>,
    data: Option<&'static Set>,
    /// Whether checkpoints hold what resuming needs.
    resumable: bool,
}

impl<W: Write> Table<W> {
    /// Writes to `out`.
    pub fn new(out: W, reasons: Reasons) -> Self {
        Table { out, reasons, resume: None, data: None, resumable: true }
    }

    /// When the run is stopped, names the command that goes on with the run in a folder.
    pub fn resume_by(mut self, command: ResumedBy) -> Self {
        self.resume = Some(command);
        self
    }

    /// Returns the writer.
    pub fn into_inner(self) -> W {
        self.out
    }

    /// What a reader of results must know of the data set, if anything.
    fn remark(&self) -> Option<&'static str> {
        self.data?.remark
    }

    fn header(&mut self, run: &Started) -> io::Result<()> {
        let (remark, out) = (self.remark(), &mut self.out);
        let Config { network, train, optimizer, schedule, .. } = run.config;
        let [training, test] = run.images.map(|n| grouped(n as u64));
        let parameters = grouped(run.parameters as u64);
        // First, so that nobody takes made-up pictures for CIFAR-10.
        let note = remark.map_or(String::new(), |remark| format!(" ({remark})"));
        writeln!(out, "data     {}{note}: {training} training images, {test} test images", run.data.name)?;
        writeln!(out, "device   {}, {} ({})", run.device, run.config.device.precision, self.reasons.device)?;
        writeln!(out, "model    {}, width {}: {parameters} parameters", network.model, network.width)?;
        writeln!(out, "recipe   {} ({})", run.config.recipe, self.reasons.recipe)?;
        let (epochs, batch_size, seed) = (train.epochs, train.batch_size, train.seed);
        let (epochs, steps, batch) =
            (counted(epochs, "epoch"), counted(run.steps, "step"), counted(batch_size, "image"));
        write!(out, "train    {epochs} of {steps} of {batch}, ")?;
        let peak = rounded(schedule.peak_epoch);
        write!(out, "lr up to {} at epoch {peak}, ", optimizer.lr)?;
        if schedule.final_share > 0.0 {
            write!(out, "down to {} at the end, ", optimizer.lr * schedule.final_share)?;
        }
        writeln!(out, "seed {seed}")?;
        if run.config.start.has_files() {
            writeln!(out, "start    {}", run.config.header("start"))?;
        }
        if run.config.is_masked() {
            writeln!(out, "mask     {}", run.config.header("mask"))?;
        }
        if run.config.has_workers() {
            writeln!(out, "workers  {}: {}", run.config.header("workers"), run.workers.join(", "))?;
        }
        if let Some(folder) = run.folder {
            writeln!(out, "folder   {}", folder.display())?;
        }
        match run.resumed {
            Some(Moment { epoch, step: 0 }) => writeln!(out, "resumed  after epoch {epoch}")?,
            Some(Moment { epoch, step }) => {
                writeln!(out, "resumed  after step {step} of epoch {}", epoch + 1)?;
            }
            None => {}
        }
        writeln!(out)?;
        let [first, second] = HEADING;
        writeln!(out, "{first}")?;
        writeln!(out, "{second}{}", if remark.is_some() { " data" } else { "" })?;
        out.flush()
    }

    /// A line among the rows for a new mask.
    fn mask(&mut self, r: &MaskReport) -> io::Result<()> {
        let out = &mut self.out;
        let share = 100.0 * r.kept as f64 / r.weights as f64;
        let [kept, weights, samples] = [r.kept, r.weights, r.samples].map(|n| grouped(n as u64));
        let samples = if r.samples == 1 { "1 sample".into() } else { format!("{samples} samples") };
        write!(out, "       mask of {kept} of {weights} weights ({share:.2}%), ")?;
        match r.kind.needs_samples() {
            true => write!(out, "by {samples}")?,
            false => write!(out, "{}", r.kind.how())?,
        }
        if let Some(stayed) = r.stayed {
            write!(out, ", {:.1}% as before", 100.0 * stayed as f64 / r.kept as f64)?;
        }
        writeln!(out, ", {:.1} s", r.seconds)?;
        out.flush()
    }

    fn row(&mut self, r: &EpochReport) -> io::Result<()> {
        let data = self.data.filter(|set| set.remark.is_some());
        let data = data.map_or(String::new(), |set| format!(" {}", set.name));
        let out = &mut self.out;
        write!(out, "{:5}  {:6.4}  {:6.4}  {:6.2}%", r.epoch, r.lr, r.train_loss, r.train_accuracy)?;
        write!(out, "  {:6.4}  {:6.2}%", r.test_loss, r.test_accuracy)?;
        writeln!(out, "  {:6.1}  {:5.1}  {:6.1}{data}", r.train_seconds, r.test_seconds, r.total_seconds)?;
        if let Some(e) = &r.exchange {
            let [sent, received] = [e.sent, e.received].map(|bytes| bytes as f64 / 1e6);
            let merges = counted(e.merges, "merge");
            write!(out, "       {merges}: {sent:.2} MB sent, {received:.2} received, ")?;
            write!(out, "{:.2}% of dense; ", e.share_of_dense)?;
            writeln!(out, "{:.1} s waiting, {:.1} exchanging", e.waiting_seconds, e.exchanging_seconds)?;
        }
        out.flush()
    }

    fn last(&mut self, outcome: &Outcome, folder: Option<&Path>) -> io::Result<()> {
        let (out, data) = (&mut self.out, self.data.map_or("", |set| set.name));
        let place = folder.map_or(String::new(), |folder| format!("; run: {}", folder.display()));
        match outcome {
            Outcome::Finished(r) => {
                let (accuracy, seconds) = (r.test_accuracy, r.total_seconds);
                writeln!(
                    out,
                    "\n{accuracy:.2}% test accuracy on {data} in {seconds:.1} s of training{place}"
                )?;
            }
            Outcome::Interrupted(cause) => {
                let what = match (folder, &self.resume) {
                    (Some(_), _) if !self.resumable => {
                        format!("; without --checkpoint-state the run cannot be resumed{place}")
                    }
                    (Some(folder), Some(command)) => {
                        format!("; the checkpoint is written; go on with: {}", command(folder))
                    }
                    (Some(_), None) => format!("; the checkpoint is written{place}"),
                    (None, _) => String::new(),
                };
                writeln!(out, "\nstopped by {cause}{what}")?;
            }
            Outcome::NothingLeft { .. } => {}
        }
        out.flush()
    }
}

impl<W: Write> Listener for Table<W> {
    fn hear(&mut self, event: &Event) -> Result<(), Error> {
        let result = match *event {
            Event::Started(run) => {
                self.data = Some(run.data);
                self.resumable = run.config.is_resumable();
                self.header(run)
            }
            Event::Mask(report) => self.mask(report),
            Event::Epoch(report) => self.row(report),
            Event::Ended { outcome, folder } => self.last(outcome, folder),
            Event::Step { .. }
            | Event::Scored { .. }
            | Event::Tested { .. }
            | Event::Merge(_)
            | Event::Checkpoint(_) => Ok(()),
        };
        result.map_err(|error| Error::Output { what: "the table", source: error })
    }
}

/// The value with at most two decimals, which is printed as short as it can be.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

//! The table a person reads.

use std::io::{self, Write};
use std::path::Path;

use super::grouped;
use crate::checkpoint::Moment;
use crate::data::DataSource;
use crate::settings::{Config, Reasons};
use crate::train::{EpochReport, Error, Event, Listener, MaskReport, Outcome, Started};

/// Writes a header, a row an epoch, and a last line. Each of them names the data set where it is not
/// CIFAR-10.
#[derive(Debug)]
pub struct Table<W> {
    out: W,
    reasons: Reasons,
    data: String,
    /// Whether checkpoints hold what resuming needs.
    resumable: bool,
}

impl<W: Write> Table<W> {
    /// Writes to `out`.
    pub fn new(out: W, reasons: Reasons) -> Self {
        Table { out, reasons, data: String::new(), resumable: true }
    }

    /// Returns the writer.
    pub fn into_inner(self) -> W {
        self.out
    }

    /// What a reader of results must know of the data set, if anything.
    fn remark(&self) -> Option<&'static str> {
        DataSource::named(&self.data)?.set().remark
    }

    fn header(&mut self, run: &Started) -> io::Result<()> {
        let (remark, out) = (self.remark(), &mut self.out);
        let Config { network, train, optimizer, schedule, .. } = run.config;
        let [training, test] = run.images.map(|n| grouped(n as u64));
        let parameters = grouped(run.parameters as u64);
        writeln!(out, "device   {}, {} ({})", run.device, run.config.device.precision, self.reasons.device)?;
        let note = remark.map_or(String::new(), |remark| format!(" ({remark})"));
        writeln!(out, "data     {}{note}: {training} training images, {test} test images", run.data)?;
        writeln!(out, "model    {}, width {}: {parameters} parameters", network.model, network.width)?;
        writeln!(out, "recipe   {} ({})", run.config.recipe, self.reasons.recipe)?;
        let (epochs, batch_size, seed) = (train.epochs, train.batch_size, train.seed);
        write!(out, "train    {epochs} epochs of {} steps of {batch_size} images, ", run.steps)?;
        let peak = rounded(schedule.peak_epoch);
        write!(out, "lr up to {} at epoch {peak}, ", optimizer.lr)?;
        if schedule.final_share > 0.0 {
            write!(out, "down to {} at the end, ", optimizer.lr * schedule.final_share)?;
        }
        writeln!(out, "seed {seed}")?;
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
        write!(out, "epoch      lr  train loss  train acc  test loss  test acc  train s  test s  total s")?;
        if run.config.has_workers() {
            write!(out, "  merges   sent MB  received  of dense  wait s  exch s")?;
        }
        writeln!(out, "{}", if remark.is_some() { "  data" } else { "" })?;
        out.flush()
    }

    /// A line among the rows for a new mask.
    fn mask(&mut self, r: &MaskReport) -> io::Result<()> {
        let out = &mut self.out;
        let share = 100.0 * r.kept as f64 / r.weights as f64;
        let [kept, weights, samples] = [r.kept, r.weights, r.samples].map(|n| grouped(n as u64));
        write!(out, "       mask of {kept} of {weights} weights ({share:.2}%), ")?;
        match r.kind.needs_samples() {
            true => write!(out, "by {samples} samples")?,
            false => write!(out, "{}", r.kind.how())?,
        }
        if let Some(stayed) = r.stayed {
            write!(out, ", {:.1}% as before", 100.0 * stayed as f64 / r.kept as f64)?;
        }
        writeln!(out, ", {:.1} s", r.seconds)?;
        out.flush()
    }

    fn row(&mut self, r: &EpochReport) -> io::Result<()> {
        let data = self.remark().map_or(String::new(), |_| format!("  {}", self.data));
        let out = &mut self.out;
        write!(out, "{:5}  {:6.4}  {:10.4}  {:8.2}%  ", r.epoch, r.lr, r.train_loss, r.train_accuracy)?;
        write!(out, "{:9.4}  {:7.2}%  ", r.test_loss, r.test_accuracy)?;
        write!(out, "{:7.1}  {:6.1}  {:7.1}", r.train_seconds, r.test_seconds, r.total_seconds)?;
        if let Some(e) = &r.exchange {
            let [sent, received] = [e.sent, e.received].map(|bytes| bytes as f64 / 1e6);
            write!(out, "  {:6}  {sent:8.2}  {received:8.2}  {:7.2}%  ", e.merges, e.share_of_dense)?;
            write!(out, "{:6.1}  {:6.1}", e.waiting_seconds, e.exchanging_seconds)?;
        }
        writeln!(out, "{data}")?;
        out.flush()
    }

    fn last(&mut self, outcome: &Outcome, folder: Option<&Path>) -> io::Result<()> {
        let (out, data) = (&mut self.out, &self.data);
        let folder = folder.map(|folder| folder.display().to_string());
        let place = folder.as_ref().map_or(String::new(), |folder| format!("; run: {folder}"));
        match outcome {
            Outcome::Finished(r) => {
                let (accuracy, seconds) = (r.test_accuracy, r.total_seconds);
                writeln!(
                    out,
                    "\n{accuracy:.2}% test accuracy on {data} in {seconds:.1} s of training{place}"
                )?;
            }
            Outcome::Interrupted(signal) => {
                let name = match signal {
                    2 => "SIGINT".into(),
                    15 => "SIGTERM".into(),
                    10 => "SIGUSR1".into(),
                    other => format!("signal {other}"),
                };
                let what = match folder {
                    Some(folder) if self.resumable => {
                        format!("; the checkpoint is written; go on with: train --resume {folder}")
                    }
                    Some(_) => format!("; without --checkpoint-state the run cannot be resumed{place}"),
                    None => String::new(),
                };
                writeln!(out, "\nstopped by {name}{what}")?;
            }
        }
        out.flush()
    }
}

impl<W: Write> Listener for Table<W> {
    fn hear(&mut self, event: &Event) -> Result<(), Error> {
        let result = match *event {
            Event::Started(run) => {
                self.data = run.data.to_string();
                self.resumable = run.config.is_resumable();
                self.header(run)
            }
            Event::Mask(report) => self.mask(report),
            Event::Epoch(report) => self.row(report),
            Event::Ended { outcome, folder } => self.last(outcome, folder),
            Event::Step { .. } | Event::Merge(_) | Event::Checkpoint(_) => Ok(()),
        };
        result.map_err(|error| Error::Output { what: "the table", source: error })
    }
}

/// The value with at most two decimals, which is printed as short as it can be.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

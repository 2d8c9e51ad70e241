//! The table a person reads.

use std::io::{self, Write};
use std::path::Path;

use crate::checkpoint::Moment;
use crate::data::DataSource;
use crate::graph::ModelId;
use crate::settings::{Config, Reasons, TrainSettings};
use crate::train::{EpochReport, Error, Event, Listener, MaskReport, Outcome, grouped};

/// Header, a row an epoch, and a last line. Where the data set is not CIFAR-10, each of them names it.
#[derive(Debug)]
pub struct Table<W> {
    out: W,
    reasons: Reasons,
    data: String,
    /// Whether checkpoints hold what resuming takes.
    resumable: bool,
}

impl<W: Write> Table<W> {
    /// Writes to `out`.
    pub fn new(out: W, reasons: Reasons) -> Self {
        Table { out, reasons, data: String::new(), resumable: true }
    }

    /// The writer.
    pub fn into_inner(self) -> W {
        self.out
    }

    #[allow(clippy::too_many_arguments)] // As Event::Started's.
    fn header(
        &mut self,
        (config, device): (&Config, &str),
        [training, test]: [usize; 2],
        steps: u32,
        workers: &[String],
        parameters: usize,
        resumed: Option<Moment>,
        folder: &Path,
    ) -> io::Result<()> {
        let out = &mut self.out;
        let ModelId { model, width, .. } = config.network;
        let TrainSettings { epochs, batch_size, seed, .. } = config.train;
        let images = [training, test].map(|n| grouped(n as u64));
        writeln!(out, "device   {device}, {} ({})", config.device.precision, self.reasons.device)?;
        let note = remark(&self.data).map_or(String::new(), |remark| format!(" ({remark})"));
        writeln!(
            out,
            "data     {}{note}: {} training images, {} test images",
            self.data, images[0], images[1]
        )?;
        writeln!(out, "model    {model}, width {width}: {} parameters", grouped(parameters as u64))?;
        writeln!(out, "recipe   {} ({})", config.recipe, self.reasons.recipe)?;
        write!(out, "train    {epochs} epochs of {steps} steps of {batch_size} images, ")?;
        let (lr, peak) = (config.optimizer.lr, rounded(config.schedule.peak_epoch));
        writeln!(out, "lr up to {lr} at epoch {peak}, seed {seed}")?;
        if config.is_masked() {
            writeln!(out, "mask     {}", config.header("mask"))?;
        }
        if config.has_workers() {
            writeln!(out, "workers  {}: {}", config.header("workers"), workers.join(", "))?;
        }
        writeln!(out, "folder   {}", folder.display())?;
        match resumed {
            Some(Moment { epoch, step: 0 }) => writeln!(out, "resumed  after epoch {epoch}")?,
            Some(Moment { epoch, step }) => {
                writeln!(out, "resumed  after step {step} of epoch {}", epoch + 1)?
            }
            None => {}
        }
        writeln!(out)?;
        write!(out, "epoch      lr  train loss  train acc  test loss  test acc  train s  test s  total s")?;
        if config.has_workers() {
            write!(out, "  merges   sent MB  received  of dense  wait s  exch s")?;
        }
        writeln!(out, "{}", if remark(&self.data).is_some() { "  data" } else { "" })?;
        out.flush()
    }

    /// A line among the rows.
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
        let out = &mut self.out;
        write!(out, "{:5}  {:6.4}  {:10.4}  {:8.2}%  ", r.epoch, r.lr, r.train_loss, r.train_accuracy)?;
        write!(out, "{:9.4}  {:7.2}%  ", r.test_loss, r.test_accuracy)?;
        write!(out, "{:7.1}  {:6.1}  {:7.1}", r.train_seconds, r.test_seconds, r.total_seconds)?;
        if let Some(e) = &r.exchange {
            let [sent, received] = [e.sent, e.received].map(|bytes| bytes as f64 / 1e6);
            write!(out, "  {:6}  {sent:8.2}  {received:8.2}  {:7.2}%  ", e.merges, e.share_of_dense)?;
            write!(out, "{:6.1}  {:6.1}", e.waiting_seconds, e.exchanging_seconds)?;
        }
        match remark(&self.data) {
            Some(_) => writeln!(out, "  {}", self.data)?,
            None => writeln!(out)?,
        }
        out.flush()
    }

    fn last(&mut self, outcome: &Outcome, folder: &Path) -> io::Result<()> {
        let (out, folder) = (&mut self.out, folder.display());
        match outcome {
            Outcome::Finished(r) => {
                let (accuracy, seconds) = (r.test_accuracy, r.total_seconds);
                let data = &self.data;
                writeln!(
                    out,
                    "\n{accuracy:.2}% test accuracy on {data} in {seconds:.1} s of training; run: {folder}"
                )?;
            }
            Outcome::Interrupted(signal) => {
                let name = match signal {
                    2 => "SIGINT".into(),
                    15 => "SIGTERM".into(),
                    10 => "SIGUSR1".into(),
                    other => format!("signal {other}"),
                };
                if !self.resumable {
                    writeln!(
                        out,
                        "\nstopped by {name}; without --checkpoint-state it cannot be gone on with; run: {folder}"
                    )?;
                    return out.flush();
                }
                writeln!(
                    out,
                    "\nstopped by {name}; the checkpoint is written; go on with: train --resume {folder}"
                )?;
            }
        }
        out.flush()
    }
}

impl<W: Write> Listener for Table<W> {
    fn hear(&mut self, event: &Event) -> Result<(), Error> {
        let result = match *event {
            Event::Started { config, device, data, images, steps, workers, parameters, resumed, folder } => {
                self.data = data.to_string();
                self.resumable = config.is_resumable();
                self.header((config, device), images, steps, workers, parameters, resumed, folder)
            }
            Event::Mask(report) => self.mask(report),
            Event::Epoch(report) => self.row(report),
            Event::Ended { outcome, folder } => self.last(outcome, folder),
            Event::Step { .. } | Event::Merge(_) | Event::Checkpoint(_) => Ok(()),
        };
        result.map_err(|error| Error::Output { what: "the table", source: error })
    }
}

/// As short as it can be with at most two decimals.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// What a reader of results must know of a data set, if anything.
fn remark(data: &str) -> Option<&'static str> {
    DataSource::named(data)?.set().remark
}

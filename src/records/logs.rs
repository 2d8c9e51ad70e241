//! The two log files, to which each epoch adds a line that is on disk before the run goes on.

use std::fs::File;
use std::io::{self, Write};

use serde::Serialize;

use crate::train::{EpochReport, Error, Event, Listener};

/// A writer whose bytes can be made to last.
pub trait Durable: Write {
    /// Returns when everything written so far would survive a power cut.
    ///
    /// # Errors
    /// When the system refuses.
    fn sync(&mut self) -> io::Result<()>;
}

impl Durable for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Tests write into memory.
impl Durable for Vec<u8> {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a whole line in one call, so that a kill can cut it short but not mix it with another.
fn write_line(out: &mut impl Durable, what: &'static str, line: &str) -> Result<(), Error> {
    let result = out.write_all(line.as_bytes()).and_then(|()| out.flush()).and_then(|()| out.sync());
    result.map_err(|error| Error::Output { what, source: error })
}

/// Writes `metrics.jsonl`: each epoch's report as a JSON object, with the names of the data set and of
/// several workers.
#[derive(Debug)]
pub struct Metrics<W> {
    out: W,
    data: String,
    workers: Vec<String>,
}

impl<W: Durable> Metrics<W> {
    /// Appends to `out`.
    pub fn new(out: W) -> Self {
        Metrics { out, data: String::new(), workers: vec![] }
    }

    /// Returns the writer.
    pub fn into_inner(self) -> W {
        self.out
    }
}

impl<W: Durable> Listener for Metrics<W> {
    fn hear(&mut self, event: &Event) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            #[serde(flatten)]
            report: &'a EpochReport,
            data: &'a str,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            workers: &'a [String],
        }
        match event {
            Event::Started(run) => {
                self.data = run.data.name.to_string();
                self.workers = run.workers.to_vec();
            }
            Event::Epoch(report) => {
                let line = serde_json::to_string(&Line { report, data: &self.data, workers: &self.workers })
                    .map_err(|e| Error::Output { what: "metrics.jsonl", source: e.into() })?;
                write_line(&mut self.out, "metrics.jsonl", &format!("{line}\n"))?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Writes `logs.tsv` in DAWNBench's format: epoch, hours of preprocessing and training, top-1 test accuracy
/// in percent. For the synthetic set a fourth column names it, so that nobody takes the file for a result on
/// CIFAR-10.
#[derive(Debug)]
pub struct DawnLog<W> {
    out: W,
    /// Whether the file has its header: a resumed run's file has it from before.
    headed: bool,
    /// The data set's name, where readers of results must know it.
    data: Option<String>,
}

impl DawnLog<File> {
    /// Appends to a file, after the lines it has.
    ///
    /// # Errors
    /// When the system does not tell its length.
    pub fn append(file: File) -> Result<Self, Error> {
        let length = file.metadata().map_err(|source| Error::Output { what: "logs.tsv", source })?.len();
        let headed = length > 0;
        Ok(DawnLog { out: file, headed, data: None })
    }
}

impl<W: Durable> DawnLog<W> {
    /// Begins a log.
    pub fn new(out: W) -> Self {
        DawnLog { out, headed: false, data: None }
    }

    /// Returns the writer.
    pub fn into_inner(self) -> W {
        self.out
    }
}

impl<W: Durable> Listener for DawnLog<W> {
    fn hear(&mut self, event: &Event) -> Result<(), Error> {
        match event {
            Event::Started(run) => {
                self.data = run.data.remark.map(|_| run.data.name.to_string());
                if !self.headed {
                    let last = if self.data.is_some() { "\tdata\n" } else { "\n" };
                    write_line(&mut self.out, "logs.tsv", &format!("epoch\thours\ttop1Accuracy{last}"))?;
                    self.headed = true;
                }
            }
            Event::Epoch(report) => {
                let hours = report.total_seconds / 3600.0;
                let last = self.data.as_ref().map_or("\n".into(), |data| format!("\t{data}\n"));
                let line = format!("{}\t{hours:.8}\t{:.2}{last}", report.epoch, report.test_accuracy);
                write_line(&mut self.out, "logs.tsv", &line)?;
            }
            _ => {}
        }
        Ok(())
    }
}

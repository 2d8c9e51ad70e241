//! The metadata of a chain's files, and the hash that guards them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::container;
use crate::checkpoint::file_kind::FileKind;
use crate::checkpoint::progress::{EpochExchange, TotalsFields, read_exchange};
use crate::checkpoint::{Error, Hash, Moment, Problem, Progress};
use crate::graph::ModelId;
use crate::ops::Totals;

/// Changes whenever a file written by one program cannot be read by the other.
const FORMAT: u32 = 1;

/// The JSON of the metadata entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    format: u32,
    #[serde(flatten)]
    pub id: ModelId,
    /// BLAKE3 of the file's data (what follows its header) and this JSON with an empty `check`.
    pub check: String,
    #[serde(flatten)]
    pub contents: Contents,
}

/// What a file holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Contents {
    Base {
        #[serde(rename = "weights")]
        model: Hash,
        #[serde(flatten)]
        progress: Progress,
    },
    Mask {
        mask: Hash,
    },
    Delta {
        #[serde(rename = "weights")]
        model: Hash,
        parent: Hash,
        mask: Hash,
        #[serde(flatten)]
        progress: Progress,
    },
    Workers {
        /// The merged model.
        #[serde(rename = "weights")]
        model: Hash,
        #[serde(flatten)]
        at: Moment,
        /// One a worker.
        totals: Vec<WorkerTotals>,
        #[serde(alias = "run", deserialize_with = "read_exchange")]
        exchange: EpochExchange,
    },
}

/// [`Totals`] in a list.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct WorkerTotals(#[serde(with = "TotalsFields")] pub Totals);

impl Header {
    pub fn new(id: ModelId, contents: Contents) -> Header {
        Header { format: FORMAT, id, check: String::new(), contents }
    }

    /// The JSON that guards data, which `data` has been fed; always of the same length. A base's model is its
    /// data.
    pub fn seal(&self, data: blake3::Hasher) -> Result<String, serde_json::Error> {
        let mut header = self.clone();
        if let Contents::Base { model, .. } = &mut header.contents {
            *model = Hash::of(&data);
        }
        container::seal(data, &header)
    }

    /// Reads the metadata entry, which may be missing.
    pub fn parse(path: &Path, json: Option<&str>) -> Result<Header, Error> {
        container::parse_entry(json, FORMAT).map_err(|reason| Error::new(path, Problem::NotChain { reason }))
    }

    /// The name that a file of this content has.
    pub fn file_name(&self) -> String {
        match &self.contents {
            Contents::Base { progress, .. } => FileKind::Base.file_name(progress.at),
            Contents::Mask { mask } => mask_name(*mask),
            Contents::Delta { progress, .. } => FileKind::Delta.file_name(progress.at),
            Contents::Workers { at, .. } => FileKind::Workers.file_name(*at),
        }
    }
}

/// Whether a file is of the run's model. Too wide a model that a damaged file tells of is not to be tried.
pub fn check_model(path: &Path, run: ModelId, file: ModelId) -> Result<(), Error> {
    file.check().map_err(|e| Error::new(path, Problem::NotChain { reason: e.to_string() }))?;
    match run == file {
        true => Ok(()),
        false => Err(Error::new(path, Problem::Model { expected: run, found: file })),
    }
}

/// The name of a mask's file.
pub fn mask_name(mask: Hash) -> String {
    format!("mask-{}.safetensors", mask.short())
}

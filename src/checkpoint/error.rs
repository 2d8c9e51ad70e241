//! What can be wrong with the files that keep a model.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::hash::Hash;
use super::moment::Moment;
use crate::graph::ModelId;

/// What is wrong with a file, and which file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct Error {
    path: PathBuf,
    problem: Box<Problem>,
}

impl Error {
    pub(super) fn new(path: &Path, problem: Problem) -> Self {
        Error { path: path.to_path_buf(), problem: Box::new(problem) }
    }

    pub(super) fn io<'a>(path: &'a Path, action: &'static str) -> impl Fn(std::io::Error) -> Error + 'a {
        move |error| Error::new(path, Problem::Io { action, error })
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

/// What is wrong with a file.
#[allow(missing_docs)] // of fields
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The system refused.
    #[error("cannot {action}: {error}")]
    Io { action: &'static str, error: std::io::Error },
    /// The bytes are not a safetensors file.
    #[error("not a safetensors file, or cut short or damaged: {reason}")]
    NotSafetensors { reason: String },
    /// The bytes are of another kind of file.
    #[error("not a safetensors file but {what}; {advice}")]
    Foreign { what: &'static str, advice: &'static str },
    /// A file of this program's that holds something else than weights.
    #[error("not a file of weights: {reason}")]
    NotWeights { reason: String },
    /// A weight or running statistic is no number.
    #[error("tensor {name}{place:?} is {value:e}; weights and running statistics must be finite f32 values")]
    NotFinite { name: String, place: Vec<usize>, value: f64 },
    /// A tensor the model needs is not there.
    #[error("tensor {name} of shape {shape:?} is missing{hint}")]
    Missing {
        name: String,
        shape: Vec<usize>,
        /// Which model the file seems to hold: empty, or a clause beginning with a separator.
        hint: String,
    },
    /// A tensor the model has no place for.
    #[error("tensor {name} of shape {shape:?} is not one of the model's{hint}")]
    Extra { name: String, shape: Vec<usize>, hint: String },
    /// A tensor's shape is not the model's.
    #[error("tensor {name}: expected shape {expected:?}, found {found:?}{hint}")]
    Shape {
        name: String,
        expected: Vec<usize>,
        found: Vec<usize>,
        /// The width the file seems to be of: empty, or a clause beginning with a separator.
        hint: String,
    },
    /// A tensor's values are of another type.
    #[error("tensor {name}: expected dtype {expected}, found {found}")]
    Dtype { name: String, expected: String, found: String },
    /// A safetensors file without a checkpoint's metadata, or with metadata that makes no sense.
    #[error("not a full checkpoint: {reason}")]
    NotCheckpoint { reason: String },
    /// The file's content is not what was written.
    #[error("damaged: its md5 should be {expected}, but is {found}")]
    Digest { expected: String, found: String },
    /// A checkpoint of another model.
    #[error("a checkpoint of {found}, not of {expected}")]
    Model { expected: ModelId, found: ModelId },
    /// A file of a chain whose metadata is missing or makes no sense, or says other than its name.
    #[error("not a file of a checkpoint chain: {reason}")]
    NotChain { reason: String },
    /// The content of a file is not what was written.
    #[error(
        "damaged: the BLAKE3 of its content should be {expected}, but is {found}; put a good copy \
         in its place, or remove it and what builds on it"
    )]
    Damaged { expected: String, found: Hash },
    /// What was restored is not what was saved.
    #[error(
        "restores wrong weights: their BLAKE3 should be {expected}, but is {found}; its parent or mask \
         is not the one it \
         was written with"
    )]
    Restored {
        expected: Hash,
        /// The hash of the weights and running statistics.
        found: Hash,
    },
    /// The checkpoint that a delta builds on is not there.
    #[error(
        "its parent, the checkpoint whose weights have BLAKE3 {parent}, is missing{}; \
         put it back, or remove this file",
        unreadable(broken)
    )]
    ParentMissing {
        /// The hash of the parent's weights and running statistics.
        parent: Hash,
        /// Files beside it that cannot be read, one of which may be the parent.
        broken: Vec<PathBuf>,
    },
    /// The mask of a checkpoint is not there.
    #[error("its mask {name} is missing; put it back, or remove this file")]
    MaskMissing { name: String },
    /// Indices that are no mask of the model.
    #[error("indices[{place}] = {index}: {reason}")]
    Indices { place: usize, index: u32, reason: String },
    /// The file of workers' states beside a checkpoint is not there.
    #[error(
        "the state of the workers of this time's checkpoint is missing; put it back, \
         or remove that checkpoint to go on \
         from the one before"
    )]
    WorkersMissing,
    /// Workers whose merged model is not that of the checkpoint beside them.
    #[error(
        "of workers whose merged weights have BLAKE3 {expected}, while those \
         of the checkpoint beside it have {found}; \
         put back the one that was written with it, or remove both"
    )]
    OtherWorkers {
        expected: Hash,
        /// The hash of the checkpoint's weights and running statistics.
        found: Hash,
    },
    /// There is no such checkpoint.
    #[error("holds no checkpoint of {at}; there {found}")]
    Absent { at: Moment, found: String },
    /// A folder without checkpoints.
    #[error("holds no checkpoint")]
    Empty,
    /// A delta cannot be written as things are.
    #[error("a delta cannot be written: {reason}")]
    NotDelta { reason: String },
    /// Another process has locked the run.
    #[error(
        "another process is writing to this run{}; wait for its end, or stop it",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    InUse { pid: Option<u32> },
    /// The newest checkpoint cannot be used, and nothing else is used silently in its place.
    #[error(
        "the newest checkpoint cannot be used ({error}); {}",
        match older {
            Some(older) => format!("remove it to go on from {}", older.display()),
            None => "there is no older one that can".to_string(),
        }
    )]
    Newest {
        error: Error,
        /// The one before it, which was read and is whole.
        older: Option<PathBuf>,
    },
}

impl Problem {
    /// A tensor whose values are of none of the types that it may have.
    pub(super) fn dtype(name: &str, expected: &[Dtype], found: impl Display) -> Problem {
        let expected: Vec<String> = expected.iter().map(Dtype::to_string).collect();
        Problem::Dtype { name: name.into(), expected: expected.join(" or "), found: found.to_string() }
    }
}

/// Clause about files that could not be read.
fn unreadable(broken: &[PathBuf]) -> String {
    match broken {
        [] => String::new(),
        [first, ..] => format!(", unless it is the unreadable {}", first.display()),
    }
}

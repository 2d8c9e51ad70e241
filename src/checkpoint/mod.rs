//! Files that keep a model: weights alone ([`weights`]) or all that a resumed run needs ([`full`]).
//!
//! Both are safetensors files with PyTorch's names, shapes and order, written whole or not at all ([`atomic`]).

pub mod atomic;
mod container;
pub mod full;
pub mod weights;

use std::path::{Path, PathBuf};

/// What is wrong with a file, and which file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct Error {
    path: PathBuf,
    problem: Box<Problem>,
}

impl Error {
    fn new(path: &Path, problem: Problem) -> Self {
        Error { path: path.to_path_buf(), problem: Box::new(problem) }
    }

    fn io<'a>(path: &'a Path, action: &'static str) -> impl Fn(std::io::Error) -> Error + 'a {
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
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The system refused.
    #[error("cannot {action}: {error}")]
    Io {
        /// What was tried, as a verb and its object.
        action: &'static str,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The bytes are not a safetensors file.
    #[error("not a safetensors file, or cut short or damaged: {reason}")]
    NotSafetensors {
        /// What is wrong with them.
        reason: String,
    },
    /// A tensor the model needs is not there.
    #[error("tensor {name} of shape {shape:?} is missing{hint}")]
    Missing {
        /// The tensor.
        name: String,
        /// The shape it should have.
        shape: Vec<usize>,
        /// Which model the file seems to hold: empty, or a clause beginning with a separator.
        hint: String,
    },
    /// A tensor the model has no place for.
    #[error("tensor {name} of shape {shape:?} is not one of the model's{hint}")]
    Extra {
        /// The tensor.
        name: String,
        /// The shape it has.
        shape: Vec<usize>,
        /// As in [`Problem::Missing`].
        hint: String,
    },
    /// A tensor's shape is not the model's.
    #[error("tensor {name}: expected shape {expected:?}, found {found:?}{hint}")]
    Shape {
        /// The tensor.
        name: String,
        /// The model's shape.
        expected: Vec<usize>,
        /// The file's shape.
        found: Vec<usize>,
        /// The width the file seems to be of: empty, or a clause beginning with a separator.
        hint: String,
    },
    /// A tensor does not hold f32 values.
    #[error("tensor {name}: expected dtype F32, found {found}")]
    Dtype {
        /// The tensor.
        name: String,
        /// The file's dtype.
        found: String,
    },
    /// A safetensors file without a checkpoint's metadata, or with metadata that makes no sense.
    #[error("not a full checkpoint: {reason}")]
    NotCheckpoint {
        /// What is missing or wrong.
        reason: String,
    },
    /// The file's content is not what was written.
    #[error("damaged: its md5 should be {expected}, but is {found}")]
    Digest {
        /// The md5 in the file.
        expected: String,
        /// The md5 of what is there.
        found: String,
    },
    /// A checkpoint of another model.
    #[error("a checkpoint of {found}, not of {expected}")]
    Model {
        /// Model and width of the run.
        expected: String,
        /// Model and width of the file.
        found: String,
    },
    /// The newest checkpoint cannot be used, and nothing else is used silently in its place.
    #[error(
        "the newest checkpoint cannot be used ({error}); {}",
        match older {
            Some(older) => format!("remove it to go on from {}", older.display()),
            None => "there is no older one that can".to_string(),
        }
    )]
    Newest {
        /// What is wrong with it.
        error: Error,
        /// The one before it, which was read and is whole.
        older: Option<PathBuf>,
    },
}

/// Writes one f32 tensor as a safetensors file, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn save_tensor(path: &Path, name: &str, shape: Vec<usize>, values: &[f32]) -> Result<(), Error> {
    container::save(path, &[container::Tensor::new(name.into(), shape, values)], None)
}

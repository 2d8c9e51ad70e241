//! The state of several workers, in a file beside the checkpoint of their merged model.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::file::{self, check_name};
use super::header::{Contents, Header, WorkerTotals, check_model};
use crate::checkpoint::container::{self, Failed, Head, OURS, Spec, TensorEntry};
use crate::checkpoint::file_kind::FileKind;
use crate::checkpoint::full::KEPT;
use crate::checkpoint::hash::feed;
use crate::checkpoint::{EpochExchange, Error, Hash, Moment, Problem};
use crate::graph::ModelId;
use crate::ops::Totals;
use safetensors::Dtype;

/// A tensor of a worker's, in the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its weights, or those of them that a mask keeps.
    Values,
    /// Its running statistics.
    Running,
    /// Its velocity.
    Velocity,
}

impl Part {
    /// All parts, in the order of the file.
    pub const ALL: [Part; 3] = [Part::Values, Part::Running, Part::Velocity];

    fn name(self, worker: usize) -> String {
        let part = match self {
            Part::Values => "values",
            Part::Running => "running",
            Part::Velocity => "velocity",
        };
        format!("worker.{worker}.{part}")
    }
}

/// A worker: its totals, and how long its tensors are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Worker {
    /// Its training totals of the epoch begun.
    pub totals: Totals,
    /// Length of [`Part::Values`].
    pub values: usize,
    /// Length of [`Part::Running`].
    pub running: usize,
    /// Length of [`Part::Velocity`].
    pub velocity: usize,
}

impl Worker {
    /// The number of values of a part.
    pub fn length(&self, part: Part) -> usize {
        match part {
            Part::Values => self.values,
            Part::Running => self.running,
            Part::Velocity => self.velocity,
        }
    }
}

/// What a file of workers says besides its tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkersState {
    /// The place in the run, which is that of the checkpoint it lies beside.
    pub at: Moment,
    /// The hash of the merged model as that checkpoint restores it ([`Hash::of_model`]).
    pub model: Hash,
    /// The workers, by rank.
    pub workers: Vec<Worker>,
    /// What they have exchanged in the epoch begun.
    pub exchange: EpochExchange,
}

/// Writes the workers' state into `folder`. Write it before the checkpoint that it belongs to: killed in
/// between, the run goes on from the checkpoint before, and the next pruning removes it.
///
/// `source` is asked for one tensor after the other, by worker, then [`Part`], and hands its values to the
/// function it is given, in as many slices as it likes: only one needs to be in memory at a time. Values are
/// kept in the order in which they come, memory or canonical; whoever reads them must know which.
///
/// # Errors
/// When the file cannot be written, or `source` fails; there is then no file, or the old one.
///
/// # Panics
/// If there is no worker, or `source` gives more or fewer values than the worker's length says.
pub fn save_workers<E: From<Error>>(
    folder: &Path,
    id: ModelId,
    state: &WorkersState,
    mut source: impl FnMut(usize, Part, &mut dyn FnMut(&[f32])) -> Result<(), E>,
) -> Result<PathBuf, E> {
    assert!(!state.workers.is_empty(), "a run has a worker");
    let contents = Contents::Workers {
        model: state.model,
        at: state.at,
        totals: state.workers.iter().map(|worker| WorkerTotals(worker.totals)).collect(),
        exchange: state.exchange,
    };
    let all = || (0..).zip(&state.workers).flat_map(|(rank, w)| Part::ALL.map(|part| (rank, w, part)));
    let spec = |(rank, worker, part): (usize, &Worker, Part)| {
        Spec::flat(&part.name(rank), Dtype::F32, worker.length(part))
    };
    let specs: Vec<Spec> = all().map(spec).collect();
    let (path, _) = file::write(folder, &Header::new(id, contents), &specs, |out| {
        for (rank, worker, part) in all() {
            let (mut given, mut written) = (0, Ok(()));
            let mut take = |values: &[f32]| {
                given += values.len();
                if written.is_ok() {
                    written = out.write::<E, f32>(values);
                }
            };
            source(rank, part, &mut take).map_err(Failed::Source)?;
            written?;
            assert_eq!(given, worker.length(part), "{} is as long as was said", part.name(rank));
        }
        Ok(())
    })?;
    Ok(path)
}

/// A file of workers' states whose guard was checked; its tensors are read when asked for.
#[derive(Debug)]
pub struct Workers {
    /// What it says besides its tensors.
    pub state: WorkersState,
    path: PathBuf,
    file: File,
    /// Where each tensor begins in the file, by worker.
    places: Vec<[u64; 3]>,
}

impl Workers {
    /// The file beside the checkpoint of a moment.
    pub fn path(folder: &Path, at: Moment) -> PathBuf {
        folder.join(FileKind::Workers.file_name(at))
    }

    /// Opens a file and reads it once, to check it.
    ///
    /// # Errors
    /// When it is missing or cannot be read, is of another model, is not what was written, or has not three
    /// tensors for each worker it tells of.
    pub fn open(path: &Path, id: ModelId) -> Result<Workers, Error> {
        let io = Error::io(path, "read it");
        let mut file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::new(path, Problem::WorkersMissing),
            _ => io(error),
        })?;
        let length = file.metadata().map_err(&io)?.len();
        let head = Head::of(path, &mut file, Some(length), OURS)?;
        let header = Header::parse(path, head.json.as_deref())?;
        let json = head.json.as_deref().unwrap_or_default();
        container::check(hash(&mut file).map_err(&io)?, json, &header.check)
            .map_err(|problem| Error::new(path, problem))?;
        check_name(path, &header.file_name())?;
        check_model(path, id, header.id)?;
        let Contents::Workers { model, at, totals, exchange } = header.contents else {
            return Err(Error::new(path, Problem::NotChain { reason: "it holds no workers".into() }));
        };
        let tensors = tensors(path, &head, totals.len())?;
        let worker = |(WorkerTotals(totals), tensors): (WorkerTotals, &[(u64, usize); 3])| {
            let [values, running, velocity] = tensors.map(|(_, length)| length);
            Worker { totals, values, running, velocity }
        };
        let workers = totals.into_iter().zip(&tensors).map(worker).collect();
        let places = tensors.iter().map(|tensors| tensors.map(|(begin, _)| begin)).collect();
        let state = WorkersState { at, model, workers, exchange };
        Ok(Workers { state, path: path.to_path_buf(), file, places })
    }

    /// Reads a tensor of a worker.
    ///
    /// # Errors
    /// When the file cannot be read.
    ///
    /// # Panics
    /// If there is no such worker.
    pub fn read(&self, worker: usize, part: Part) -> Result<Vec<f32>, Error> {
        let mut values = vec![0.0_f32; self.state.workers[worker].length(part)];
        let place = self.places[worker][part as usize];
        let mut file = &self.file;
        let read = file.seek(SeekFrom::Start(place));
        read.and_then(|_| file.read_exact(bytemuck::cast_slice_mut(&mut values)))
            .map_err(Error::io(&self.path, "read it"))?;
        if cfg!(target_endian = "big") {
            values.iter_mut().for_each(|v| *v = f32::from_bits(v.to_bits().swap_bytes()));
        }
        Ok(values)
    }

    /// Whether a merged model is the workers': its hash, as restored.
    ///
    /// # Errors
    /// When it is the hash of another model.
    pub fn check_model(&self, found: Hash) -> Result<(), Error> {
        let expected = self.state.model;
        if found == expected {
            return Ok(());
        }
        Err(Error::new(&self.path, Problem::OtherWorkers { expected, found }))
    }
}

/// Removes the workers' states but the newest two of those up to now. Later ones cannot be of this run. The
/// checkpoints that they lie beside stay: they can be restored, but not gone on from.
///
/// # Errors
/// When the folder cannot be read, or a file not removed.
pub fn prune_workers(folder: &Path, now: Moment) -> Result<(), Error> {
    let mut files = FileKind::list(folder, &[FileKind::Workers])?;
    files.retain(|(at, _)| *at <= now);
    let surplus = files.len().saturating_sub(KEPT);
    let remove = |path: &PathBuf| std::fs::remove_file(path).map_err(Error::io(path, "remove it"));
    files[..surplus].iter().try_for_each(|(_, path)| remove(path))
}

/// Hashes the rest of a file, piece by piece.
fn hash(file: &mut File) -> io::Result<blake3::Hasher> {
    const PIECE: u64 = 4 << 20;
    let (mut hasher, mut piece) = (blake3::Hasher::new(), Vec::with_capacity(PIECE as usize));
    loop {
        piece.clear();
        if file.take(PIECE).read_to_end(&mut piece)? == 0 {
            return Ok(hasher);
        }
        feed(&mut hasher, &piece);
    }
}

/// Where each worker's tensors begin in the file, and their lengths.
fn tensors(path: &Path, head: &Head, workers: usize) -> Result<Vec<[(u64, usize); 3]>, Error> {
    let bad = |reason: String| Error::new(path, Problem::NotChain { reason });
    let (found, expected) = (head.tensors.len(), 3 * workers);
    if workers == 0 {
        return Err(bad("it tells of no worker".into()));
    }
    if found != expected {
        return Err(bad(format!("its workers number {workers}, and its tensors {found}, not {expected}")));
    }
    // As they are written, one after the other: their names are not guarded, and could change places.
    let mut next = 0;
    let mut tensor = |name: String| {
        let Some(TensorEntry { dtype, shape, data_offsets: (begin, end) }) = head.tensors.get(&name) else {
            return Err(bad(format!("tensor {name} is missing")));
        };
        if *dtype != Dtype::F32 {
            return Err(Error::new(path, Problem::dtype(&name, &[Dtype::F32], dtype)));
        }
        let length = (end - begin) as usize / 4;
        if shape[..] != [length] {
            let (expected, found) = (vec![length], shape.clone());
            return Err(Error::new(path, Problem::Shape { name, expected, found, hint: String::new() }));
        }
        if *begin != next {
            return Err(bad(format!("tensor {name} is not in its place")));
        }
        next = *end;
        Ok((head.begin + begin, length))
    };
    let worker = |rank| {
        let mut tensor = |part: Part| tensor(part.name(rank));
        Ok([tensor(Part::Values)?, tensor(Part::Running)?, tensor(Part::Velocity)?])
    };
    (0..workers).map(worker).collect()
}

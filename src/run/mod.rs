//! The library's door: [`Run`] trains as a configuration says, and leaves a run folder if it is given one.

mod error;
mod evaluate;
mod resume;
mod saved;
mod select;
mod session;
mod start;

use std::path::{Path, PathBuf};

use crate::checkpoint::chain::{Chain, Restored};
use crate::checkpoint::{Hash, Moment, Origin};
use crate::data::{self, DataSource, Dataset};
use crate::device::Device;
use crate::distributed::{Communicator, InProcess};
use crate::graph::Layout;
use crate::optim::{TrainingBackend, Work, with_device};
use crate::records::{DawnLog, Keeping, Metrics, RunFolder, Shown, Status, StatusFile};
use crate::settings::{Config, Request};
use crate::train::{self, Listener, Outcome, Start, Stop, Training};

pub use error::Error;
pub use evaluate::{Evaluated, Evaluation};
pub use saved::Saved;
pub use select::{Selected, Selection};

/// A run that is to begin or to be resumed.
pub struct Run<'a> {
    config: Config,
    place: Place,
    device: Option<Device>,
    comm: Option<Box<dyn Communicator>>,
    /// Training and test images, where they are known before they are loaded.
    images: Option<[usize; 2]>,
    load: Box<dyn FnOnce(DataSource) -> Result<Dataset, Error> + 'a>,
    tell: Box<dyn FnMut(&str) + 'a>,
    listeners: Vec<Box<dyn Listener + 'a>>,
    stop: Stop,
}

/// Where a run is kept.
enum Place {
    Nowhere,
    New(PathBuf),
    ByTime,
    Resumed {
        folder: RunFolder,
        /// The settings that it had until now.
        before: Box<Config>,
    },
}

impl<'a> Run<'a> {
    /// A new run, which keeps nothing unless it is given a [folder](Run::folder).
    pub fn new(config: Config) -> Run<'a> {
        Run {
            config,
            place: Place::Nowhere,
            device: None,
            comm: None,
            images: None,
            load: Box::new(|source| Ok(data::load(source, &data::Options::default(), &mut |_| {})?)),
            tell: Box::new(|_| {}),
            listeners: vec![],
            stop: Stop::default(),
        }
    }

    /// A run that was stopped, from its folder, which is locked from now on. What is `asked` for must be what
    /// the run has, but for more epochs, which it may train if the epochs done would not have been others.
    ///
    /// # Errors
    /// When the folder is no run's, another process trains in it, its settings were edited in a way that is
    /// not asked for, or it has other settings than asked for.
    pub fn resume(folder: &Path, asked: &Request) -> Result<Run<'a>, Error> {
        let (folder, before, edits) = RunFolder::open(folder)?;
        let config = resume::settings(folder.path(), &before, edits, asked)?;
        let place = Place::Resumed { folder, before: Box::new(before) };
        Ok(Run { place, ..Run::new(config) })
    }

    /// The run's settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Keeps the run in a folder, which must be new or empty.
    pub fn folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.place = Place::New(path.into());
        self
    }

    /// Keeps the run in a new folder, `runs/TIME-RECIPE`.
    pub fn folder_by_time(mut self) -> Self {
        self.place = Place::ByTime;
        self
    }

    /// Trains and evaluates on these images, rather than on the data set that the settings name.
    pub fn dataset(mut self, dataset: Dataset) -> Self {
        self.images = Some([dataset.train.len(), dataset.test.len()]);
        self.load(|_| Ok(dataset))
    }

    /// Gets the images by `load`, which is called when the device is open and the folder is made: as many as
    /// the data set that it is asked for has.
    pub fn load(mut self, load: impl FnOnce(DataSource) -> Result<Dataset, Error> + 'a) -> Self {
        self.load = Box::new(load);
        self
    }

    /// Hands what the user should know of the files that a new run starts from to `tell`, a line each.
    pub fn tell(mut self, tell: impl FnMut(&str) + 'a) -> Self {
        self.tell = Box::new(tell);
        self
    }

    /// Shows a listener what happens. Listeners hear events in the order in which they were given. One that
    /// fails is told nothing more, and a line on the error stream says so.
    pub fn listen(mut self, listener: impl Listener + 'a) -> Self {
        self.listeners.push(Box::new(Shown::new(listener)));
        self
    }

    /// Binds the workers by `comm`, which has as many as the settings say. Without it all of them train in
    /// this process. Where it binds other processes, each of them runs the same settings on the same images;
    /// only the root has a folder, and only its listeners are told.
    pub fn comm(mut self, comm: Box<dyn Communicator>) -> Self {
        self.comm = Some(comm);
        self
    }

    /// Computes on another device than the settings name, such as the second GPU for the second process of a
    /// machine.
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// Stops after the step in which `stop` is set.
    pub fn stop(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    /// Trains to the end, or until it is told to stop.
    ///
    /// # Errors
    /// When the device cannot be opened or fails, the images cannot be got or do not suit the settings, a
    /// file cannot be written, a listener fails, the loss is no longer finite, or another process fails.
    pub fn run(self) -> Result<Outcome, Error> {
        with_device(self.device.unwrap_or(self.config.device.name), self)?
    }

    /// Makes the folder, gets the images, and reads the checkpoint that is resumed.
    fn prepare<B: TrainingBackend>(self, backend: &B) -> Result<Ready<'a>, Error> {
        let Run { mut config, place, comm, images, load, mut tell, listeners, stop, .. } = self;
        let mut comm = comm.unwrap_or_else(|| Box::new(InProcess::new(config.workers.count)));
        let [all, test] = images.unwrap_or(config.data.set.set().images);
        let training = config.images(all)?;
        train::check_room(backend, &config, comm.local().len(), [training, test])?;
        let layout = config.network.graph()?.layout;
        let alone = comm.local().len() == comm.size();
        let (mut kept, mut resumed) = (None, Resumed::default());
        // Files first: they are quick to refuse, and nothing is made yet. Only the root reads them.
        let is_new = !matches!(place, Place::Resumed { .. });
        let mut start = match is_new && comm.is_root() {
            true => start::read(&mut config, &layout, &mut tell)?,
            false => Start::default(),
        };
        match place {
            Place::Nowhere => {}
            Place::New(path) => kept = Some(RunFolder::create(&path)?),
            Place::ByTime => {
                kept = Some(RunFolder::create_by_time(&config.recipe, jiff::Timestamp::now())?);
            }
            Place::Resumed { folder, before } => {
                let chain = Chain::read(&folder.checkpoints(), config.network, &layout)?;
                let checkpoint = chain.load_latest()?;
                let at = checkpoint.as_ref().map_or(Moment::default(), |restored| restored.progress.at);
                resume::check_schedule(folder.path(), &before, &config, at)?;
                let epochs = config.train.epochs;
                if alone && at.epoch >= epochs {
                    Status::finish(folder.path());
                    return Ok(Ready::Done { epochs });
                }
                start = start::again(&config, &layout, &chain, checkpoint.as_ref())?;
                kept = Some(folder);
                resumed = Resumed { is: true, checkpoint };
            }
        }
        // Of several processes the root fetches the images first, and the others find them.
        if !alone && !comm.is_root() {
            comm.barrier()?;
        }
        let mut dataset = load(config.data.set)?;
        if !alone && comm.is_root() {
            comm.barrier()?;
        }
        let set = DataSource::named(dataset.set().name).unwrap_or(config.data.set);
        if resumed.is && set != config.data.set {
            return Err(Error::OtherData { run: config.data.set, found: set });
        }
        config.data.set = set;
        let images = config.images(dataset.train.len())?;
        dataset.train = dataset.train.truncated(images);
        let fingerprint = dataset.fingerprint();
        if !alone {
            comm.agree("the data set", &fingerprint, None)?;
        }
        let origin = Origin { data: Hash::from(fingerprint).short(), settings: config.digest() };
        let mut files = Files { recorders: vec![], listeners: vec![], keeping: None };
        if let Some(folder) = kept {
            resume::check_origin(folder.path(), &config, resumed.checkpoint.as_ref(), origin)?;
            config.sessions.push(session::begin(backend, dataset.set(), origin));
            files = Files::open(folder, &config, &layout, &resumed, origin)?;
        }
        files.listeners.extend(listeners);
        let keeping = match files.keeping {
            Some(keeping) => keeping.with_mask(start.mask.clone()),
            None => Keeping::new(&config, &layout, None)?,
        };
        let start = start::spread(&mut *comm, start)?;
        let (recorders, listeners, resume) = (files.recorders, files.listeners, resumed.checkpoint);
        let prepared = Prepared { config, dataset, start, resume, comm, keeping, recorders, listeners, stop };
        Ok(Ready::Train(Box::new(prepared)))
    }
}

impl Work for Run<'_> {
    type Output = Result<Outcome, Error>;

    fn on<B: TrainingBackend>(self, backend: B) -> Result<Outcome, Error> {
        let prepared = match self.prepare(&backend)? {
            Ready::Done { epochs } => return Ok(Outcome::NothingLeft { epochs }),
            Ready::Train(prepared) => *prepared,
        };
        let Prepared { config, dataset, start, resume, comm, mut keeping, recorders, listeners, stop } =
            prepared;
        let keep = &mut keeping;
        let training = Training { config: &config, dataset, start, resume, comm, keep, recorders, listeners };
        let outcome = train::train(backend, training, &stop);
        if let (Err(error), Some(run)) = (&outcome, train::Keep::folder(&keeping)) {
            Status::fail(run, error);
        }
        let closed = keeping.close();
        let outcome = outcome?;
        closed?;
        Ok(outcome)
    }
}

/// What a run that is resumed goes on from.
#[derive(Default)]
struct Resumed {
    /// Whether it is resumed.
    is: bool,
    /// Its newest checkpoint, if it has one.
    checkpoint: Option<Restored>,
}

/// What writes into a run's folder.
struct Files<'a> {
    recorders: Vec<Box<dyn Listener + 'a>>,
    listeners: Vec<Box<dyn Listener + 'a>>,
    keeping: Option<Keeping>,
}

impl Files<'_> {
    fn open(
        folder: RunFolder,
        config: &Config,
        layout: &Layout,
        resumed: &Resumed,
        origin: Origin,
    ) -> Result<Self, Error> {
        if resumed.is {
            let epochs = resumed.checkpoint.as_ref().map_or(0, |restored| restored.progress.at.epoch);
            folder.cut_back(epochs)?;
        }
        let recorders: Vec<Box<dyn Listener>> =
            vec![Box::new(Metrics::new(folder.metrics()?)), Box::new(DawnLog::append(folder.logs()?)?)];
        let status = StatusFile::new(folder.path(), session::host());
        let keeping = Keeping::of_run(folder, config.clone(), layout, origin)?;
        Ok(Files { recorders, listeners: vec![Box::new(Shown::new(status))], keeping: Some(keeping) })
    }
}

/// What a run comes to when all is looked at.
enum Ready<'a> {
    Train(Box<Prepared<'a>>),
    /// All its epochs are done.
    Done {
        epochs: u32,
    },
}

/// A run that is ready to train.
struct Prepared<'a> {
    config: Config,
    dataset: Dataset,
    start: Start,
    resume: Option<Restored>,
    comm: Box<dyn Communicator>,
    /// Holds the folder's lock.
    keeping: Keeping,
    recorders: Vec<Box<dyn Listener + 'a>>,
    listeners: Vec<Box<dyn Listener + 'a>>,
    stop: Stop,
}

//! The library's door: [`Run`] trains as a configuration says, and leaves a run folder if it is given one.

mod error;
mod evaluate;
mod select;

use std::path::{Path, PathBuf};

use crate::checkpoint::chain::{Chain, Restored};
use crate::data::{self, DataSource, Dataset};
use crate::device::Device;
use crate::distributed::{Communicator, InProcess};
use crate::optim::{TrainingBackend, Work, with_device};
use crate::records::{DawnLog, Keeping, Metrics, RunFolder};
use crate::settings::Config;
use crate::train::{self, Listener, Outcome, Stop, Training};

pub use error::Error;
pub use evaluate::{Evaluated, Evaluation};
pub use select::{Selected, Selection};

/// A run that is to begin or to be resumed.
pub struct Run<'a> {
    config: Config,
    place: Place,
    device: Option<Device>,
    comm: Option<Box<dyn Communicator>>,
    load: Box<dyn FnOnce(DataSource) -> Result<Dataset, Error> + 'a>,
    listeners: Vec<Box<dyn Listener + 'a>>,
    stop: Stop,
}

/// Where a run is kept.
enum Place {
    Nowhere,
    New(PathBuf),
    Resumed(RunFolder),
}

impl<'a> Run<'a> {
    /// A new run, which keeps nothing unless it is given a [folder](Run::folder).
    pub fn new(config: Config) -> Run<'a> {
        Run {
            config,
            place: Place::Nowhere,
            device: None,
            comm: None,
            load: Box::new(|source| Ok(data::load(source, &data::Options::default(), &mut |_| {})?)),
            listeners: vec![],
            stop: Stop::default(),
        }
    }

    /// A run that was stopped, from its folder, which is locked from now on.
    ///
    /// # Errors
    /// When the folder is no run's, or another process trains in it.
    pub fn resume(folder: &Path) -> Result<Run<'a>, Error> {
        let (folder, config) = RunFolder::open(folder)?;
        Ok(Run { place: Place::Resumed(folder), ..Run::new(config) })
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

    /// Trains and evaluates on these images, rather than on the data set that the settings name.
    pub fn dataset(self, dataset: Dataset) -> Self {
        self.load(|_| Ok(dataset))
    }

    /// Gets the images by `load`, which is called when the device is open and the folder is made.
    pub fn load(mut self, load: impl FnOnce(DataSource) -> Result<Dataset, Error> + 'a) -> Self {
        self.load = Box::new(load);
        self
    }

    /// Tells a listener what happens. Listeners hear events in the order in which they were given.
    pub fn listen(mut self, listener: impl Listener + 'a) -> Self {
        self.listeners.push(Box::new(listener));
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
    fn prepare(self) -> Result<Prepared<'a>, Error> {
        let Run { mut config, place, comm, load, listeners, stop, .. } = self;
        let mut comm = comm.unwrap_or_else(|| Box::new(InProcess::new(config.workers.count)));
        let is_new = !matches!(place, Place::Resumed(_));
        let mut folder = match place {
            Place::Nowhere => None,
            Place::New(path) => Some(RunFolder::create(&path)?),
            Place::Resumed(folder) => Some(folder),
        };
        let alone = comm.local().len() == comm.size();
        // Of several processes the root fetches the images first, and the others find them.
        if !alone && !comm.is_root() {
            comm.barrier()?;
        }
        let mut dataset = load(config.data.set)?;
        if !alone && comm.is_root() {
            comm.barrier()?;
        }
        let set = DataSource::named(dataset.set().name).unwrap_or(config.data.set);
        if !is_new && set != config.data.set {
            return Err(Error::OtherData { run: config.data.set, found: set });
        }
        config.data.set = set;
        let images = config.images(dataset.train.len())?;
        dataset.train = dataset.train.truncated(images);
        if !alone {
            comm.agree("the data set", &dataset.fingerprint(), None)?;
        }
        let layout = config.network.graph()?.layout;
        let mut resume = None;
        // The files first: a row that the table shows is kept.
        let mut all: Vec<Box<dyn Listener + 'a>> = vec![];
        if let Some(folder) = &mut folder {
            if is_new {
                folder.begin(&config)?;
            } else {
                let chain = Chain::read(&folder.checkpoints(), config.network, &layout)?;
                resume = chain.load_latest()?;
                folder.cut_back(resume.as_ref().map_or(0, |restored| restored.progress.at.epoch))?;
            }
            all.push(Box::new(Metrics::new(folder.metrics()?)));
            all.push(Box::new(DawnLog::append(folder.logs()?)?));
        }
        all.extend(listeners);
        let keeping = Keeping::new(&config, &layout, folder.as_ref().map(RunFolder::path))?;
        Ok(Prepared { config, dataset, resume, comm, keeping, listeners: all, stop, _folder: folder })
    }
}

impl Work for Run<'_> {
    type Output = Result<Outcome, Error>;

    fn on<B: TrainingBackend>(self, backend: B) -> Result<Outcome, Error> {
        let Prepared { config, dataset, resume, comm, mut keeping, listeners, stop, _folder } =
            self.prepare()?;
        let training = Training { config: &config, dataset, resume, comm, keep: &mut keeping, listeners };
        Ok(train::train(backend, training, &stop)?)
    }
}

/// A run that is ready to train.
struct Prepared<'a> {
    config: Config,
    dataset: Dataset,
    resume: Option<Restored>,
    comm: Box<dyn Communicator>,
    keeping: Keeping,
    listeners: Vec<Box<dyn Listener + 'a>>,
    stop: Stop,
    /// Holds the folder's lock.
    _folder: Option<RunFolder>,
}

//! Training runs through the library, watched.

use std::path::Path;
use std::sync::atomic::Ordering;

use fishmask::checkpoint::chain::{Chain, Restored};
use fishmask::data::{DataSource, Dataset, synthetic};
use fishmask::device::emulated::Emulated;
use fishmask::device::gpu::Gpu;
use fishmask::device::{Cpu, Cuda, Device, Precision};
use fishmask::distributed::{Aggregate, InProcess};
use fishmask::graph::scoring::Target;
use fishmask::graph::{Layout, Model, ModelId};
use fishmask::mask::Kind;
use fishmask::ops::Power;
use fishmask::optim::UpdateRule;
use fishmask::records::Keeping;
use fishmask::settings::{
    CheckpointSettings, CheckpointState, Config, DataSettings, DeviceSettings, MaskSettings,
    OptimizerSettings, ScheduleSettings, StartSettings, TrainSettings, WorkerMasks, WorkerSettings,
};
use fishmask::train::{
    self, EpochReport, Error, Event, Listener, MaskReport, Outcome, Start, Stop, Training,
};

/// Three epochs of 18 steps.
pub fn config() -> Config {
    Config {
        recipe: "test".into(),
        network: ModelId::new(Model::Resnet9, 4),
        data: DataSettings { set: DataSource::Synthetic, images: None },
        train: TrainSettings { epochs: 3, batch_size: 32, seed: 5, label_smoothing: 0.1 },
        optimizer: OptimizerSettings { lr: 0.2, momentum: 0.9, weight_decay: 5e-4 },
        schedule: ScheduleSettings { peak_epoch: 1.0, final_share: 0.0 },
        start: StartSettings::default(),
        mask: MaskSettings { kind: Kind::Dense, ..masking() },
        checkpoint: CheckpointSettings {
            every: 1,
            best: false,
            state: CheckpointState::On,
            values: Precision::F32,
        },
        workers: WorkerSettings {
            count: 1,
            merge_steps: 4,
            reselect_merges: 2,
            masks: WorkerMasks::Same,
            aggregate: Aggregate::Mean,
            shard_data: false,
        },
        device: DeviceSettings { name: Device::Cpu, precision: Precision::F32 },
        sessions: vec![],
    }
}

/// A configuration that differs from another as `change` says.
pub fn with(mut config: Config, change: impl FnOnce(&mut Config)) -> Config {
    change(&mut config);
    config
}

/// The GPU's kernels on the CPU train what another configuration says.
pub fn on_emulated(config: Config) -> Config {
    with(config, |c| c.device = DeviceSettings { name: Device::Emulated, precision: Precision::F16 })
}

/// A single epoch, whose learning rate is the largest in its middle.
pub fn one_epoch(config: Config) -> Config {
    with(config, |c| {
        c.train.epochs = 1;
        c.schedule.peak_epoch = 0.5;
    })
}

pub fn dataset(config: &Config) -> Dataset {
    // 18 whole batches and a partial one that is dropped; 210 test images are less than one evaluation batch.
    let images = config.data.images.unwrap_or(18 * 32 + 7);
    synthetic::dataset(images, if config.device.name == Device::Cpu { 210 } else { 21 }, 0)
}

/// A Fisher mask of 5%, strict and fixed.
pub fn masking() -> MaskSettings {
    MaskSettings {
        kind: Kind::Fisher,
        keep_ratio: 0.05,
        samples: 40,
        target: Target::Label,
        power: Power::Square,
        warmup_epochs: 0,
        every: 0,
        rule: UpdateRule::Strict,
    }
}

pub fn layout(config: &Config) -> Layout {
    config.network.model.graph(config.network.width).unwrap().layout
}

/// Keeps the reports; can pull the stop after some steps.
#[derive(Default)]
pub struct Watch {
    pub reports: Vec<EpochReport>,
    pub masks: Vec<MaskReport>,
    /// (epoch, step) of each merge.
    pub merges: Vec<(u32, u32)>,
    pub steps: u32,
    /// Each step's number in its epoch, as it is told.
    pub numbers: Vec<u32>,
    pub stop_after: Option<u32>,
    pub stop: Stop,
}

impl Listener for Watch {
    fn hear(&mut self, event: &Event) -> Result<(), Error> {
        match event {
            Event::Step { step, .. } => {
                self.steps += 1;
                self.numbers.push(*step);
                if Some(self.steps) == self.stop_after {
                    self.stop.0.store(15, Ordering::Relaxed);
                }
            }
            Event::Epoch(report) => self.reports.push(**report),
            Event::Mask(report) => self.masks.push(**report),
            Event::Merge(report) => self.merges.push((report.epoch, report.step)),
            _ => {}
        }
        Ok(())
    }
}

/// What a run's folder holds.
pub fn chain(config: &Config, folder: &Path) -> Chain {
    Chain::read(&folder.join("checkpoints"), config.network, &layout(config)).unwrap()
}

/// Trains in `folder`, from a state or from the beginning: outcome and what was heard.
pub fn train_from(
    config: &Config,
    folder: &Path,
    state: Option<Restored>,
    stop_after: Option<u32>,
) -> (Result<Outcome, Error>, Watch) {
    std::fs::create_dir_all(folder.join("checkpoints")).unwrap();
    let mut watch = Watch { stop_after, ..Watch::default() };
    let outcome = train_on(config, dataset(config), folder, state, &mut watch);
    (outcome, watch)
}

/// Trains on a data set in `folder`, watched.
pub fn train_on(
    config: &Config,
    dataset: Dataset,
    folder: &Path,
    resume: Option<Restored>,
    watch: &mut Watch,
) -> Result<Outcome, Error> {
    train_started(config, dataset, folder, Start::default(), resume, watch)
}

/// The same, given what it starts from.
pub fn train_started(
    config: &Config,
    dataset: Dataset,
    folder: &Path,
    start: Start,
    resume: Option<Restored>,
    watch: &mut Watch,
) -> Result<Outcome, Error> {
    let stop = watch.stop.clone();
    let mut keeping = Keeping::new(config, &layout(config), Some(folder))?;
    let comm = Box::new(InProcess::new(config.workers.count));
    let listeners: Vec<Box<dyn Listener + '_>> = vec![Box::new(watch)];
    let (keep, recorders) = (&mut keeping, vec![]);
    let training = Training { config, dataset, start, resume, comm, keep, recorders, listeners };
    match config.device.name {
        Device::Cpu => train::train(Cpu::new(), training, &stop),
        Device::Emulated => train::train(Cuda::new(Emulated::new()).unwrap(), training, &stop),
        _ => train::train(Cuda::new(Gpu::open(0).unwrap()).unwrap(), training, &stop),
    }
}

/// The same, going on with what the folder holds.
pub fn train(config: &Config, folder: &Path, stop_after: Option<u32>) -> (Result<Outcome, Error>, Watch) {
    std::fs::create_dir_all(folder.join("checkpoints")).unwrap();
    let state = chain(config, folder).load_latest().unwrap();
    train_from(config, folder, state, stop_after)
}

pub fn final_bytes(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("final.safetensors")).unwrap()
}

/// Each of `cases` is the steps, of all workers together, after which a run is stopped, then the resumed one,
/// and so on.
pub fn stopped_and_resumed_ends_with_the_same_bits(config: &Config, cases: &[&[u32]]) {
    let whole = tempfile::tempdir().unwrap();
    let (_, uninterrupted) = train(config, whole.path(), None);
    let numbers =
        |r: &EpochReport| (r.epoch, r.lr, r.train_loss, r.train_accuracy, r.test_loss, r.test_accuracy);
    for stops in cases {
        let folder = tempfile::tempdir().unwrap();
        let (mut done, mut reports) = (0, vec![]);
        for &stop in *stops {
            let (outcome, watch) = train(config, folder.path(), Some(stop));
            assert!(
                matches!(outcome, Ok(Outcome::Interrupted(cause)) if cause.number() == 15),
                "{stops:?}: {outcome:?}"
            );
            assert!(!folder.path().join("final.safetensors").exists());
            reports.extend(watch.reports.iter().map(numbers));
            done += watch.steps;
        }
        let (outcome, watch) = train(config, folder.path(), None);
        assert!(matches!(outcome, Ok(Outcome::Finished(_))), "{stops:?}: {outcome:?}");
        reports.extend(watch.reports.iter().map(numbers));
        assert_eq!(done + watch.steps, uninterrupted.steps, "{stops:?}: no step is lost or done twice");
        assert_eq!(reports, uninterrupted.reports.iter().map(numbers).collect::<Vec<_>>(), "{stops:?}");
        assert!(final_bytes(folder.path()) == final_bytes(whole.path()), "{stops:?}");
    }
}

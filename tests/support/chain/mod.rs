//! A run that trains under masks, made up: what it changes, and what its chain must give back.

pub mod forge;

use std::path::Path;

use fishmask::checkpoint::chain::{Chain, Restored, Values, Velocity, Writer};
use fishmask::checkpoint::{Error, Moment, Progress};
use fishmask::graph::layout::{Layout, Parameter};
use fishmask::graph::{Init, Model, ModelId};
use fishmask::ops::Totals;
use fishmask::rng::{Purpose, Stream};

pub const ID: ModelId = ModelId::new(Model::Resnet9, 4);

/// 29 weights (a 2x3x2x2 filter, five scales) and ten statistics.
pub fn small() -> Layout {
    let mut layout = Layout::default();
    layout.add_parameter("conv.weight".into(), vec![2, 3, 2, 2], Init::Constant(0.0));
    layout.add_parameter("bn.weight".into(), vec![5], Init::Constant(1.0));
    layout.add_statistic("bn".into(), 5);
    layout
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// A run between two steps.
#[derive(Clone)]
pub struct Run {
    pub layout: Layout,
    /// Memory order.
    pub weights: Vec<f32>,
    pub running: Vec<f32>,
    pub mask: Vec<u32>,
    pub velocity: Vec<f32>,
    pub progress: Progress,
    stream: u32,
}

impl Run {
    pub fn new(layout: Layout) -> Run {
        let (weights, running) = (layout.initial_weights(1), layout.initial_statistics());
        let progress = Progress::default();
        Run { layout, weights, running, mask: vec![], velocity: vec![], progress, stream: 0 }
    }

    fn draw(&mut self) -> Stream {
        self.stream += 1;
        Stream::new(7, Purpose::Synthetic, 0, self.stream)
    }

    /// What a writer asks.
    pub fn source(&self) -> impl FnMut(&Parameter) -> Result<Vec<f32>, Error> {
        |p| Ok(self.weights[p.range()].to_vec())
    }

    /// So many weights at random.
    pub fn draw_mask(&mut self, kept: usize) -> Vec<u32> {
        let mut stream = self.draw();
        let mut all: Vec<u32> = (0..self.layout.weight_count() as u32).collect();
        for i in 0..kept {
            let rest = (all.len() - i) as u32;
            all.swap(i, i + stream.below(rest) as usize);
        }
        all.truncate(kept);
        all.sort_unstable();
        all
    }

    /// Keeps the weights of a mask from now on, at rest.
    pub fn keep(&mut self, mask: Vec<u32>) {
        self.velocity = vec![0.0; mask.len()];
        self.mask = mask;
    }

    /// Keeps so many weights at random from now on.
    pub fn choose(&mut self, kept: usize) {
        let mask = self.draw_mask(kept);
        self.keep(mask);
    }

    /// Trains up to a moment: the kept weights and all running statistics change.
    pub fn train(&mut self, epoch: u32, step: u32) {
        let mut stream = self.draw();
        for i in 0..self.mask.len() {
            let place = place(&self.layout, self.mask[i]);
            self.velocity[i] = stream.normal() as f32;
            self.weights[place] += self.velocity[i];
        }
        self.running.iter_mut().for_each(|v| *v += stream.uniform());
        let totals = Totals { loss: stream.normal(), correct: u64::from(epoch), images: u64::MAX };
        let (train_seconds, total_seconds) = (stream.normal(), 1.0 / 3.0);
        let test_accuracy = (step == 0).then_some(f64::from(epoch) + 0.25);
        let at = Moment::new(epoch, step);
        self.progress = Progress { at, totals, train_seconds, total_seconds, test_accuracy, origin: None };
    }

    pub fn open(&self, folder: &Path) -> Writer {
        Writer::open(folder, ID, &self.layout, Values::F32).unwrap()
    }

    pub fn base(&self, writer: &mut Writer) {
        writer.base(&self.progress, &self.running, self.source()).unwrap();
    }

    pub fn begin_mask(&self, writer: &mut Writer) {
        writer.mask(&self.mask, &self.running, self.source()).unwrap();
    }

    pub fn delta(&self, writer: &mut Writer) {
        writer.delta(&self.progress, Some(&self.velocity), &self.running, self.source()).unwrap();
    }

    #[track_caller]
    pub fn assert_restored(&self, restored: &Restored) {
        assert_eq!(restored.progress, self.progress);
        assert_eq!(bits(&restored.weights), bits(&self.weights));
        assert_eq!(bits(&restored.running), bits(&self.running));
        assert_eq!(restored.velocity, Velocity::Kept(self.velocity.clone()));
        assert_eq!(restored.mask.as_ref(), Some(&self.mask));
    }
}

/// The place in memory of a canonical index.
pub fn place(layout: &Layout, index: u32) -> usize {
    let index = index as usize;
    let p = layout.parameters.iter().find(|p| p.range().contains(&index)).unwrap();
    p.offset + p.memory_index(index - p.offset)
}

/// The masks of [`three_masks`], by number, each with the (epoch, step) of its two checkpoints. The second
/// comes into force again after the third, and two checkpoints lie within an epoch.
pub const SCHEDULE: [(usize, [(u32, u32); 2]); 4] =
    [(0, [(1, 0), (2, 0)]), (1, [(3, 0), (3, 5)]), (2, [(4, 0), (5, 0)]), (1, [(6, 0), (6, 1)])];

/// A run whose base is written, and the three masks that it will train under, each of a quarter of the
/// weights.
pub fn begin_three_masks(folder: &Path, layout: Layout) -> (Run, [Vec<u32>; 3]) {
    let mut run = Run::new(layout);
    run.base(&mut run.open(folder));
    let kept = run.layout.weight_count() / 4;
    let masks = [(); 3].map(|()| run.draw_mask(kept));
    (run, masks)
}

/// Writes a chain of three masks by [`SCHEDULE`]. Returns the run as it was at each delta.
pub fn three_masks(folder: &Path, layout: Layout) -> Vec<Run> {
    let (mut run, masks) = begin_three_masks(folder, layout);
    let mut writer = run.open(folder);
    let mut runs = vec![];
    for (mask, moments) in SCHEDULE {
        run.keep(masks[mask].clone());
        run.begin_mask(&mut writer);
        for (epoch, step) in moments {
            run.train(epoch, step);
            run.delta(&mut writer);
            runs.push(run.clone());
        }
    }
    runs
}

/// Reads a chain anew; every file in it must be good.
#[track_caller]
pub fn verified(folder: &Path, layout: &Layout) -> Chain {
    let chain = Chain::read(folder, ID, layout).unwrap();
    for file in chain.verify() {
        file.result.unwrap();
    }
    chain
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

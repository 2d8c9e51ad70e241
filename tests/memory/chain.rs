//! Memory while writing a chain: always less than the vector.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fishmask::checkpoint::chain::{Values, Worker, Workers, WorkersState, Writer, save_workers};
use fishmask::checkpoint::{Error, Hash, Moment, Progress};
use fishmask::graph::layout::Parameter;
use fishmask::graph::{Model, ModelId};
use tempfile::tempdir;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Counts bytes that are allocated.
pub fn more(bytes: usize) {
    PEAK.fetch_max(LIVE.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

/// Counts bytes that are freed.
pub fn fewer(bytes: usize) {
    LIVE.fetch_sub(bytes, Relaxed);
}

/// The most that `f` holds at once beyond what there was before, in bytes.
pub fn peak<T>(f: impl FnOnce() -> T) -> usize {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    f();
    PEAK.load(Relaxed) - before
}

pub fn writing_takes_less_than_the_vector() {
    for (model, width, shares) in [(Model::Resnet34, 16, [200, 50, 10]), (Model::Resnet9, 16, [200, 50, 10])]
    {
        let id = ModelId::new(model, width);
        let layout = id.graph().unwrap().layout;
        let (vector, running) = (4 * layout.weight_count(), layout.initial_statistics());
        // Made parameter by parameter: what a source holds counts as well.
        let source = |p: &Parameter| Ok::<_, Error>(vec![1e-3 * p.offset as f32; p.count()]);
        // Workers' states of many vectors: never more than a slice of one.
        let (folder, slice) = (tempdir().unwrap(), vec![0.5_f32; 4 << 10]);
        let (values, velocity) = (layout.weight_count(), layout.weight_count());
        let worker = Worker { values, velocity, running: running.len(), ..Worker::default() };
        let workers = vec![worker; 3];
        let state = WorkersState {
            at: Moment::new(1, 0),
            model: Hash::of_indices(&[]),
            workers,
            exchange: Default::default(),
        };
        let write = |rank: usize, part, take: &mut dyn FnMut(&[f32])| {
            let mut left = state.workers[rank].length(part);
            while left > 0 {
                take(&slice[..left.min(slice.len())]);
                left -= left.min(slice.len());
            }
            Ok::<_, Error>(())
        };
        let writing = peak(|| save_workers(folder.path(), id, &state, write).unwrap());
        let path = Workers::path(folder.path(), Moment::new(1, 0));
        let opening = peak(|| Workers::open(&path, id).unwrap());
        println!("{model}, 3 workers' {vector} bytes twice: writing {writing}, opening {opening}");
        assert!(writing < vector / 4, "{model}: {writing} of {vector} bytes for three workers");
        assert!(opening < 5 << 20, "{model}: {opening} bytes to check a file");
        for values in [Values::F32, Values::F16] {
            let folder = tempdir().unwrap();
            let mut writer = Writer::open(folder.path(), id, &layout, values).unwrap();
            let at = Progress::default();
            let base = peak(|| writer.base(&at, &running, source).unwrap());
            assert!(base < vector / 2, "{model}: {base} of {vector} bytes for a base");
            for share in shares {
                let kept = layout.weight_count() / share;
                let indices: Vec<u32> = (0..kept as u32).map(|i| share as u32 * i).collect();
                let velocity = vec![1.0; kept];
                let velocity = (values == Values::F32).then_some(&velocity[..]);
                let mask = peak(|| writer.mask(&indices, &running, source).unwrap());
                let delta = peak(|| writer.delta(&at, velocity, &running, source).unwrap());
                println!(
                    "{model}, 1 of {share}, {values:?}: of {vector} bytes base {base}, mask {mask}, delta \
                     {delta}"
                );
                assert!(
                    mask.max(delta) < vector,
                    "{model}, 1 of {share}: {mask} and {delta} of {vector} bytes"
                );
            }
        }
    }
}

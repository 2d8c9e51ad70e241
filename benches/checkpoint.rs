//! Writing and restoring small checkpoints of resnet34, width 64, at 0.5%, beside a plain copy of the same
//! bytes.
//!
//!     cargo bench --bench checkpoint
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use fishmask::checkpoint::chain::{Chain, Values, Writer};
use fishmask::checkpoint::{Error, Hash, Moment, Progress};
use fishmask::graph::layout::Parameter;
use fishmask::graph::{Model, ModelId};

/// Repetitions of each measurement.
const N: usize = 11;

fn main() {
    let (id, share) = (ModelId::new(Model::Resnet34, 64), 200);
    let layout = id.graph().unwrap().layout;
    let weights = layout.initial_weights(1);
    let running = layout.initial_statistics();
    let kept = layout.weight_count() / share;
    let indices: Vec<u32> = (0..kept as u32).map(|i| share as u32 * i).collect();
    let velocity = vec![0.5; kept];
    // Beside the build, on a disk, rather than in a temporary folder that may be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut writer = Writer::open(folder.path(), id, &layout, Values::F32).unwrap();
    let source = |p: &Parameter| Ok::<_, Error>(weights[p.range()].to_vec());
    let at = Progress::default();

    println!("{id}, {} weights, {kept} kept; n = {N}", layout.weight_count());
    let base = writer.base(&at, &running, source).unwrap();
    writer.mask(&indices, &running, source).unwrap();
    let at = Progress { at: Moment::new(1, 0), ..at };
    let delta = writer.delta(&at, Some(&velocity), &running, source).unwrap();
    measure("write a delta", length(&delta), || {
        writer.delta(&at, Some(&velocity), &running, source).unwrap();
    });
    measure("hash the vector", length(&base), || {
        Hash::of_model(&weights, &running);
    });
    copy(&delta, &folder.path().join("copy"));
    measure("write a base", length(&base), || {
        writer.base(&at, &running, source).unwrap();
    });
    copy(&base, &folder.path().join("copy"));
    let chain = Chain::read(folder.path(), id, &layout).unwrap();
    measure("restore a base", length(&base), || drop(chain.load(Moment::default()).unwrap()));
    let delta = chain.checkpoints().iter().find(|c| c.path == delta).unwrap();
    measure("restore a delta", length(&base) + delta.bytes, || drop(chain.restore(delta).unwrap()));
    measure("read a base", length(&base), || drop(fs::read(&base).unwrap()));
}

fn length(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

/// A copy that is as sure to last as a checkpoint: synced, renamed, the folder synced.
fn copy(from: &Path, to: &Path) {
    let temporary = to.with_extension("partial");
    measure("  plain copy of it, synced", length(from), || {
        fs::copy(from, &temporary).unwrap();
        File::open(&temporary).unwrap().sync_all().unwrap();
        fs::rename(&temporary, to).unwrap();
        File::open(to.parent().unwrap()).unwrap().sync_all().unwrap();
    });
}

/// Prints the median time, the fastest and the slowest, and the rate of `bytes` in the median.
fn measure(what: &str, bytes: u64, mut f: impl FnMut()) {
    f();
    let time = |_| {
        let began = Instant::now();
        f();
        began.elapsed().as_secs_f64()
    };
    let mut seconds: Vec<f64> = (0..N).map(time).collect();
    seconds.sort_by(f64::total_cmp);
    let [fastest, median, slowest] = [0, N / 2, N - 1].map(|i| 1e3 * seconds[i]);
    let rate = bytes as f64 / 1e3 / median;
    println!("{what:<28} {median:>8.1} ms ({fastest:.1} to {slowest:.1}) {bytes:>10} bytes {rate:>7.0} MB/s");
}

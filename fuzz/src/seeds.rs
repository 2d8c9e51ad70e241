//! Good inputs of each target, made anew each time.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use fishmask::checkpoint::full::{self, State};
use fishmask::checkpoint::{Hash, Moment, Progress, weights as weights_};
use fishmask::mask::file;
use fishmask::ops::Totals;
use fishmask::settings::Config;
use fishmask::settings::recipes::BUILT_IN;
use tempfile::TempDir;

use crate::chain::{ID, Run, names, small};
use crate::data::{batch, binary_files, labels as labels_of, pickle as pickle_of, png as png_of, tar_gz};
use crate::input::{FORGED, OPEN, scratch};

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32 / 8.0 - 2.0).collect()
}

/// An input with each of two first bytes: checksums as they are, and put right.
fn both(number: u8, bytes: Vec<u8>) -> [Vec<u8>; 2] {
    [number, number | FORGED].map(|first| [&[first], &bytes[..]].concat())
}

/// Files of weights: this program's, and another's with a prefix, in f16.
pub fn weights() -> Vec<Vec<u8>> {
    let (folder, values) = (scratch(), values(39));
    let path = folder.path().join("f");
    weights_::save(&path, ID, &small(), &values[..29], &values[29..]).expect("weights can be saved");
    let shapes: [(&str, &[usize]); 4] = [
        ("conv.weight", &[2, 3, 2, 2]),
        ("bn.weight", &[5]),
        ("bn.running_mean", &[5]),
        ("bn.running_var", &[5]),
    ];
    let other = |prefix: &str, dtype: safetensors::Dtype| {
        let zeros = vec![0; 24 * dtype.bitsize() / 8];
        let views = shapes.map(|(name, shape)| {
            let length = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            let view = safetensors::tensor::TensorView::new(dtype, shape.to_vec(), &zeros[..length]);
            (format!("{prefix}{name}"), view.expect("lengths fit"))
        });
        let metadata = std::collections::HashMap::from([("format".to_string(), "pt".to_string())]);
        safetensors::serialize(views, Some(metadata)).expect("it can be serialised")
    };
    let own = both(0, fs::read(path).expect("it was written"));
    let others = [
        other("module.", safetensors::Dtype::F16),
        other("", safetensors::Dtype::F64),
        other("_orig_mod.model.", safetensors::Dtype::BF16),
        other("", safetensors::Dtype::F32),
    ];
    own.into_iter().chain(others.into_iter().map(|bytes| [&[OPEN], &bytes[..]].concat())).collect()
}

/// The states of [`full_checkpoint`].
pub fn states() -> Vec<State> {
    let state = |epoch, velocity, mask| State {
        progress: Progress {
            at: Moment::new(epoch, 3),
            totals: Totals { loss: 0.5, correct: 3, images: 9 },
            train_seconds: 1.0 / 3.0,
            total_seconds: 7.0,
            ..Progress::default()
        },
        weights: values(29),
        velocity,
        running: values(10),
        mask,
    };
    vec![state(1, None, None), state(2, Some(values(29)), Some(Hash::of_indices(&[0, 28])))]
}

/// Full checkpoints with velocity and mask, and without.
pub fn full_checkpoint() -> Vec<Vec<u8>> {
    let folder = scratch();
    let save = |state: &State| {
        let path = full::save(folder.path(), ID, &small(), state).expect("it can be saved");
        [&[0], &fs::read(path).expect("it was written")[..]].concat()
    };
    states().iter().map(save).collect()
}

/// A folder with a base and a delta of each of two masks.
pub struct Chain {
    pub folder: TempDir,
    pub files: Vec<(String, Vec<u8>)>,
    /// The run at its base.
    pub first: Run,
    /// The run at each delta.
    pub runs: Vec<Run>,
}

impl Chain {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Chain {
        let (folder, mut run) = (scratch(), Run::new(small()));
        let mut writer = run.open(folder.path());
        run.base(&mut writer);
        let (first, mut runs) = (run.clone(), vec![]);
        for epoch in 1..=2 {
            run.choose(5);
            run.begin_mask(&mut writer);
            run.train(epoch, 0);
            run.delta(&mut writer);
            runs.push(run.clone());
        }
        let read = |name: String| (name.clone(), fs::read(folder.path().join(name)).expect("it was written"));
        let files = names(folder.path()).into_iter().map(read).collect();
        Chain { folder, files, first, runs }
    }
}

/// The files of [`Chain`].
pub fn chain() -> Vec<Vec<u8>> {
    (0..).zip(Chain::new().files).flat_map(|(i, (_, bytes))| both(i, bytes)).collect()
}

/// Files of scores, with a digest and, as of before, without.
pub fn scores() -> Vec<Vec<u8>> {
    let before = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/before/scores.safetensors");
    let (about, mask) = file::load(&before).expect("a file of before is read");
    let (folder, before) = (scratch(), fs::read(before).expect("it is there"));
    let path = folder.path().join("f");
    file::save(&path, &about, &values(mask.weight_count()), &mask).expect("it can be saved");
    both(0, fs::read(path).expect("it was written"))
        .into_iter()
        .chain([[&[OPEN], &before[..]].concat()])
        .collect()
}

/// Pickles of Python 2 and 3, numpy 1 and 2, protocols 2 to 5.
pub fn pickle() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/data");
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("the fixtures are there").flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "pickle"));
    paths.sort();
    let fixtures = paths.iter().map(|path| fs::read(path).expect("it is there"));
    fixtures.chain([pickle_of(&batch(0))]).collect()
}

/// Archives of the binary version: packed, and to be packed.
pub fn archive() -> Vec<Vec<u8>> {
    let packed = tar_gz("cifar-10-batches-bin", &binary_files()[..2]);
    let mut tar = vec![];
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed[..]), &mut tar).expect("it unpacks");
    vec![[&[0], &packed[..]].concat(), [&[FORGED], &tar[..]].concat()]
}

/// A picture of a batch.
pub fn png() -> Vec<Vec<u8>> {
    both(0, png_of(&batch(0))).into()
}

/// A list of the training images' labels.
pub fn labels() -> Vec<Vec<u8>> {
    let labels: Vec<u8> = (0..5).flat_map(|i| labels_of(&batch(i))).collect();
    vec![serde_json::to_vec(&labels).expect("it can be serialised")]
}

/// The names of [`run_files`].
pub const RUN_FILES: [&str; 3] = ["config.json", "metrics.jsonl", "logs.tsv"];

/// What a run of two epochs leaves.
pub fn run_files() -> &'static [(&'static str, Vec<u8>)] {
    static FILES: OnceLock<Vec<(&str, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let metrics: Vec<String> = (1..=2)
            .map(|epoch| format!("{{\"epoch\":{epoch},\"data\":\"synthetic\",\"test_accuracy\":12.5}}\n"))
            .collect();
        let logs = "epoch\thours\ttop1Accuracy\n1\t0.00000000\t12.50\n2\t0.00000001\t13.00\n";
        let config = serde_json::to_vec(&Config::default()).expect("it can be serialised");
        let contents = [config, metrics.concat().into_bytes(), logs.into()];
        RUN_FILES.into_iter().zip(contents).collect()
    })
}

/// Each of a run's files, and a configuration of the version before.
pub fn run_folder() -> Vec<Vec<u8>> {
    let files = (0..).zip(run_files()).map(|(i, (_, content))| [&[i], &content[..]].concat());
    files.chain([[&[0], FORMER.as_bytes()].concat()]).collect()
}

/// Those that the program holds.
pub fn recipe() -> Vec<Vec<u8>> {
    BUILT_IN.iter().map(|(_, text)| text.as_bytes().to_vec()).collect()
}

/// A configuration of the version before settings had groups.
const FORMER: &str = include_str!("../../tests/fixtures/before/config.json");

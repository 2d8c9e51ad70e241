//! Files that commit 8110a6a wrote, in `tests/fixtures/before`: they are still read, and what is written
//! today from the same values has the same content, which that program reads.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::chain::{ID, place, small};
use fishmask::checkpoint::chain::{Chain, Part, Values, Velocity, Worker, Workers, WorkersState, Writer};
use fishmask::checkpoint::chain::{save_mask, save_workers};
use fishmask::checkpoint::full::{self, State};
use fishmask::checkpoint::{EpochExchange, Error, Hash, Moment, Progress, save_tensor, weights};
use fishmask::graph::layout::Parameter;
use fishmask::graph::{Model, ModelId};
use fishmask::mask::{Mask, Order, file};
use fishmask::ops::{Power, Totals};
use tempfile::tempdir;

fn before(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/before").join(name)
}

fn values(n: usize, salt: u32) -> Vec<f32> {
    (0..n as u32).map(|i| (i * 7 + salt) as f32 / 8.0 - 3.0).collect()
}

fn progress(epoch: u32, step: u32) -> Progress {
    let totals = Totals { loss: f64::NEG_INFINITY, correct: 3, images: u64::MAX };
    let (train_seconds, total_seconds) = (1.0 / 3.0, f64::from_bits(1));
    Progress { at: Moment::new(epoch, step), totals, train_seconds, total_seconds, ..Progress::default() }
}

/// A file's header as JSON, and its data.
fn content(path: &Path) -> (serde_json::Value, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let begin = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..begin]).unwrap(), bytes[begin..].to_vec())
}

/// Whether a folder's files hold what those of before do. In the header of a chain's file keys stand in
/// another order.
fn assert_content(folder: &Path, name: &str, files: usize) {
    let written: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(written.len(), files);
    for path in written {
        let old = before(name).join(path.file_name().unwrap());
        assert_eq!(content(&path), content(&old), "{}", path.display());
        assert_eq!(fs::metadata(&path).unwrap().len(), fs::metadata(&old).unwrap().len());
    }
}

const KEPT: [u32; 6] = [1, 4, 9, 23, 24, 28];

/// The weights before and after a delta, in memory order.
fn trained() -> [Vec<f32>; 2] {
    let (layout, first) = (small(), values(29, 1));
    let mut second = first.clone();
    KEPT.iter().for_each(|&index| second[place(&layout, index)] += 0.5);
    [first, second]
}

fn workers_state() -> WorkersState {
    let worker = |correct| Worker {
        totals: Totals { loss: 0.25, correct, images: 9 },
        values: 6,
        running: 10,
        velocity: 6,
    };
    let model = Hash::of_model(&small().to_canonical(&trained()[1]), &values(10, 3));
    let workers = vec![worker(0), worker(1)];
    // The file of before has here a text, of which nothing is known.
    WorkersState { at: Moment::new(1, 7), model, workers, exchange: EpochExchange::default() }
}

#[test]
fn chains_are_written_as_before() {
    for (name, kind) in [("f32", Values::F32), ("f16", Values::F16)] {
        let folder = tempdir().unwrap();
        let [first, second] = trained();
        let mut writer = Writer::open(folder.path(), ID, &small(), kind).unwrap();
        let source = |p: &Parameter| Ok::<_, Error>(first[p.range()].to_vec());
        let at = Progress { test_accuracy: Some(12.5), ..progress(1, 0) };
        writer.base(&at, &values(10, 2), source).unwrap();
        writer.mask(&KEPT, &values(10, 2), source).unwrap();
        let velocity = values(6, 5);
        let velocity = (kind == Values::F32).then_some(&velocity[..]);
        let source = |p: &Parameter| Ok::<_, Error>(second[p.range()].to_vec());
        writer.delta(&progress(1, 7), velocity, &values(10, 3), source).unwrap();
        assert_content(folder.path(), name, 3);
    }
}

/// The data alone: what the run wants back besides was a text, and has fields now.
#[test]
fn workers_states_are_written_as_before() {
    let (folder, state) = (tempdir().unwrap(), workers_state());
    let source = |rank: usize, part: Part, take: &mut dyn FnMut(&[f32])| {
        take(&values(state.workers[rank].length(part), rank as u32 + part as u32));
        Ok::<_, Error>(())
    };
    let path = save_workers(folder.path(), ID, &state, source).unwrap();
    let old = before("f32").join(path.file_name().unwrap());
    assert_eq!(content(&path).1, content(&old).1);
}

#[test]
fn chains_of_before_are_read() {
    let chain = crate::support::chain::verified(&before("f32"), &small());
    let restored = chain.load(Moment::new(1, 7)).unwrap();
    assert_eq!(restored.progress, progress(1, 7));
    assert_eq!((restored.weights, restored.running), (trained()[1].clone(), values(10, 3)));
    assert_eq!((restored.velocity, restored.mask), (Velocity::Kept(values(6, 5)), Some(KEPT.to_vec())));
    assert_eq!(chain.load(Moment::new(1, 0)).unwrap().progress.test_accuracy, Some(12.5));
    let workers = Workers::open(&Workers::path(&before("f32"), Moment::new(1, 7)), ID).unwrap();
    assert_eq!(workers.state, workers_state());
    assert_eq!(workers.read(1, Part::Velocity).unwrap(), values(6, 3));
    crate::support::chain::verified(&before("f16"), &small()).load(Moment::new(1, 7)).unwrap();
}

fn states() -> [State; 2] {
    let state = |epoch, velocity, mask| {
        let progress = progress(epoch, 3);
        State { progress, weights: values(29, 1), velocity, running: values(10, 2), mask }
    };
    [state(1, None, None), state(2, Some(values(29, 4)), Some(Hash::of_indices(&[0, 28])))]
}

#[test]
fn dense_files_are_written_bit_for_bit_as_before() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    save_tensor(&path("logits.safetensors"), "logits", vec![3, 4], &values(12, 0)).unwrap();
    fs::create_dir(path("full")).unwrap();
    let mut written = vec!["logits.safetensors".into()];
    for state in states() {
        let saved = full::save(&path("full"), ID, &small(), &state).unwrap();
        written.push(format!("full/{}", saved.file_name().unwrap().to_str().unwrap()));
    }
    for name in written {
        assert!(fs::read(path(&name)).unwrap() == fs::read(before(&name)).unwrap(), "{name}");
    }
    save_mask(&path("full"), ID, &small(), &[0, 28]).unwrap();
    assert_content(&path("full"), "full", 3);
}

/// With a digest in the metadata, which files of before lack.
#[test]
fn weights_and_scores_hold_the_tensors_of_before() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    weights::save(&path("final.safetensors"), ID, &small(), &values(29, 1), &values(10, 2)).unwrap();
    let n = Model::Resnet9.graph(1).unwrap().layout.weight_count();
    let mask = Mask::new(vec![0, 5, n as u32 - 1], n).unwrap();
    file::save(&path("scores.safetensors"), &about(), &values(n, 0), &mask).unwrap();
    for name in ["final.safetensors", "scores.safetensors"] {
        let [(mut new, data), (mut old, before)] = [path(name), before(name)].map(|path| content(&path));
        assert!(data == before, "{name}");
        let [new_entry, old_entry] =
            [&mut new, &mut old].map(|header| header.as_object_mut().unwrap().remove("__metadata__"));
        assert_eq!(new, old, "{name}");
        let new_entry = new_entry.unwrap()["fishmask"].as_str().unwrap().to_string();
        let mut entry: serde_json::Value = serde_json::from_str(&new_entry).unwrap();
        let check = entry.as_object_mut().unwrap().remove("check").unwrap();
        // As docs/checkpoints.md has it: of the data, then of the JSON without the digits.
        let blank = new_entry.replace(check.as_str().unwrap(), "");
        let digest = blake3::Hasher::new().update(&data).update(blank.as_bytes()).finalize();
        assert_eq!(check, digest.to_hex().as_str(), "{name}");
        let expected = match old_entry {
            Some(entry) => serde_json::from_str(entry["fishmask"].as_str().unwrap()).unwrap(),
            None => serde_json::json!({ "format": 1, "kind": "weights", "model": "resnet9", "width": 4 }),
        };
        assert_eq!(entry, expected, "{name}");
    }
}

fn about() -> file::About {
    file::About {
        kind: file::Scores::Scores,
        id: ModelId::new(Model::Resnet9, 1),
        keep_ratio: 0.02,
        samples: 64,
        order: Order::Shuffled,
        augment: true,
        seed: 3,
        power: Power::Square,
        expect: false,
        running: true,
        made: None,
    }
}

#[test]
fn dense_files_of_before_are_read() {
    let loaded = weights::load(&before("final.safetensors"), &small()).unwrap();
    assert_eq!((loaded.weights, loaded.running), (values(29, 1), values(10, 2)));
    for state in states() {
        let name = format!("full/epoch-{:04}-step-00003.safetensors", state.progress.at.epoch);
        assert_eq!(full::load(&before(&name), ID, &small()).unwrap(), state);
    }
    let chain = Chain::read(&before("full"), ID, &small()).unwrap();
    assert_eq!(chain.load_latest().unwrap().unwrap().mask, Some(vec![0, 28]));
    let (found, mask) = file::load(&before("scores.safetensors")).unwrap();
    assert_eq!((found, mask.len()), (about(), 3));
}

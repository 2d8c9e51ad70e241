//! The state of several workers beside a checkpoint: round trips, damage, pruning, verification.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::chain::forge::{Named, forged};
use crate::support::chain::{ID, Run, bits, names, small, verified};
use fishmask::checkpoint::chain::{Chain, Part, Velocity, Worker, Workers, WorkersState, save_workers};
use fishmask::checkpoint::full::{self, State};
use fishmask::checkpoint::{EpochExchange, Error, Hash, Moment, Problem, Progress};
use fishmask::graph::{Model, ModelId};
use fishmask::ops::Totals;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

/// A value of a worker's tensor; some are of the awkward kind.
fn value(rank: usize, part: Part, i: usize) -> f32 {
    let bits = [0x8000_0000, 0x7fc0_1234, 0xffa0_0001, 0x0000_0001, 0x7f80_0000];
    let n = 1000 * rank + 100 * part as usize + i;
    bits.get(n % 7).map_or(n as f32, |&bits| f32::from_bits(bits))
}

fn values(rank: usize, part: Part, length: usize) -> Vec<f32> {
    (0..length).map(|i| value(rank, part, i)).collect()
}

/// Workers of different lengths, one with no velocity.
fn state(run: &Run, workers: usize) -> WorkersState {
    let worker = |rank: usize| Worker {
        totals: Totals { loss: f64::NEG_INFINITY, correct: rank as u64, images: u64::MAX },
        values: 5 + rank,
        running: 10,
        velocity: if rank == 2 { 0 } else { 5 },
    };
    let model = Hash::of_model(&run.layout.to_canonical(&run.weights), &run.running);
    let at = run.progress.at;
    let bytes =
        EpochExchange { merges: 3, dense: u64::MAX, sent: 1 << 53 | 1, received: 7, ..Default::default() };
    let exchange = EpochExchange { waiting: 0.1, exchanging: 1.0 / 3.0, ..bytes };
    WorkersState { at, model, workers: (0..workers).map(worker).collect(), exchange }
}

/// Writes it, in slices of three values.
fn save(folder: &Path, state: &WorkersState) -> PathBuf {
    let source = |rank: usize, part: Part, take: &mut dyn FnMut(&[f32])| {
        values(rank, part, state.workers[rank].length(part)).chunks(3).for_each(take);
        Ok::<_, Error>(())
    };
    save_workers(folder, ID, state, source).unwrap()
}

#[track_caller]
fn assert_read(workers: &Workers, state: &WorkersState) {
    assert_eq!(&workers.state, state);
    // In any order, and again.
    for rank in (0..state.workers.len()).rev().chain(0..state.workers.len()) {
        for part in [Part::Velocity, Part::Values, Part::Running] {
            let expected = values(rank, part, state.workers[rank].length(part));
            assert_eq!(bits(&workers.read(rank, part).unwrap()), bits(&expected));
        }
    }
}

/// A base and two deltas of one mask, each with its workers.
struct Fixture {
    folder: TempDir,
    states: Vec<WorkersState>,
}

impl Fixture {
    fn new() -> Fixture {
        let folder = tempdir().unwrap();
        let mut run = Run::new(small());
        let mut writer = run.open(folder.path());
        run.base(&mut writer);
        run.choose(5);
        run.begin_mask(&mut writer);
        let mut states = vec![];
        for epoch in 1..=2 {
            run.train(epoch, 0);
            states.push(state(&run, 2));
            save(folder.path(), &states[states.len() - 1]);
            writer.delta(&run.progress, None, &run.running, run.source()).unwrap();
        }
        Fixture { folder, states }
    }

    fn path(&self, epoch: u32) -> PathBuf {
        Workers::path(self.folder.path(), Moment::new(epoch, 0))
    }

    fn read(&self) -> Chain {
        Chain::read(self.folder.path(), ID, &small()).unwrap()
    }

    /// What is said of the newest file with its metadata and tensors changed, and its guard put right.
    fn forge(&self, change: impl FnOnce(&mut Value, &mut Vec<Named>)) -> String {
        let path = self.path(2);
        fs::write(&path, forged(&path, change)).unwrap();
        let error = Workers::open(&path, ID).unwrap_err();
        assert_eq!(error.path(), path);
        error.to_string()
    }
}

#[test]
fn workers_round_trip_bit_for_bit() {
    for workers in [1, 2, 3, 11] {
        let folder = tempdir().unwrap();
        let state = state(&Run::new(small()), workers);
        let path = save(folder.path(), &state);
        assert_eq!(path, Workers::path(folder.path(), Moment::default()));
        let open = Workers::open(&path, ID).unwrap();
        assert_read(&open, &state);
        open.check_model(state.model).unwrap();
        // What is open is not what is written later.
        save(folder.path(), &WorkersState { workers: vec![Worker::default()], ..state.clone() });
        assert_read(&open, &state);
        // The format's own library reads it as well.
        let bytes = fs::read(&path).unwrap();
        assert_eq!(SafeTensors::deserialize(&bytes).unwrap().len(), 3);
    }
}

#[test]
fn a_source_that_fails_leaves_the_old_file() {
    let f = Fixture::new();
    let (before, mut asked) = (names(f.folder.path()), 0);
    let error = save_workers(f.folder.path(), ID, &f.states[1], |rank, part, take| {
        asked += 1;
        take(&values(rank, part, f.states[1].workers[rank].length(part)));
        if asked == 4 { Err(fishmask::train::Error::NoVelocity) } else { Ok(()) }
    });
    assert!(matches!(error.unwrap_err(), fishmask::train::Error::NoVelocity));
    assert_eq!(names(f.folder.path()), before);
    assert_read(&Workers::open(&f.path(2), ID).unwrap(), &f.states[1]);
}

#[test]
fn the_chain_knows_them() {
    let f = Fixture::new();
    let chain = verified(f.folder.path(), &small());
    assert_eq!(chain.checkpoints().len(), 3);
    let paths: Vec<Option<PathBuf>> =
        chain.checkpoints().iter().map(|c| chain.workers(c).map(|file| file.path.clone())).collect();
    assert_eq!(paths, [None, Some(f.path(1)), Some(f.path(2))]);
    assert_eq!(chain.verify().len(), 6);
    let restored = chain.load_latest().unwrap().unwrap();
    assert_eq!((restored.progress.at.epoch, restored.velocity), (2, Velocity::Absent));
}

/// For every change: it is not opened, verification fails, and the merged model is what it was.
fn every_change_is_found(changes: impl Fn(&[u8]) -> Vec<Vec<u8>>) {
    let f = Fixture::new();
    let before = f.read().load(Moment::new(2, 0)).unwrap();
    let good = fs::read(f.path(2)).unwrap();
    for (i, bad) in changes(&good).into_iter().enumerate() {
        fs::write(f.path(2), bad).unwrap();
        let error = Workers::open(&f.path(2), ID).expect_err(&format!("change {i}"));
        assert_eq!(error.path(), f.path(2));
        let chain = f.read();
        let bad: Vec<_> = chain.verify().into_iter().filter(|file| file.result.is_err()).collect();
        assert!(bad.len() == 1 && bad[0].path == f.path(2), "change {i}: {bad:?}");
        assert_eq!(bits(&chain.load_latest().unwrap().unwrap().weights), bits(&before.weights));
    }
    fs::write(f.path(2), good).unwrap();
    verified(f.folder.path(), &small());
}

#[test]
fn cut_anywhere_or_longer() {
    every_change_is_found(|good| {
        let cuts = (0..good.len()).map(|length| good[..length].to_vec());
        cuts.chain([[good, b"\0"].concat(), [good, good].concat()]).collect()
    });
}

#[test]
fn one_bit_flipped_in_every_byte() {
    every_change_is_found(|good| {
        let flip = |byte: usize| {
            let mut bad = good.to_vec();
            bad[byte] ^= 1 << (byte % 8);
            bad
        };
        (0..good.len()).map(flip).collect()
    });
}

#[test]
fn what_is_missing_or_of_another_model_is_said() {
    let f = Fixture::new();
    let other = Workers::open(&f.path(1), ModelId::new(Model::Resnet9, 5)).unwrap_err().to_string();
    assert!(other.ends_with("a checkpoint of resnet9 of width 4, not of resnet9 of width 5"), "{other}");
    fs::remove_file(f.path(1)).unwrap();
    let error = Workers::open(&f.path(1), ID).unwrap_err();
    assert_eq!(error.path(), f.path(1));
    let text = error.to_string();
    assert!(text.contains("is missing; put it back, or remove that checkpoint"), "{text}");
    // A file under another's name.
    fs::rename(f.path(2), f.path(1)).unwrap();
    let text = Workers::open(&f.path(1), ID).unwrap_err().to_string();
    assert!(text.contains("its content is that of epoch-0002-step-00000.workers.safetensors"), "{text}");
    let delta = f.folder.path().join("epoch-0002-step-00000.delta.safetensors");
    let text = Workers::open(&delta, ID).unwrap_err().to_string();
    assert!(text.ends_with("it holds no workers"), "{text}");
}

#[test]
fn tensors_that_are_not_three_a_worker_are_refused() {
    let forge = |change: fn(&mut Value, &mut Vec<Named>)| Fixture::new().forge(change);
    let text = forge(|_, tensors| drop(tensors.remove(4)));
    assert!(text.ends_with("its workers number 2, and its tensors 5, not 6"), "{text}");
    let text = forge(|json, _| drop(json["totals"].as_array_mut().unwrap().pop()));
    assert!(text.ends_with("its workers number 1, and its tensors 6, not 3"), "{text}");
    let text = forge(|json, tensors| {
        json["totals"] = json!([]);
        tensors.clear();
    });
    assert!(text.ends_with("it tells of no worker"), "{text}");
    let text = forge(|_, tensors| tensors[5].0 = "worker.2.velocity".into());
    assert!(text.ends_with("tensor worker.1.velocity is missing"), "{text}");
    let text = forge(|_, tensors| tensors[0].1 = Dtype::I32);
    assert!(text.ends_with("tensor worker.0.values: expected dtype F32, found I32"), "{text}");
    let text = forge(|_, tensors| tensors[1].2 = vec![2, 5]);
    assert!(text.ends_with("tensor worker.0.running: expected shape [10], found [2, 5]"), "{text}");
    let text = forge(|_, tensors| tensors[1].2 = vec![usize::MAX]);
    assert!(
        text.contains("tensor worker.0.running of F32 and shape [18446744073709551615] cannot"),
        "{text}"
    );
    let text = forge(|_, tensors| {
        let name = std::mem::take(&mut tensors[0].0);
        tensors[0].0 = std::mem::replace(&mut tensors[5].0, name);
    });
    assert!(text.ends_with("tensor worker.0.values is not in its place"), "{text}");
    let text = forge(|json, _| json["totals"][0]["loss"] = json!("1.0"));
    assert!(text.contains("expected 16 hex digits"), "{text}");
}

#[test]
fn verification_wants_the_merged_model_of_the_checkpoint() {
    let f = Fixture::new();
    let model = f.states[0].model;
    save(f.folder.path(), &WorkersState { model, ..f.states[1].clone() });
    let bad: Vec<_> = f.read().verify().into_iter().filter(|file| file.result.is_err()).collect();
    assert_eq!(bad.len(), 1);
    let error = bad.into_iter().next().unwrap().result.unwrap_err();
    assert!(matches!(error.problem(), Problem::OtherWorkers { .. }), "{error}");
    assert_eq!(error.path(), f.path(2));
    // Nor is anything pruned while what is to be kept is not good.
    let before = names(f.folder.path());
    assert!(f.read().prune(1).is_err());
    assert_eq!(names(f.folder.path()), before);
}

#[test]
fn pruned_after_their_checkpoints() {
    let f = Fixture::new();
    // A program killed before it wrote the checkpoint.
    save(f.folder.path(), &WorkersState { at: Moment::new(3, 0), ..f.states[1].clone() });
    verified(f.folder.path(), &small());
    let before: HashMap<String, Vec<u8>> = names(f.folder.path())
        .into_iter()
        .map(|name| (name.clone(), fs::read(f.folder.path().join(name)).unwrap()))
        .collect();
    let pruned = f.read().prune(1).unwrap();
    let removed: Vec<_> =
        pruned.removed.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(
        removed,
        [
            "epoch-0001-step-00000.delta.safetensors",
            "epoch-0001-step-00000.workers.safetensors",
            "epoch-0003-step-00000.workers.safetensors"
        ]
    );
    let left = names(f.folder.path());
    assert_read(&Workers::open(&f.path(2), ID).unwrap(), &f.states[1]);
    verified(f.folder.path(), &small());
    // Cut short anywhere, no checkpoint is without its workers, and the next one removes the rest.
    for removals in 0..=removed.len() {
        before.iter().for_each(|(name, bytes)| fs::write(f.folder.path().join(name), bytes).unwrap());
        removed[..removals].iter().for_each(|name| fs::remove_file(f.folder.path().join(name)).unwrap());
        let chain = verified(f.folder.path(), &small());
        let deltas = chain.checkpoints().iter().skip(1);
        assert!(deltas.into_iter().all(|c| chain.workers(c).is_some()), "{removals}");
        chain.prune(1).unwrap();
        assert_eq!(names(f.folder.path()), left);
    }
}

#[test]
fn beside_full_checkpoints_the_newest_two_stay() {
    let folder = tempdir().unwrap();
    let mut run = Run::new(small());
    for epoch in 1..=4 {
        run.train(epoch, 0);
        save(folder.path(), &state(&run, 2));
        if epoch == 2 {
            // A program killed here goes on from epoch 1.
            continue;
        }
        let state = State {
            progress: Progress { at: Moment::new(epoch, 0), ..Progress::default() },
            weights: run.weights.clone(),
            velocity: None,
            running: run.running.clone(),
            mask: None,
        };
        full::save(folder.path(), ID, &small(), &state).unwrap();
        let chain = verified(folder.path(), &small());
        assert!(chain.checkpoints().iter().all(|c| chain.workers(c).is_some()));
    }
    assert_eq!(
        names(folder.path()),
        [
            "epoch-0003-step-00000.safetensors",
            "epoch-0003-step-00000.workers.safetensors",
            "epoch-0004-step-00000.safetensors",
            "epoch-0004-step-00000.workers.safetensors"
        ]
    );
    // Those of another model are found out.
    let other = WorkersState { at: Moment::new(3, 0), ..state(&run, 2) };
    save(folder.path(), &other);
    let chain = Chain::read(folder.path(), ID, &small()).unwrap();
    assert!(chain.verify().iter().any(|file| file.result.is_err()));
}

/// Later ones than the one just written are of another run, and left alone; and a delta keeps its own.
#[test]
fn full_checkpoints_leave_others_workers_alone() {
    let f = Fixture::new();
    save(f.folder.path(), &WorkersState { at: Moment::new(9, 0), ..f.states[1].clone() });
    let state = State {
        progress: Progress { at: Moment::new(3, 0), ..Progress::default() },
        weights: vec![0.0; 29],
        velocity: None,
        running: vec![0.0; 10],
        mask: None,
    };
    full::save(f.folder.path(), ID, &small(), &state).unwrap();
    assert!([1, 2, 9].iter().all(|&epoch| f.path(epoch).exists()));
}

#[test]
fn the_program_lists_and_verifies_them() {
    let folder = tempdir().unwrap();
    let mut run = Run::new(Model::Resnet9.graph(4).unwrap().layout);
    let mut writer = run.open(folder.path());
    run.base(&mut writer);
    run.choose(50);
    run.begin_mask(&mut writer);
    let out = |action: &str| {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("fishmask"));
        command.arg("checkpoint");
        let output = command.arg(action).arg(folder.path()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    assert!(out("list").1.contains(" of dense  test %\n"));
    run.train(1, 0);
    let path = save(folder.path(), &state(&run, 2));
    writer.delta(&run.progress, None, &run.running, run.source()).unwrap();
    let (bytes, list) = (path.metadata().unwrap().len(), out("list").1);
    let ends: Vec<&str> = list.lines().skip(1).map(|line| line.rsplit("  ").next().unwrap().trim()).collect();
    assert_eq!(ends, ["test % workers' bytes", "-", &bytes.to_string()], "{list}");
    assert_eq!(
        out("verify"),
        (true, {
            let names = names(folder.path());
            let mask = names.iter().find(|name| name.starts_with("mask-")).unwrap();
            format!(
                "good  {mask}\ngood  base-0000-step-00000.safetensors\n\
                 good  epoch-0001-step-00000.delta.safetensors\n\
                 good  epoch-0001-step-00000.workers.safetensors\nall 4 files are good\n"
            )
        })
    );
    save(folder.path(), &WorkersState { model: Hash::of_indices(&[]), ..state(&run, 2) });
    let (good, text) = out("verify");
    assert!(!good && text.ends_with("1 of 4 files are bad\n"), "{text}");
}

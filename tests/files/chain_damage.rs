//! Chains with files that are missing, damaged, or say what cannot be: always an error that names the file,
//! never other weights.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::chain::forge::{Named, forged};
use crate::support::chain::{ID, Run, bits, names, small};
use fishmask::checkpoint::chain::Chain;
use fishmask::checkpoint::{Error, Hash, Moment, Problem, weights};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

const BASE: &str = "base-0000-step-00000.safetensors";
const FIRST: &str = "epoch-0001-step-00000.delta.safetensors";
const SECOND: &str = "epoch-0002-step-00000.delta.safetensors";

/// A base, and a delta of each of two masks.
struct Fixture {
    folder: TempDir,
    runs: Vec<Run>,
}

impl Fixture {
    fn new() -> Fixture {
        let folder = tempdir().unwrap();
        let mut run = Run::new(small());
        let mut writer = run.open(folder.path());
        run.base(&mut writer);
        let mut runs = vec![];
        for epoch in 1..=2 {
            run.choose(5);
            run.begin_mask(&mut writer);
            run.train(epoch, 0);
            run.delta(&mut writer);
            runs.push(run.clone());
        }
        Fixture { folder, runs }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn mask_name(&self, epoch: usize) -> String {
        format!("mask-{}.safetensors", Hash::of_indices(&self.runs[epoch - 1].mask).short())
    }

    fn read(&self) -> Chain {
        Chain::read(self.folder.path(), ID, &small()).unwrap()
    }

    #[track_caller]
    fn refusal(&self, epoch: u32) -> Error {
        self.read().load(Moment::new(epoch, 0)).unwrap_err()
    }

    /// Rewrites a file with other tensors or metadata, and a guard that fits them. `name` is the file's new
    /// name.
    fn forge(&self, from: &str, name: &str, change: impl FnOnce(&mut Value, &mut Vec<Named>)) {
        let bytes = forged(&self.path(from), change);
        fs::remove_file(self.path(from)).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }
}

/// For every change of every file: verification fails, and each epoch restores to what it was or is an error
/// that names the file.
fn every_change_is_found(changes: impl Fn(&[u8]) -> Vec<Vec<u8>>) {
    let f = Fixture::new();
    for name in names(f.folder.path()) {
        let good = fs::read(f.path(&name)).unwrap();
        for (i, bad) in changes(&good).into_iter().enumerate() {
            fs::write(f.path(&name), bad).unwrap();
            let chain = f.read();
            assert!(chain.verify().iter().any(|file| file.result.is_err()), "{name}, change {i}");
            for (epoch, run) in (1..).zip(&f.runs) {
                match chain.load(Moment::new(epoch, 0)) {
                    Ok(restored) => {
                        // Of files that this epoch does not need.
                        let mask = f.mask_name(2);
                        assert!(epoch == 1 && (name == SECOND || name == mask), "{name}, change {i}");
                        assert_eq!(bits(&restored.weights), bits(&run.weights));
                    }
                    Err(error) => {
                        assert!(
                            error.to_string().contains(&name),
                            "{name}, change {i}, epoch {epoch}: {error}"
                        );
                    }
                }
            }
        }
        fs::write(f.path(&name), good).unwrap();
    }
    crate::support::chain::verified(f.folder.path(), &small());
}

#[test]
fn cut_anywhere() {
    every_change_is_found(|good| (0..good.len()).map(|length| good[..length].to_vec()).collect());
}

#[test]
fn one_bit_flipped_anywhere() {
    // Each byte has one of its bits flipped; every 16th byte all of them in turn.
    every_change_is_found(|good| {
        let mut changed = vec![];
        for byte in 0..good.len() {
            for bit in 0..8 {
                if byte % 16 == 0 || bit == byte % 8 {
                    let mut bad = good.to_vec();
                    bad[byte] ^= 1 << bit;
                    changed.push(bad);
                }
            }
        }
        changed
    });
}

#[test]
fn bytes_after_the_end() {
    every_change_is_found(|good| vec![[good, b"\0"].concat()]);
}

#[test]
fn a_missing_parent_is_named_by_its_hash() {
    let f = Fixture::new();
    let parent = f.read().checkpoints()[1].model.unwrap();
    fs::remove_file(f.path(FIRST)).unwrap();
    let text = f.refusal(2).to_string();
    let expected = format!(
        "{}: its parent, the checkpoint whose weights have BLAKE3 {parent}, is missing; put it back, or \
         remove this file",
        f.path(SECOND).display()
    );
    assert_eq!(text, expected);
    fs::remove_file(f.path(BASE)).unwrap();
    assert!(matches!(f.refusal(2).problem(), Problem::ParentMissing { .. }));
}

#[test]
fn a_missing_mask_is_named() {
    let f = Fixture::new();
    fs::remove_file(f.path(&f.mask_name(1))).unwrap();
    for (epoch, name) in [(1, FIRST), (2, FIRST)] {
        let error = f.refusal(epoch);
        assert_eq!(error.path(), f.path(name));
        assert!(error.to_string().contains(&format!("its mask {} is missing", f.mask_name(1))), "{error}");
    }
}

#[test]
fn a_delta_with_another_masks_name_or_another_hash_restores_nothing() {
    let f = Fixture::new();
    let other = Hash::of_indices(&f.runs[1].mask).to_string();
    f.forge(FIRST, FIRST, |json, _| json["mask"] = json!(other));
    let error = f.refusal(1);
    assert!(matches!(error.problem(), Problem::Restored { .. }), "{error}");
    assert_eq!(error.path(), f.path(FIRST));

    let f = Fixture::new();
    f.forge(SECOND, SECOND, |json, _| json["weights"] = json!("0".repeat(64)));
    assert!(matches!(f.refusal(2).problem(), Problem::Restored { .. }));
    // Not only its own: each on the way.
    let f = Fixture::new();
    let wrong = "1".repeat(64);
    f.forge(FIRST, FIRST, |json, _| json["weights"] = json!(wrong));
    f.forge(SECOND, SECOND, |json, _| json["parent"] = json!(wrong));
    let error = f.refusal(2);
    assert!(matches!(error.problem(), Problem::Restored { .. }), "{error}");
    assert_eq!(error.path(), f.path(FIRST));
}

#[test]
fn a_base_whose_weights_are_not_its_hashs_is_refused() {
    let f = Fixture::new();
    f.forge(BASE, BASE, |_, tensors| tensors[0].3[0] ^= 1);
    let error = f.refusal(1);
    assert!(matches!(error.problem(), Problem::Restored { .. }), "{error}");
    assert_eq!(error.path(), f.path(BASE));
}

#[test]
fn indices_out_of_range_unsorted_or_repeated_are_refused() {
    for (indices, expected) in [
        ([0, 1, 2, 3, 29], "indices[4] = 29: out of range; the model has 29 weights"),
        ([0, 1, 2, 3, u32::MAX], "indices[4] = 4294967295: out of range"),
        ([0, 2, 1, 3, 4], "indices[2] = 1: less than 2 before it"),
        ([0, 1, 1, 3, 4], "indices[2] = 1: it is there twice"),
    ] {
        let f = Fixture::new();
        let hash = Hash::of_indices(&indices);
        let name = format!("mask-{}.safetensors", hash.short());
        f.forge(&f.mask_name(1), &name, |json, tensors| {
            json["mask"] = json!(hash);
            tensors[0].3 = indices.iter().flat_map(|i| i.to_le_bytes()).collect();
        });
        f.forge(FIRST, FIRST, |json, _| json["mask"] = json!(hash));
        let error = f.refusal(1);
        assert_eq!(error.path(), f.path(&name));
        assert!(error.to_string().contains(expected), "{error}");
        // Nor is such a mask written.
        let run = &f.runs[1];
        let error = run.open(f.folder.path()).mask(&indices, &run.running, run.source()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_mask_of_other_indices_than_its_hashs_is_refused() {
    let f = Fixture::new();
    let name = f.mask_name(1);
    f.forge(&name, &name, |_, tensors| tensors[0].3 = (0..5_u32).flat_map(|i| i.to_le_bytes()).collect());
    let error = f.refusal(1);
    assert_eq!(error.path(), f.path(&name));
    assert!(matches!(error.problem(), Problem::Damaged { .. }), "{error}");
}

#[test]
fn tensors_of_another_length_type_or_name_are_refused() {
    let text = |change: fn(&mut Value, &mut Vec<Named>)| {
        let f = Fixture::new();
        f.forge(FIRST, FIRST, change);
        let error = f.refusal(1);
        assert_eq!(error.path(), f.path(FIRST));
        error.to_string()
    };
    // running, velocity, values
    fn short(tensor: &mut Named) {
        tensor.2[0] -= 1;
        tensor.3.truncate(4 * tensor.2[0]);
    }
    assert!(text(|_, t| short(&mut t[0])).contains("running: expected shape [10], found [9]"));
    assert!(text(|_, t| short(&mut t[1])).contains("velocity: expected shape [5], found [4]"));
    assert!(text(|_, t| short(&mut t[2])).contains("values: expected shape [5], found [4]"));
    assert!(text(|_, t| t[2].2 = vec![1, 5]).contains("values: expected shape [5], found [1, 5]"));
    assert!(text(|_, t| t[2].1 = Dtype::U32).contains("tensor values: expected dtype F32 or F16, found U32"));
    assert!(text(|_, t| t[1].0 = "momentum".into()).contains("tensor momentum of shape [5] is not one of"));
    assert!(text(|_, t| drop(t.remove(2))).contains("tensor values of shape [5] is missing"));
    // Nor has a mask anything but its indices.
    let f = Fixture::new();
    let name = f.mask_name(1);
    f.forge(&name, &name, |_, t| t.push(("weights".into(), Dtype::F32, vec![1], vec![0; 4])));
    let error = f.refusal(1);
    assert_eq!(error.path(), f.path(&name));
    assert!(error.to_string().contains("tensor weights of shape [1] is not one of"), "{error}");
}

#[test]
fn files_of_another_model_format_or_kind_are_refused() {
    let f = Fixture::new();
    f.forge(BASE, BASE, |json, _| json["width"] = json!(5));
    let text = f.read().broken()[0].to_string();
    assert!(text.contains("a checkpoint of resnet9 of width 5, not of resnet9 of width 4"), "{text}");
    let text = f.refusal(1).to_string();
    assert!(text.contains(&format!("unless it is the unreadable {}", f.path(BASE).display())), "{text}");

    for (change, expected) in [
        (json!({ "format": 2 }), "its format is version 2; this program reads version 1"),
        (json!({ "kind": "tail" }), "unknown variant `tail`"),
        (json!({ "width": 0 }), "its width is 0"),
        (json!({ "width": 1_u64 << 60 }), "its width is 1152921504606846976"),
        (json!({ "epoch": 3 }), "its content is that of epoch-0003-step-00000.delta.safetensors; rename it"),
        (json!({ "epoch": -1 }), "invalid value"),
        (json!({ "mask": "abc" }), "expected 64 lower-case hexadecimal digits"),
    ] {
        let f = Fixture::new();
        f.forge(FIRST, FIRST, |json, _| {
            change.as_object().unwrap().iter().for_each(|(key, value)| json[key] = value.clone());
        });
        let error = f.refusal(1);
        assert_eq!(error.path(), f.path(FIRST));
        let broken = f.read().broken()[0].to_string();
        assert!(broken.contains(expected), "{broken}");
    }
}

#[test]
fn weights_of_another_program_are_no_base() {
    let f = Fixture::new();
    weights::save(&f.path(BASE), ID, &small(), &[0.0; 29], &[0.0; 10]).unwrap();
    let text = f.read().broken()[0].to_string();
    assert!(
        text.contains(
            "not a file of a checkpoint chain: metadata entry `fishmask`: unknown variant `weights`"
        ),
        "{text}"
    );
    assert!(f.refusal(1).to_string().contains(BASE));
}

#[test]
fn what_is_not_there_is_said() {
    let f = Fixture::new();
    let text = f.refusal(7).to_string();
    assert!(text.ends_with("holds no checkpoint of epoch 7; there are epoch 0, epoch 1, epoch 2"), "{text}");
    let empty = tempdir().unwrap();
    assert!(matches!(Chain::find(empty.path()).unwrap_err().problem(), Problem::Empty));
    assert!(Chain::find(Path::new("absent")).unwrap_err().to_string().contains("absent: cannot list it"));
}

/// Equal weights at different times, as a learning rate of 0 gives, make no circle of parents.
#[test]
fn equal_weights_make_no_circle() {
    let folder = tempdir().unwrap();
    let mut run = Run::new(small());
    let mut writer = run.open(folder.path());
    run.base(&mut writer);
    for epoch in 1..=3 {
        run.choose(4);
        run.begin_mask(&mut writer);
        run.progress.at.epoch = epoch;
        run.delta(&mut writer);
    }
    let chain = crate::support::chain::verified(folder.path(), &small());
    run.assert_restored(&chain.load(Moment::new(3, 0)).unwrap());
    chain.prune(1).unwrap();
    run.assert_restored(
        &crate::support::chain::verified(folder.path(), &small()).load(Moment::new(3, 0)).unwrap(),
    );
}

//! Weights as other people have them, as a user gives them to `evaluate` and `mask`.

use std::fs;
use std::path::Path;

use crate::support::cli::{SMALL_MODEL, evaluate, finish, mask, succeed};
use crate::support::safetensors::{Entry, file};
use fishmask::checkpoint::weights;
use fishmask::graph::{Model, ModelId};
use safetensors::SafeTensors;
use tempfile::{TempDir, tempdir};

/// A folder with `ours.safetensors`, resnet9 of width 2.
fn folder() -> TempDir {
    let (folder, id) = (tempdir().unwrap(), ModelId::new(Model::Resnet9, 2));
    let layout = id.graph().unwrap().layout;
    let (first, running) = (layout.initial_weights(5), layout.initial_statistics());
    weights::save(&folder.path().join("ours.safetensors"), id, &layout, &first, &running).unwrap();
    folder
}

/// Its tensors, as another program has them: without metadata.
fn tensors(folder: &Path, prefix: &str) -> Vec<Entry> {
    let bytes = fs::read(folder.join("ours.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let entry = |(name, view): (String, safetensors::tensor::TensorView)| Entry {
        name: format!("{prefix}{name}"),
        dtype: "F32",
        shape: view.shape().to_vec(),
        data: view.data().to_vec(),
    };
    file.tensors().into_iter().map(entry).collect()
}

fn flags(name: &str) -> String {
    format!("{SMALL_MODEL} --weights {name}")
}

#[track_caller]
fn refusal(folder: &Path, name: &str) -> String {
    let evaluated = finish(evaluate(folder, &format!("{} --count 50", flags(name))).output().unwrap());
    let out = format!("{} --fisher-samples 4 --keep-ratio 0.1 --out mask.safetensors", flags(name));
    let masked = finish(mask(folder, &out).output().unwrap());
    assert_eq!(evaluated, masked, "both read weights alike");
    let (code, out, err) = evaluated;
    assert_eq!((code, &out[..], err.lines().count()), (Some(1), "", 1), "{err}");
    assert!(err.starts_with(&format!("error: {name}: ")), "{err}");
    assert!(!folder.join("mask.safetensors").exists());
    err
}

#[test]
fn wrapped_weights_evaluate_alike_and_the_wrapping_is_named() {
    let folder = folder();
    let path = folder.path();
    let (ours, err) = succeed(evaluate(path, &format!("{} --count 50", flags("ours.safetensors"))));
    assert_eq!(err, "");
    for prefix in ["module.", "_orig_mod.", "model.", "module._orig_mod."] {
        fs::write(path.join("w.safetensors"), file(None, &tensors(path, prefix))).unwrap();
        let (out, err) = succeed(evaluate(path, &format!("{} --count 50", flags("w.safetensors"))));
        assert_eq!(out, ours);
        assert_eq!(err, format!("w.safetensors: read without {prefix}, with which all its names begin\n"));
    }
    let masking = "--fisher-samples 4 --keep-ratio 0.1 --out mask.safetensors";
    let (_, err) = succeed(mask(path, &format!("{} {masking}", flags("w.safetensors"))));
    assert!(err.starts_with("w.safetensors: read without module._orig_mod., "), "{err}");
}

#[test]
fn what_is_no_number_or_no_weights_is_one_sentence() {
    let folder = folder();
    let path = folder.path();
    let mut bad = tensors(path, "");
    let linear = bad.iter_mut().find(|entry| entry.name == "linear.weight").unwrap();
    linear.data[4 * 17..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(path.join("nan.safetensors"), file(None, &bad)).unwrap();
    let err = refusal(path, "nan.safetensors");
    assert!(err.contains("tensor linear.weight[1, 1] is NaN; "), "{err}");
    fs::write(path.join("lfs"), "version https://git-lfs.github.com/spec/v1\noid sha256:00\n").unwrap();
    assert!(refusal(path, "lfs").contains("not a safetensors file but a Git LFS pointer; fetch"));
    // A bit of ours.
    let mut bytes = fs::read(path.join("ours.safetensors")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path.join("bit.safetensors"), bytes).unwrap();
    assert!(refusal(path, "bit.safetensors").contains("damaged: the BLAKE3 of its content should be"));
}

//! The readers, each with what must hold of an input that it takes. A target returns whether the input was
//! taken, and panics where it must not have been.
//!
//! Of most inputs the first byte is no part of the file: it says which file of a folder the rest is and, in
//! its two highest bits, whether checksums are put right before the file is read, and whether it has any.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};

use fishmask::checkpoint::chain::{Chain, Velocity};
use fishmask::checkpoint::{full, weights as weights_};
use fishmask::data::archive::members;
use fishmask::data::pickle::Pickle;
use fishmask::data::sets::cifar10::binary::RECORD;
use fishmask::data::sets::cifar10::{npm, python};
use fishmask::mask::file;
use fishmask::records::RunFolder;
use fishmask::settings::recipes;
use safetensors::{Dtype, SafeTensors};
use tempfile::TempDir;

use crate::chain::{ID, bits, small};
use crate::data::RECORDS;
use crate::input::{FORGED, OPEN, scratch};
use crate::{forge, seeds};

/// A reader.
pub struct Target {
    pub name: &'static str,
    /// Makes good inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads an input.
    pub body: fn(&[u8]) -> bool,
    /// Whether a digest guards every bit of the seeds' files but those [`OPEN`]: each bit is then flipped.
    pub guarded: bool,
}

/// All of them.
pub const TARGETS: [Target; 10] = [
    Target { name: "weights", seeds: seeds::weights, body: weights, guarded: true },
    Target { name: "full_checkpoint", seeds: seeds::full_checkpoint, body: full_checkpoint, guarded: true },
    Target { name: "chain", seeds: seeds::chain, body: chain, guarded: true },
    Target { name: "scores", seeds: seeds::scores, body: scores, guarded: true },
    Target { name: "pickle", seeds: seeds::pickle, body: pickle, guarded: false },
    Target { name: "archive", seeds: seeds::archive, body: archive, guarded: false },
    Target { name: "png", seeds: seeds::png, body: png, guarded: false },
    Target { name: "labels", seeds: seeds::labels, body: labels, guarded: false },
    Target { name: "run_folder", seeds: seeds::run_folder, body: run_folder, guarded: false },
    Target { name: "recipe", seeds: seeds::recipe, body: recipe, guarded: false },
];

thread_local! {
    static SCRATCH: TempDir = scratch();
    static CHAIN: seeds::Chain = seeds::Chain::new();
    static STATES: OnceCell<Vec<full::State>> = const { OnceCell::new() };
}

/// The path of a file of these bytes.
fn written(name: &str, bytes: &[u8]) -> PathBuf {
    let path = SCRATCH.with(|folder| folder.path().join(name));
    fs::write(&path, bytes).expect("scratch files can be written");
    path
}

/// The number in the first byte, whether checksums are put right, and the file's bytes.
fn split(input: &[u8]) -> Option<(usize, bool, &[u8])> {
    let (first, rest) = input.split_first()?;
    Some((usize::from(first & !FORGED & !OPEN), first & FORGED != 0, rest))
}

/// A safetensors file, its digest put right if that is wanted and can be done.
fn tensors(input: &[u8]) -> Option<(usize, bool, Vec<u8>)> {
    let (number, forged, bytes) = split(input)?;
    let sealed = if forged { forge::sealed(bytes) } else { None };
    Some((number, forged, sealed.unwrap_or_else(|| bytes.to_vec())))
}

/// Weights: what is loaded is what the format's own library reads, all numbers, under a right digest.
pub fn weights(input: &[u8]) -> bool {
    let Some((_, _, bytes)) = tensors(input) else { return false };
    let Ok(loaded) = weights_::load(&written("weights", &bytes), &small()) else { return false };
    assert!(forge::is_sealed(&bytes), "taken with a wrong digest");
    let file = SafeTensors::deserialize(&bytes).expect("what is taken is safetensors");
    let values = |end: &str| {
        let mut found = file.iter().filter(|(name, _)| name.ends_with(end));
        let (_, view) = found.next().expect("what is taken has all tensors");
        assert!(found.next().is_none(), "two tensors end in {end}");
        let words = view.data().as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word)).collect();
        (view.dtype() == Dtype::F32).then_some::<Vec<f32>>(words)
    };
    let canonical = small().to_canonical(&loaded.weights);
    let (running, all) = (&loaded.running, canonical.iter().chain(&loaded.running));
    assert!(all.into_iter().all(|v| v.is_finite()), "what is taken is numbers");
    let parts = [&canonical[..24], &canonical[24..], &running[..5], &running[5..]];
    let names = ["conv.weight", "bn.weight", "bn.running_mean", "bn.running_var"];
    for (part, name) in parts.into_iter().zip(names) {
        values(name).inspect(|values| assert_eq!(bits(part), bits(values), "{name}"));
    }
    true
}

/// A full checkpoint: what is loaded is what was saved.
pub fn full_checkpoint(input: &[u8]) -> bool {
    let Some((_, _, bytes)) = split(input) else { return false };
    let Ok(state) = full::load(&written("full", bytes), ID, &small()) else { return false };
    STATES.with(|states| {
        let states = states.get_or_init(seeds::states);
        assert!(states.contains(&state), "another state than was saved");
    });
    true
}

/// A folder of a chain with one of its files changed: what is restored is what was saved; with the file's
/// digest put right, the weights of one of the run's checkpoints.
pub fn chain(input: &[u8]) -> bool {
    let Some((number, forged, bytes)) = tensors(input) else { return false };
    CHAIN.with(|good| {
        let (name, content) = &good.files[number % good.files.len()];
        let path = good.folder.path().join(name);
        fs::write(&path, &bytes).expect("scratch files can be written");
        let mut taken = false;
        if let Ok(chain) = Chain::read(good.folder.path(), ID, &small()) {
            taken = chain.verify().iter().all(|file| file.result.is_ok());
            for run in &good.runs {
                let Ok(restored) = chain.load(run.progress.at) else { continue };
                let is_of = |run: &crate::chain::Run| bits(&run.weights) == bits(&restored.weights);
                let known = good.runs.iter().any(is_of) || is_of(&good.first);
                assert!(known, "{name}: weights that no checkpoint had");
                if !forged {
                    assert!(
                        is_of(run) && bits(&run.running) == bits(&restored.running),
                        "{name}: other weights"
                    );
                    let Velocity::Kept(velocity) = &restored.velocity else { panic!("{name}: no velocity") };
                    assert_eq!(bits(velocity), bits(&run.velocity), "{name}");
                    assert_eq!(restored.mask.as_ref(), Some(&run.mask), "{name}");
                    assert_eq!(restored.progress, run.progress, "{name}");
                }
            }
        }
        fs::write(&path, content).expect("scratch files can be written");
        taken
    })
}

/// Scores and a mask: a mask of the model that the file names, under a right digest.
pub fn scores(input: &[u8]) -> bool {
    let Some((_, _, bytes)) = tensors(input) else { return false };
    let Ok((about, mask)) = file::load(&written("scores", &bytes)) else { return false };
    assert!(forge::is_sealed(&bytes), "taken with a wrong digest");
    let file = SafeTensors::deserialize(&bytes).expect("what is taken is safetensors");
    let weights = about.id.graph().expect("the model can be").layout.weight_count();
    assert_eq!(file.tensor("scores").expect("it has scores").shape(), [weights]);
    assert!(
        mask.indices().is_sorted_by(|a, b| a < b) && mask.indices().iter().all(|&i| (i as usize) < weights)
    );
    true
}

/// A pickle, and what CIFAR-10's should be: whole records of labels below ten.
pub fn pickle(input: &[u8]) -> bool {
    let parsed = Pickle::parse(input).is_ok();
    for count in [2, RECORDS] {
        let Ok(records) = python::records(Path::new("f"), input, count) else { continue };
        assert_eq!(records.len(), count * RECORD);
        assert!(records.iter().step_by(RECORD).all(|&label| label < 10));
    }
    parsed
}

/// An archive: only members that are wanted, none longer than the limit.
pub fn archive(input: &[u8]) -> bool {
    let Some((_, forged, bytes)) = split(input) else { return false };
    let packed = if forged { forge::gzip(bytes) } else { bytes.to_vec() };
    let limit = (RECORDS * RECORD) as u64;
    let Ok(found) = members(Path::new("f"), &packed[..], &WANTED, limit) else { return false };
    assert!(found.iter().all(|(name, bytes)| WANTED.contains(name) && bytes.len() as u64 <= limit));
    true
}

const WANTED: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];

/// A picture of a batch: whole records.
pub fn png(input: &[u8]) -> bool {
    let Some((_, forged, bytes)) = split(input) else { return false };
    let bytes = if forged { forge::png(bytes) } else { bytes.to_vec() };
    let Ok(records) = npm::records(Path::new("f"), &bytes, &[1, 2, 3], RECORDS) else { return false };
    assert_eq!(records.len(), RECORDS * RECORD);
    true
}

/// A list of labels: as many as there should be, each below ten.
pub fn labels(input: &[u8]) -> bool {
    let Ok(labels) = npm::labels(Path::new("f"), input, 5 * RECORDS) else { return false };
    assert!(labels.len() == 5 * RECORDS && labels.iter().all(|&label| label < 10));
    true
}

/// A run's folder that is opened to go on after its first epoch: only whole lines of that epoch stay.
pub fn run_folder(input: &[u8]) -> bool {
    let Some((number, _, bytes)) = split(input) else { return false };
    let path = SCRATCH.with(|folder| folder.path().join("run"));
    fs::create_dir_all(path.join("checkpoints")).expect("scratch folders can be made");
    let changed = number % seeds::RUN_FILES.len();
    for (i, (name, content)) in seeds::run_files().iter().enumerate() {
        let content = if i == changed { bytes } else { content };
        fs::write(path.join(name), content).expect("scratch files can be written");
    }
    let Ok(opened) = RunFolder::open(&path) else { return false };
    // What else it tells of differs from version to version.
    let folder = opened.0;
    if folder.cut_back(1).is_err() {
        return false;
    }
    // A line that says no epoch is not this program's, and stays.
    #[derive(serde::Deserialize)]
    struct Line {
        epoch: u32,
    }
    let metrics = fs::read(path.join("metrics.jsonl")).expect("the metrics are there");
    assert!(metrics.is_empty() || metrics.ends_with(b"\n"), "what is kept is whole lines");
    for line in String::from_utf8_lossy(&metrics).lines() {
        assert!(
            serde_json::from_str(line).is_ok_and(|Line { epoch }| epoch == 1)
                || serde_json::from_str::<Line>(line).is_err()
        );
    }
    true
}

/// A recipe's file.
pub fn recipe(input: &[u8]) -> bool {
    let path = written("recipe.toml", input);
    recipes::load(&path.to_string_lossy()).is_ok()
}

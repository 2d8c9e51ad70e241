//! `train --weights` and `train --mask-file`: runs that start from files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use crate::support::cli::{contents, evaluate, finish, listing, mask, restore, succeed, train};
use fishmask::checkpoint::{Hash, weights};
use fishmask::graph::{Model, ModelId};
use fishmask::mask::{Mask, file};
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

/// Two epochs of 4 steps, from the initial weights of seed 0 unless told otherwise.
const RUN: &str =
    "--data synthetic --train-images 256 --width 2 --batch-size 64 --epochs 2 --peak-epoch 1 --run-dir";
/// As `a` chooses its mask.
const CHOICE: &str = "--keep-ratio 0.05 --fisher-samples 70";
/// A training that moves no weight.
const STILL: &str = "--lr 1e-30 --momentum 0 --weight-decay 0";

/// A dense run `pre`, a run `a` under a Fisher mask chosen at the start, and the masks of the initial weights
/// and of those of `pre`.
fn files() -> &'static BTreeMap<String, Vec<u8>> {
    static FILES: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let directory = tempdir().unwrap();
        let path = directory.path();
        succeed(train(path, &format!("{RUN} pre")));
        succeed(train(path, &format!("{RUN} a --mask fisher {CHOICE}")));
        succeed(mask(path, &format!("a --epoch 0 --bn sample {CHOICE} --out first.safetensors")));
        succeed(mask(path, &format!("pre {CHOICE} --out m.safetensors")));
        contents(path)
    })
}

fn directory() -> TempDir {
    let directory = tempdir().unwrap();
    restore(directory.path(), files());
    directory
}

/// The initial weights of seed 0: what `a` wrote before its mask.
const INITIAL: &str = "a/checkpoints/base-0000-step-00000.safetensors";

fn tensors(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, view)| (name.to_string(), view.data().to_vec())).collect()
}

/// Whether f32 values differ by no more than a step of a training that is [`STILL`].
fn near(a: &[u8], b: &[u8]) -> bool {
    let values = |bytes: &[u8]| -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
    };
    values(a).iter().zip(values(b)).all(|(a, b)| (a - b).abs() < 1e-25)
}

fn config(run: &Path) -> Value {
    serde_json::from_slice(&fs::read(run.join("config.json")).unwrap()).unwrap()
}

fn end(path: &Path, run: &str) -> Vec<u8> {
    fs::read(path.join(run).join("final.safetensors")).unwrap()
}

/// Runs `train`, which must fail with one line that holds all of `parts`, and leave `path` as it is.
#[track_caller]
fn refused(path: &Path, flags: &str, parts: &[&str]) {
    let before = listing(path);
    let (code, out, err) = finish(train(path, flags).output().unwrap());
    assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{flags}: {err}");
    assert!(err.starts_with("error: ") && parts.iter().all(|part| err.contains(part)), "{flags}: {err}");
    assert_eq!(listing(path), before, "{flags}");
}

#[test]
fn the_weights_of_the_seed_give_the_bits_of_a_run_without_them() {
    let directory = directory();
    let path = directory.path();
    let (out, err) = succeed(train(path, &format!("{RUN} same --weights {INITIAL}")));
    assert_eq!(err, "");
    let absolute = path.canonicalize().unwrap().join(INITIAL);
    assert!(out.contains(&format!("\nstart    weights of {}\n", absolute.display())), "{out}");
    assert!(end(path, "same") == end(path, "pre"));
    let start = &config(&path.join("same"))["start"];
    assert_eq!(start["weights"], absolute.display().to_string());
    // The base's own hash of its model.
    let head = fs::read(&absolute).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&head).unwrap();
    let json: Value = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["fishmask"]).unwrap();
    assert_eq!(start["weights_digest"], json["weights"]);
    assert!(config(&path.join("pre"))["start"].get("weights_digest").is_none());
}

#[test]
fn all_tensors_are_taken_or_those_that_patterns_name() {
    let directory = directory();
    let path = directory.path();
    let still = |name: &str, flags: &str| {
        succeed(train(path, &format!("{RUN} {name} {STILL} --weights pre/final.safetensors {flags}")));
        tensors(&path.join(name).join("final.safetensors"))
    };
    let (trained, initial) = (tensors(&path.join("pre/final.safetensors")), tensors(&path.join(INITIAL)));
    let is_weight = |name: &&String| !name.contains(".running_");
    let whole = still("whole", "");
    for name in trained.keys().filter(is_weight) {
        assert!(near(&whole[name], &trained[name]) && !near(&whole[name], &initial[name]), "{name}");
    }
    let part = still("part", "--weights-only prep_*,layer?_conv.weight");
    let mut taken = 0;
    for name in trained.keys().filter(is_weight) {
        let named = name.starts_with("prep_") || name.ends_with("_conv.weight") && name.len() == 18;
        assert!(near(&part[name], if named { &trained[name] } else { &initial[name] }), "{name}");
        taken += usize::from(named);
    }
    assert!((4..trained.len() - 4).contains(&taken), "{taken}");

    // Running statistics have names as well. Training moves them; what the run started from is their digest.
    succeed(train(path, &format!("{RUN} own --weights pre/final.safetensors --weights-only *.running_*")));
    let layout = Model::Resnet9.graph(2).unwrap().layout;
    let values = |from: &BTreeMap<String, Vec<u8>>, names: Vec<String>| -> Vec<f32> {
        let words = names.iter().flat_map(|name| from[name].as_chunks::<4>().0);
        words.map(|word| f32::from_le_bytes(*word)).collect()
    };
    let statistics = layout.statistics.iter().flat_map(|s| s.tensors()).map(|(name, _)| name).collect();
    let weights = layout.parameters.iter().map(|p| p.name.clone()).collect();
    let digest = Hash::of_model(&values(&initial, weights), &values(&trained, statistics));
    assert_eq!(config(&path.join("own"))["start"]["weights_digest"], digest.to_string());
}

#[test]
fn a_mask_of_a_file_trains_as_the_same_mask_chosen_by_the_run() {
    let directory = directory();
    let path = directory.path();
    let (out, err) = succeed(train(path, &format!("{RUN} b --mask-file first.safetensors")));
    assert_eq!(err, "");
    assert!(out.contains("\nmask     file 5%, strict rule\n"), "{out}");
    assert!(out.contains("       mask of 338 of 6,762 weights (5.00%), from a file, "), "{out}");
    assert!(end(path, "b") == end(path, "a"));
    let names = |run: &str| contents(&path.join(run).join("checkpoints")).into_keys().collect::<Vec<_>>();
    assert_eq!(names("b"), names("a"));
    assert_eq!(config(&path.join("b"))["mask"]["keep_ratio"], 0.05);

    let rule = "--update-rule published";
    succeed(train(path, &format!("{RUN} c {rule} --mask fisher {CHOICE}")));
    succeed(train(path, &format!("{RUN} d {rule} --mask file --mask-file first.safetensors")));
    assert!(end(path, "d") == end(path, "c") && end(path, "d") != end(path, "a"));

    // Of several workers, all of whom train under it for good.
    let (workers, file) = ("--workers 2 --merge-steps 2", "--mask-file first.safetensors");
    let (_, err) = succeed(train(path, &format!("{RUN} e {workers} {file}")));
    assert_eq!(err, "");
    let checkpoints = contents(&path.join("e/checkpoints")).into_keys();
    assert_eq!(checkpoints.filter(|name| name.starts_with("mask-")).count(), 1);
    let again = "--reselect-merges 1";
    refused(path, &format!("{RUN} f {workers} {again} {file}"), &[again, "masks that the run chooses"]);
    refused(
        path,
        &format!("{RUN} f {workers} --worker-masks interleaved {file}"),
        &["--worker-masks interleaved", "one mask, which all workers train"],
    );
}

/// Pretrain, mask, fine-tune.
#[test]
fn a_mask_is_for_the_weights_that_it_was_made_from() {
    let directory = directory();
    let path = directory.path();
    let tuned = format!("{RUN} tuned --weights pre/final.safetensors --mask-file m.safetensors");
    let (out, err) = succeed(train(path, &tuned));
    assert_eq!(err, "");
    assert!(out.contains("mask of 338 of 6,762 weights"), "{out}");
    // Weights that the mask leaves out are those of the file, bit for bit.
    let (_, mask) = file::load(&path.join("m.safetensors")).unwrap();
    let (before, after) =
        (tensors(&path.join("pre/final.safetensors")), tensors(&path.join("tuned/final.safetensors")));
    let name = "prep_conv.weight";
    let words = |bytes: &[u8]| bytes.as_chunks::<4>().0.to_vec();
    let (before, after) = (words(&before[name]), words(&after[name]));
    for i in 0..54 {
        let kept = mask.indices().contains(&i);
        assert!(kept || before[i as usize] == after[i as usize], "{i}");
    }
    assert!(before != after);
    // The run says itself what it is of, however its mask was chosen.
    let (by_file, _) = succeed(evaluate(
        path,
        "--data synthetic --model resnet9 --width 2 --weights tuned/final.safetensors",
    ));
    assert_eq!(succeed(evaluate(path, "tuned")).0, by_file);
    let (table, _) = succeed(crate::support::cli::mask(path, "tuned --fisher-samples 9"));
    assert!(table.lines().last().unwrap().contains("     338    5.00%"), "{table}");

    let other =
        ["m.safetensors: a mask made from other weights (pre/final.safetensors, BLAKE3 ", "--mask-of-"];
    refused(path, &format!("{RUN} x --mask-file m.safetensors"), &other);
    refused(path, &format!("{RUN} x --mask-file m.safetensors --weights {INITIAL}"), &other);
    refused(path, &format!("{RUN} x --mask-file m.safetensors --warmup-epochs 1"), &other);
    let all_the_same = "--mask-file m.safetensors --mask-of-other-weights";
    let (_, err) = succeed(train(path, &format!("{RUN} x {all_the_same}")));
    assert_eq!(err, "");

    // A file of before does not say of which weights it is.
    let (mut about, mask) = file::load(&path.join("m.safetensors")).unwrap();
    about.made = None;
    file::save(&path.join("old.safetensors"), &about, &vec![0.0; mask.weight_count()], &mask).unwrap();
    let (_, err) = succeed(train(path, &format!("{RUN} y --mask-file old.safetensors")));
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.contains("old.safetensors: it does not say from which weights the mask was made"), "{err}");
    assert!(end(path, "y") == end(path, "x"));
}

#[test]
fn files_that_a_run_cannot_start_from() {
    let directory = directory();
    let path = directory.path();
    let (about, mask) = file::load(&path.join("m.safetensors")).unwrap();
    let weights = mask.weight_count();
    let few = Mask::new(mask.indices()[..9].to_vec(), weights).unwrap();
    file::save(&path.join("few.safetensors"), &about, &vec![0.0; weights], &few).unwrap();
    fs::write(path.join("recipe.toml"), "inherits = \"quick\"\nstart.mask = \"gone\"\n").unwrap();
    let hundred = ModelId::new(Model::Resnet18, 2).with_classes(100);
    let layout = hundred.graph().unwrap().layout;
    let (values, running) = layout.initial_model(3);
    weights::save(&path.join("hundred.safetensors"), hundred, &layout, &values, &running).unwrap();
    let run = format!("{RUN} x");
    let wide = run.replace("--width 2", "--width 4");
    let deep = format!("{run} --model resnet18 --weights pre/final.safetensors");
    for (flags, parts) in [
        (format!("{run} --weights gone"), ["gone: cannot read it", "No such file"]),
        (
            format!("{run} --weights m.safetensors"),
            ["m.safetensors: not a file of weights", "metadata entry"],
        ),
        (format!("{wide} --weights pre/final.safetensors"), ["pre/final.safetensors: ", "of width 2"]),
        (
            deep.replace("pre/final", "hundred"),
            [
                "hundred.safetensors: tensor fc.weight: expected shape [10, 16], found [100, 16]",
                "for 100 classes",
            ],
        ),
        (deep.clone(), ["pre/final.safetensors: tensor conv1.weight", "resnet9"]),
        (format!("{deep} --weights-only fc.*"), ["pre/final.safetensors: tensor fc.weight", "is missing"]),
        (
            format!("{run} --weights pre/final.safetensors --weights-only prep_*,conv?.weight"),
            ["--weights-only prep_*,conv?.weight: \"conv?.weight\" is the name of no tensor", "prep_conv"],
        ),
        (
            format!("{run} --weights pre/final.safetensors --weights-only prep_*,,"),
            ["--weights-only prep_*,,", "must be patterns"],
        ),
        (format!("{run} --weights-only prep_*"), ["--weights-only prep_*", "give --weights"]),
        (format!("{run} --mask-file gone"), ["gone: cannot read it", "No such file"]),
        (format!("{run} --mask-file {INITIAL}"), [INITIAL, "not a file of scores"]),
        (format!("{run} --mask-file few.safetensors"), ["few.safetensors: ", "keep"]),
        (
            format!("{wide} --mask-file m.safetensors"),
            ["m.safetensors: a mask of resnet9 of width 2", "the run trains resnet9 of width 4"],
        ),
        (
            format!("{run} --mask fisher --mask-file m.safetensors"),
            ["--mask-file m.safetensors", "leave out the --mask"],
        ),
        (format!("{run} --mask file"), ["--mask file", "--mask-file"]),
        (format!("{run} --mask-of-other-weights"), ["--mask-of-other-weights", "mask of a file"]),
        (format!("{run} --mask-file m.safetensors --keep-ratio 0.1"), ["--keep-ratio 0.1", "run chooses"]),
        (format!("{run} --mask-file m.safetensors --mask-every 1"), ["--mask-every 1", "run chooses"]),
        (
            format!("{run} --mask-file m.safetensors --fisher-samples 9"),
            ["--fisher-samples 9", "--mask fisher"],
        ),
        (format!("{run} --recipe recipe.toml"), ["gone: cannot read it", "No such file"]),
    ] {
        refused(path, &flags, &parts);
    }
    // All but the classifier is taken.
    let part = deep.replace("pre/final", "hundred").replace("--run-dir x", "--run-dir part");
    let part = part.replace("--epochs 2", "--epochs 1");
    succeed(train(path, &format!("{part} {STILL} --weights-only conv1.*,bn1.*,layer*")));
    // What a recipe says of masks is not for a mask of a file, which counts above it.
    let (out, _) = succeed(train(
        path,
        &format!("{run} --recipe small-checkpoints-quick --mask-file first.safetensors --print-config"),
    ));
    assert!(out.contains("kind = \"file\"") && out.contains("# --mask-file first.safetensors\n"), "{out}");
    fs::write(path.join("printed.toml"), &out).unwrap();
    let (again, _) = succeed(train(path, "--recipe printed.toml --print-config"));
    let values = |text: &str| {
        text.lines().map(|line| line.split(" #").next().unwrap().trim().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(values(&again), values(&out));
}

/// Puts a finished run back to where it was: without what is named, and all that only a finished run has.
fn put_back(run: &Path, gone: &[&str]) {
    for name in gone.iter().chain(&["final.safetensors"]) {
        fs::remove_file(run.join(name)).unwrap();
    }
}

#[test]
fn a_run_goes_on_from_what_it_started_from() {
    let directory = directory();
    let path = directory.path();
    succeed(train(path, &format!("{RUN} run --weights pre/final.safetensors")));
    let (whole, run) = (end(path, "run"), path.join("run"));
    let checkpoints = contents(&run.join("checkpoints"));
    let first = "checkpoints/epoch-0001-step-00000.safetensors";
    let last = "checkpoints/epoch-0002-step-00000.safetensors";
    // It has a checkpoint, and needs no other file.
    fs::rename(path.join("pre"), path.join("elsewhere")).unwrap();
    put_back(&run, &[last]);
    succeed(train(path, "--resume run"));
    assert!(end(path, "run") == whole);
    // It has none.
    put_back(&run, &[first, last]);
    refused(path, "--resume run", &["pre/final.safetensors: cannot read it", "No such file"]);
    fs::create_dir(path.join("pre")).unwrap();
    fs::copy(path.join(INITIAL), path.join("pre/final.safetensors")).unwrap();
    let began = config(&run)["start"]["weights_digest"].as_str().unwrap()[..16].to_string();
    let parts = ["not the weights that the run began with, whose BLAKE3 is", &began, "or start a new run"];
    refused(path, "--resume run", &parts);
    fs::copy(path.join("elsewhere/final.safetensors"), path.join("pre/final.safetensors")).unwrap();
    refused(
        path,
        "--resume run --weights a/final.safetensors",
        &["--weights a/final.safetensors contradicts"],
    );
    // Named from the root it is the same file.
    let file = path.canonicalize().unwrap().join("pre/final.safetensors");
    succeed(train(path, &format!("--resume run --weights {}", file.display())));
    assert!(end(path, "run") == whole);
    assert_eq!(
        contents(&run.join("checkpoints")).keys().collect::<Vec<_>>(),
        checkpoints.keys().collect::<Vec<_>>()
    );
}

#[test]
fn a_run_goes_on_under_the_mask_that_it_was_given() {
    let directory = directory();
    let path = directory.path();
    let flags = "--warmup-epochs 1 --weights pre/final.safetensors --mask-file m.safetensors";
    let (out, _) = succeed(train(path, &format!("{RUN} run {flags}")));
    let rows: Vec<&str> = out.lines().skip_while(|line| !line.starts_with("epoch")).collect();
    assert!(rows[1].trim_start().starts_with("1 ") && rows[2].contains("mask of 338"), "{out}");
    let (whole, run) = (end(path, "run"), path.join("run"));
    let after = [
        "checkpoints/base-0001-step-00000.safetensors",
        "checkpoints/epoch-0002-step-00000.delta.safetensors",
    ];
    let stored =
        contents(&run.join("checkpoints")).into_keys().find(|name| name.starts_with("mask-")).unwrap();

    // The run has the mask before it comes into force.
    fs::rename(path.join("m.safetensors"), path.join("away")).unwrap();
    put_back(&run, &after);
    succeed(train(path, "--resume run"));
    assert!(end(path, "run") == whole);
    // Without that the file serves.
    put_back(&run, &[after[0], after[1], &format!("checkpoints/{stored}")]);
    refused(path, "--resume run", &["m.safetensors: cannot read it", "No such file"]);
    fs::copy(path.join("first.safetensors"), path.join("m.safetensors")).unwrap();
    refused(path, "--resume run", &["m.safetensors: not the mask that the run began with"]);
    fs::rename(path.join("away"), path.join("m.safetensors")).unwrap();
    succeed(train(path, "--resume run"));
    assert!(end(path, "run") == whole);
}

//! `mask`, and `train --mask`, as a user runs them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use crate::support::cli::{contents, evaluate, finish, listing, mask, restore, succeed, train};
use fishmask::checkpoint::chain::Chain;
use fishmask::data::synthetic;
use fishmask::graph::{Model, ModelId};
use fishmask::mask::file;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tempfile::{TempDir, tempdir};

/// A masked run of 2 epochs of 4 steps.
const MASKED: &str = "--data synthetic --train-images 256 --width 2 --batch-size 64 --epochs 2 --peak-epoch \
    1 --mask fisher --keep-ratio 0.05 --fisher-samples 70 --run-dir run";
const MODEL: &str = "--model resnet9 --width 2 --weights run/final.safetensors --data synthetic";
/// Its weights.
const WEIGHTS: usize = 6_762;

fn shown() -> &'static (BTreeMap<String, Vec<u8>>, String) {
    static RUN: OnceLock<(BTreeMap<String, Vec<u8>>, String)> = OnceLock::new();
    RUN.get_or_init(|| {
        let directory = tempdir().unwrap();
        let (out, _) = succeed(train(directory.path(), MASKED));
        (contents(directory.path()), out)
    })
}

/// A working directory with the finished run in it.
fn with_run() -> TempDir {
    let directory = tempdir().unwrap();
    restore(directory.path(), &shown().0);
    directory
}

/// Scores and indices of a file.
fn scores(path: &Path) -> (Vec<f32>, Vec<u32>) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name| file.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec();
    let scores = words("scores").into_iter().map(f32::from_le_bytes).collect();
    (scores, words("indices").into_iter().map(u32::from_le_bytes).collect())
}

#[test]
fn a_masked_run_says_what_it_keeps() {
    let (files, out) = shown();
    let kept = WEIGHTS / 20;
    assert!(out.contains("\nmask     fisher 5%, strict rule, 70 samples, label, square, fixed\n"), "{out}");
    assert!(
        out.contains(&format!("       mask of {kept} of 6,762 weights (5.00%), by 70 samples, ")),
        "{out}"
    );
    let metrics = String::from_utf8(files["run/metrics.jsonl"].clone()).unwrap();
    for line in metrics.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["kept"], kept);
    }
    let names: Vec<_> =
        files.keys().filter_map(|name| name.strip_prefix("run/checkpoints/")).map(String::from).collect();
    assert_eq!(names.len(), 5, "a base, a mask, two deltas, the settings: {names:?}");
    let delta = files["run/checkpoints/epoch-0002-step-00000.delta.safetensors"].len();
    let final_ = files["run/final.safetensors"].len();
    assert!(4 * delta < final_, "{delta} of {final_} bytes");
}

/// The mask that a run begins with is the one that `mask` finds for its first weights.
#[test]
fn finds_the_mask_of_a_run() {
    let directory = with_run();
    let path = directory.path();
    let base = "--weights run/checkpoints/base-0000-step-00000.safetensors";
    let flags = MODEL.replace("--weights run/final.safetensors", base);
    // The run's samples are of its own 256 images, these of the whole set: taken as they lie they are the
    // same ones.
    let args = "--fisher-samples 70 --keep-ratio 0.05 --bn sample --out first.safetensors";
    let (out, _) = succeed(mask(path, &format!("{flags} {args}")));
    let (values, indices) = scores(&path.join("first.safetensors"));
    assert_eq!((values.len(), indices.len()), (WEIGHTS, WEIGHTS / 20));
    assert!(values.iter().all(|v| *v >= 0.0) && indices.is_sorted_by(|a, b| a < b));
    let least = indices.iter().map(|&i| values[i as usize]).fold(f32::INFINITY, f32::min);
    let others = (0..WEIGHTS as u32).filter(|i| indices.binary_search(i).is_err());
    assert!(others.map(|i| values[i as usize]).all(|v| v <= least));

    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["layer", "weights", "kept", "share", "of", "score"]);
    assert_eq!(lines[1][..2], ["prep_conv.weight", "54"]);
    assert_eq!(lines.len(), 1 + 25 + 1);
    let kept: usize = lines[1..26].iter().map(|line| line[2].parse::<usize>().unwrap()).sum();
    assert_eq!((lines[26][0], lines[26][1], kept), ("all", "6762", WEIGHTS / 20));

    // The same again gives the same file; another seed another one, and the comparison tells how much of it.
    let again = args.replace("first", "again");
    succeed(mask(path, &format!("{flags} {again} --threads 1")));
    assert_eq!(
        fs::read(path.join("first.safetensors")).unwrap(),
        fs::read(path.join("again.safetensors")).unwrap()
    );
    let other = args.replace("first", "other");
    succeed(mask(path, &format!("{flags} {other} --seed 9 --fisher-target expect --fisher-power absolute")));
    let (_, others) = scores(&path.join("other.safetensors"));
    let shared = indices.iter().filter(|i| others.binary_search(i).is_ok()).count();
    assert!(shared > 0 && shared < indices.len());
    let (out, _) = succeed(mask(path, "--compare first.safetensors other.safetensors"));
    let last: Vec<&str> = out.lines().last().unwrap().split_whitespace().collect();
    let (k, share) = (indices.len(), format!("{:.2}%", 100.0 * shared as f64 / indices.len() as f64));
    assert_eq!(last, ["all", "6762", &k.to_string(), &k.to_string(), &shared.to_string(), &share]);
    assert_eq!(out.lines().count(), 27);
}

#[test]
fn samples_are_taken_as_told() {
    let directory = with_run();
    let path = directory.path();
    let run = |flags: &str| {
        succeed(mask(path, &format!("{MODEL} --fisher-samples 20 --out out.safetensors {flags}")));
        scores(&path.join("out.safetensors")).0
    };
    let plain = run("--sample-order sequential --augment off");
    assert_eq!(plain, run("--sample-order sequential --augment off --seed 5"), "nothing is left to chance");
    for flags in
        ["--sample-order sequential", "--augment off", "--sample-order sequential --augment off --bn sample"]
    {
        assert_ne!(plain, run(flags), "{flags}");
    }
    // The emulated device: f16, so nearly.
    let emulated = run("--sample-order sequential --augment off --device emulated");
    let all: f64 = plain.iter().map(|&v| f64::from(v)).sum();
    let away: f64 = plain.iter().zip(&emulated).map(|(a, b)| f64::from((a - b).abs())).sum();
    assert!(away > 0.0 && away < 0.1 * all, "{away} of {all}");
}

#[test]
fn scores_that_are_not_finite_choose_nothing() {
    let directory = with_run();
    let path = directory.path();
    let weights = path.join("run/final.safetensors");
    let bytes = fs::read(&weights).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let spoilt: Vec<(String, Vec<usize>, Vec<u8>)> = file
        .iter()
        .map(|(name, view)| {
            let mut data = view.data().to_vec();
            if name == "linear.weight" {
                // Numbers, but not what is computed of them.
                let (some, others) = data.as_chunks_mut::<4>().0.split_at_mut(view.data().len() / 8);
                some.fill(f32::MAX.to_le_bytes());
                others.fill(f32::MIN.to_le_bytes());
            }
            (name.to_string(), view.shape().to_vec(), data)
        })
        .collect();
    let views = spoilt.iter().map(|(name, shape, data)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), data).unwrap())
    });
    fs::write(&weights, safetensors::serialize(views, None).unwrap()).unwrap();
    let (code, _, err) = finish(mask(path, &format!("{MODEL} --fisher-samples 2 --out o")).output().unwrap());
    assert_eq!(code, Some(1));
    assert!(err.contains("the score of weight ") && err.contains("is not finite"), "{err}");
    assert!(!path.join("o").exists());
}

#[test]
fn bad_input_is_one_sentence_and_leaves_nothing() {
    let directory = with_run();
    let path = directory.path();
    succeed(mask(path, &format!("{MODEL} --fisher-samples 2 --out a.safetensors")));
    let wide = "--model resnet9 --width 4 --data synthetic --weights run/final.safetensors";
    let mut cut = fs::read(path.join("a.safetensors")).unwrap();
    cut.truncate(5000);
    fs::write(path.join("cut.safetensors"), cut).unwrap();
    let before = listing(path);
    for (flags, parts) in [
        (format!("{MODEL} --out o --keep-ratio 0"), ["--keep-ratio 0", "above 0 and at most 1"]),
        (format!("{MODEL} --out o --keep-ratio 0.00001"), ["--keep-ratio 0.00001", "must be at least"]),
        (format!("{MODEL} --out o --fisher-samples 0"), ["--fisher-samples 0", "at least 1 sample"]),
        (
            format!("{MODEL} --out o --fisher-samples 50001"),
            ["--fisher-samples 50001", "there are 50000 images"],
        ),
        (format!("{MODEL} --out o --width 0").replace("--width 2 ", ""), ["--width 0", "from 1"]),
        (format!("{wide} --out o"), ["run/final.safetensors", "the file is of width 2"]),
        (format!("{MODEL} --fisher-samples 2 --out no/such/o"), ["no/such", "o"]),
        (
            "run --epoch 9".into(),
            ["run/checkpoints: holds no checkpoint of epoch 9", "epoch 0, epoch 1, epoch 2"],
        ),
        ("run --width 4".into(), ["--width 4", "the run's config.json has 2; leave it out"]),
        ("run --recipe quick".into(), ["--recipe quick", "the run's config.json says"]),
        ("run --fisher-samples 257".into(), ["--fisher-samples 257", "there are 256 images"]),
        ("gone".into(), ["gone: not a run folder", "does not exist"]),
        ("--compare a.safetensors gone".into(), ["gone", "cannot read it"]),
        (
            "--compare a.safetensors run/final.safetensors".into(),
            ["run/final.safetensors", "not a file of scores"],
        ),
        ("--compare cut.safetensors a.safetensors".into(), ["cut.safetensors", "not a safetensors file"]),
    ] {
        let (code, out, err) = finish(mask(path, &flags).output().unwrap());
        assert_eq!((code, out.as_str()), (Some(1), ""), "{flags}: {err}");
        let last = err.lines().last().unwrap();
        assert!(
            last.starts_with("error: ") && parts.iter().all(|part| last.contains(part)),
            "{flags}: {err}"
        );
        assert_eq!(listing(path), before, "{flags}");
    }
    for flags in [
        "",
        "--model resnet9 --width 2",
        "--compare a.safetensors",
        "--compare a b --seed 1",
        "run --weights run/final.safetensors",
        "--weights run/final.safetensors --epoch 1",
    ] {
        let (code, _, err) = finish(mask(path, flags).output().unwrap());
        assert!(code == Some(2) && err.starts_with("error: "), "{flags}: {err}");
    }
}

/// What `train` printed for an epoch, its restored checkpoint evaluates to.
#[test]
fn restored_epochs_evaluate_to_what_their_rows_say() {
    let directory = with_run();
    let path = directory.path();
    for (epoch, row) in (1..=2).zip(shown().1.lines().skip_while(|line| !line.starts_with("epoch")).skip(2)) {
        let accuracy = row.split_whitespace().nth(5).unwrap();
        succeed(crate::support::cli::checkpoint(
            path,
            &format!("restore run --epoch {epoch} --out e{epoch}.safetensors"),
        ));
        let flags = format!("--model resnet9 --width 2 --data synthetic --weights e{epoch}.safetensors");
        let (out, _) = succeed(evaluate(path, &flags));
        let first = out.lines().next().unwrap();
        assert!(first.ends_with(&format!("accuracy {accuracy}")), "{row}\n{out}");
    }
    succeed(crate::support::cli::checkpoint(path, "verify run"));
}

/// What `mask` writes of itself: enough to make the same file again.
#[test]
fn a_file_says_what_it_is_of() {
    let directory = with_run();
    let path = directory.path();
    let before = listing(&path.join("run"));
    let (out, err) = succeed(mask(path, "run --fisher-samples 20 --seed 3 --out a.safetensors"));
    assert_eq!(err, "");
    let (about, _) = file::load(&path.join("a.safetensors")).unwrap();
    assert_eq!((about.id, about.samples, about.seed), (ModelId::new(Model::Resnet9, 2), 20, 3));
    let made = about.made.unwrap();
    // The run's own images, and its final weights.
    let images = synthetic::dataset(256, 1, 0).train;
    assert_eq!((made.data.as_str(), made.images), ("synthetic", 256));
    assert_eq!(made.data_digest, images.fingerprint().into());
    assert_eq!(made.weights, "run/final.safetensors");
    let chain = Chain::find(&path.join("run/checkpoints")).unwrap();
    assert_eq!(made.weights_digest, chain.checkpoints().last().unwrap().model.unwrap());
    assert_eq!(made.settings["mask.keep_ratio"], 0.05);
    assert_eq!(made.settings["data.images"], 256);
    assert!(made.version.starts_with(env!("CARGO_PKG_VERSION")), "{}", made.version);

    // Without a file only the table is printed.
    let files = listing(path);
    let (again, _) = succeed(mask(path, "run --fisher-samples 20 --seed 3"));
    assert_eq!((again, listing(path)), (out, files));
    assert_eq!(listing(&path.join("run")), before, "the run is only read");
    // An epoch's weights are those of its checkpoint.
    succeed(mask(path, "run --epoch 2 --fisher-samples 20 --seed 3 --out b.safetensors"));
    assert_eq!(scores(&path.join("b.safetensors")), scores(&path.join("a.safetensors")));
    succeed(mask(path, "run --epoch 1 --fisher-samples 20 --seed 3 --out c.safetensors"));
    let (about, _) = file::load(&path.join("c.safetensors")).unwrap();
    let made = about.made.unwrap();
    assert_eq!(made.weights, "run/checkpoints/epoch-0001-step-00000.delta.safetensors");
    assert_eq!(Some(made.weights_digest), chain.checkpoints()[1].model);
    assert_ne!(scores(&path.join("c.safetensors")), scores(&path.join("a.safetensors")));
}

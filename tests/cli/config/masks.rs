//! Masks: their flags and presets.

use fishmask::device::Precision;
use fishmask::graph::Model;
use fishmask::graph::scoring::{Statistics, Target};
use fishmask::mask::Kind;
use fishmask::ops::Power;
use fishmask::optim::UpdateRule as Rule;
use fishmask::settings::{CheckpointState, Config};

use super::{contradiction, flags, refusal, resolve};

#[test]
fn a_mask_and_its_presets() {
    assert_eq!(resolve("--mask dense").masked(), None);
    let Config { mask: fisher, checkpoint, .. } = resolve("--mask fisher");
    assert_eq!((fisher.kind, fisher.keep_ratio, fisher.samples), (Kind::Fisher, 0.02, 1024));
    assert_eq!((fisher.target, fisher.power), (Target::Label, Power::Square));
    assert_eq!((fisher.warmup_epochs, fisher.every, fisher.rule), (0, 0, Rule::Strict));
    assert_eq!((checkpoint.state, checkpoint.values), (CheckpointState::On, Precision::F32));
    // Running statistics once an epoch has been trained.
    assert_eq!([0, 1].map(|epoch| fisher.rule(epoch).statistics), [Statistics::Own, Statistics::Running]);

    let small = resolve("--preset small-checkpoints");
    assert_eq!((small.network.model, small.network.width), (Model::Resnet34, 64));
    assert_eq!((small.train.epochs, small.train.batch_size), (100, 512));
    assert_eq!((small.optimizer.lr, small.schedule.peak_epoch), (0.4, 5.0));
    assert_eq!(small.mask, fisher);
    let quick = resolve("--preset small-checkpoints-quick");
    assert_eq!(quick.mask.samples, 256);
    let dense = resolve("--preset small-checkpoints-quick --mask dense");
    assert_eq!(Config { recipe: "quick".into(), ..dense }, resolve(""));

    // What config.json holds is what was meant.
    let config = resolve("--mask random --keep-ratio 0.1 --update-rule published");
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
}

#[test]
fn masks_that_cannot_be() {
    for (line, parts) in [
        ("--keep-ratio 0.1", ["--keep-ratio 0.1", "give a --mask"]),
        ("--mask-every 1 --mask dense", ["--mask-every 1", "give a --mask"]),
        ("--checkpoint-values f16", ["--checkpoint-values f16", "give a --mask"]),
        ("--mask random --fisher-samples 8", ["--fisher-samples 8", "--mask fisher"]),
        ("--mask fisher --keep-ratio 0", ["--keep-ratio 0", "above 0 and at most 1"]),
        ("--mask fisher --keep-ratio 1.5", ["--keep-ratio 1.5", "above 0 and at most 1"]),
        ("--mask fisher --keep-ratio -1", ["--keep-ratio -1", "above 0 and at most 1"]),
        ("--mask fisher --keep-ratio nan", ["--keep-ratio nan", "above 0 and at most 1"]),
        (
            "--mask fisher --model resnet34 --keep-ratio 0.0001",
            ["--keep-ratio 0.0001", "must be at least 9.67e-4"],
        ),
        ("--mask fisher --keep-ratio 0.0000001", ["keeps 0 of 412944 weights", "must be at least 2.42e-6"]),
        ("--mask fisher --fisher-samples 0", ["--fisher-samples 0", "at least 1 sample"]),
        ("--mask fisher --fisher-samples 10001", ["--fisher-samples 10001", "there are 10000 images"]),
        ("--mask fisher --warmup-epochs 8", ["--warmup-epochs 8", "below the 8 epochs"]),
        (
            "--mask fisher --checkpoint-values f16",
            ["--checkpoint-values f16", "--checkpoint-state off as well"],
        ),
        (
            "--mask fisher --update-rule published --checkpoint-values f16",
            ["--checkpoint-values f16", "are full"],
        ),
        (
            "--mask fisher --update-rule published --checkpoint-state off",
            ["--checkpoint-state off", "are full"],
        ),
    ] {
        let text = refusal(line);
        assert!(parts.iter().all(|part| text.contains(part)), "{line}: {text}");
    }
    let mut all = resolve("--mask fisher --fisher-samples 5000");
    all.data.images = None;
    assert!(all.images(4999).unwrap_err().to_string().contains("there are 4999 images"));
    assert!(resolve("--mask random --train-images 200").images(200).is_ok(), "no samples are needed");
}

#[test]
fn resuming_with_another_mask() {
    let run = resolve("--mask fisher --keep-ratio 0.1 --mask-every 2");
    let agrees = |line: &str| run.agrees(&flags(line)).map_err(|error| error.to_string());
    assert_eq!(agrees(""), Ok(()));
    assert_eq!(agrees("--mask fisher --keep-ratio 0.1 --mask-every 2 --update-rule strict"), Ok(()));
    for (line, parts) in [
        ("--mask random", ["--mask random", "has fisher"]),
        ("--keep-ratio 0.2", ["--keep-ratio 0.2", "has 0.1"]),
        ("--mask-every 0", ["--mask-every 0", "has 2"]),
        ("--update-rule published", ["--update-rule published", "has strict"]),
        ("--fisher-target expect", ["--fisher-target expect", "has label"]),
    ] {
        let text = agrees(line).unwrap_err();
        assert!(parts.iter().all(|part| text.contains(part)), "{line}: {text}");
    }
    assert!(contradiction("--mask fisher").contains("has dense"));
    assert!(contradiction("--keep-ratio 0.1").contains("give a --mask"));
}

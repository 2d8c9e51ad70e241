//! Masks: their flags and presets.

use fishmask::graph::Model;
use fishmask::mask::Kind;
use fishmask::ops::Power;
use fishmask::train::{CheckpointState, Config, FisherTarget, Precision, Rule};

use super::{contradiction, flags, refusal, resolve};

#[test]
fn a_mask_and_its_presets() {
    assert_eq!(resolve("--mask dense").mask, None);
    let fisher = resolve("--mask fisher").mask.unwrap();
    assert_eq!((fisher.kind, fisher.keep_ratio, fisher.fisher_samples), (Kind::Fisher, 0.02, 1024));
    assert_eq!((fisher.fisher_target, fisher.fisher_power), (FisherTarget::Label, Power::Square));
    assert_eq!((fisher.warmup_epochs, fisher.mask_every, fisher.update_rule), (0, 0, Rule::Strict));
    assert_eq!((fisher.checkpoint_state, fisher.checkpoint_values), (CheckpointState::On, Precision::F32));
    // Running statistics once an epoch has been trained.
    assert_eq!([0, 1].map(|epoch| fisher.rule(epoch).running), [false, true]);

    let small = resolve("--preset small-checkpoints");
    let recipe = (small.model, small.width, small.epochs, small.batch_size, small.lr, small.peak_epoch);
    assert_eq!(recipe, (Model::Resnet34, 64, 100, 512, 0.4, 5.0));
    assert_eq!(small.mask.unwrap(), fisher);
    let quick = resolve("--preset small-checkpoints-quick");
    assert_eq!(quick.mask.unwrap().fisher_samples, 256);
    let dense = resolve("--preset small-checkpoints-quick --mask dense");
    assert_eq!(dense, Config { preset: "small-checkpoints-quick".into(), ..resolve("") });

    // What config.json holds is what was meant.
    let config = resolve("--mask random --keep-ratio 0.1 --update-rule published");
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    assert!(
        !serde_json::to_string(&resolve("")).unwrap().contains("\"mask\""),
        "as dense runs always had it"
    );
}

#[test]
fn masks_that_cannot_be() {
    for (line, parts) in [
        ("--keep-ratio 0.1", ["--keep-ratio 0.1", "--mask fisher or --mask random"]),
        ("--mask-every 1 --mask dense", ["--mask-every 1", "--mask fisher or --mask random"]),
        ("--checkpoint-values f16", ["--checkpoint-values f16", "--mask fisher or --mask random"]),
        ("--mask random --fisher-samples 8", ["--fisher-samples 8", "--mask fisher"]),
        ("--mask fisher --keep-ratio 0", ["--keep-ratio 0", "above 0 and at most 1"]),
        ("--mask fisher --keep-ratio 1.5", ["--keep-ratio 1.5", "above 0 and at most 1"]),
        ("--mask fisher --keep-ratio -1", ["--keep-ratio -1", "above 0 and at most 1"]),
        ("--mask fisher --keep-ratio nan", ["--keep-ratio NaN", "above 0 and at most 1"]),
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
    let all = Config { train_images: None, ..resolve("--mask fisher --fisher-samples 5000") };
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
    assert!(contradiction("--keep-ratio 0.1").contains("--mask fisher or --mask random"));
}

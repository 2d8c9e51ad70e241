//! `config.json` as the version before settings had groups wrote it.

use fishmask::settings::read_config;

use super::resolve;

/// Of `train --data synthetic`, in the former version.
const DENSE: &str = include_str!("../../fixtures/before/config.json");

/// Of `train --preset workers --mask random --checkpoint-state off --shard-data --seed 7 --device emulated`,
/// in the former version.
const WORKERS: &str = r#"{
  "preset": "workers",
  "model": "resnet9",
  "width": 64,
  "epochs": 50,
  "batch_size": 512,
  "lr": 0.4,
  "peak_epoch": 5.0,
  "momentum": 0.9,
  "weight_decay": 0.0005,
  "label_smoothing": 0.0,
  "train_images": null,
  "mask": {
    "kind": "random",
    "keep_ratio": 0.02,
    "fisher_samples": 256,
    "fisher_target": "label",
    "fisher_power": "square",
    "warmup_epochs": 5,
    "mask_every": 0,
    "update_rule": "strict",
    "checkpoint_state": "off",
    "checkpoint_values": "f32"
  },
  "workers": {
    "count": 2,
    "merge_steps": 100,
    "reselect_merges": 10,
    "masks": "interleaved",
    "aggregate": "mean",
    "shard_data": true
  },
  "data": "CIFAR-10",
  "device": "emulated",
  "precision": "f16",
  "seed": 7,
  "checkpoint_every": 1
}
"#;

#[test]
fn a_configuration_of_the_former_version_is_read() {
    assert_eq!(read_config(DENSE.as_bytes()).unwrap(), resolve("--data synthetic"));
    let line =
        "--preset workers --mask random --checkpoint-state off --shard-data --seed 7 --device emulated";
    let mut expected = resolve(line);
    // The former version kept what its preset said of the samples that a random mask does not have.
    expected.mask.samples = 256;
    assert_eq!(read_config(WORKERS.as_bytes()).unwrap(), expected);
}

#[test]
fn a_configuration_of_the_former_version_with_another_field_is_refused() {
    let more = DENSE.replace("\"seed\": 0", "\"seed\": 0, \"speed\": 1");
    let error = read_config(more.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("unknown field `speed`"), "{error}");
    let less = DENSE.replace("  \"width\": 16,\n", "");
    let error = read_config(less.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("missing field `width`"), "{error}");
}

#[test]
fn a_recipe_that_cannot_be_is_refused() {
    let refusal = |json: String| read_config(json.as_bytes()).unwrap_err().to_string();
    let error = refusal(DENSE.replace("quick", "quicj"));
    assert!(error.starts_with("preset is \"quicj\"; it must be one of dawn, quick, small"), "{error}");
    let config = serde_json::to_string(&resolve("--data synthetic")).unwrap();
    for name in ["", "\\n", "\\u0000q"] {
        let error = refusal(config.replace("\"recipe\":\"quick\"", &format!("\"recipe\":\"{name}\"")));
        assert!(error.contains("it must be the name of a recipe"), "{error}");
    }
}

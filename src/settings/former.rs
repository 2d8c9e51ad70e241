//! Reading `config.json`, also that of runs begun before settings had groups.

use serde_json::{Map, Value};

use super::Config;
use super::values::Values;

/// Where the former version kept each setting: its object in the file (`""` is the file itself), its name
/// there, and its group and name now. Its dense runs had no object `mask`, and its runs of a single worker
/// none named `workers`.
const FORMER: &[(&str, &str, &str, &str)] = &[
    ("", "model", "network", "model"),
    ("", "width", "network", "width"),
    ("", "data", "data", "set"),
    ("", "train_images", "data", "images"),
    ("", "epochs", "train", "epochs"),
    ("", "batch_size", "train", "batch_size"),
    ("", "seed", "train", "seed"),
    ("", "label_smoothing", "train", "label_smoothing"),
    ("", "lr", "optimizer", "lr"),
    ("", "momentum", "optimizer", "momentum"),
    ("", "weight_decay", "optimizer", "weight_decay"),
    ("", "peak_epoch", "schedule", "peak_epoch"),
    ("", "checkpoint_every", "checkpoint", "every"),
    ("", "device", "device", "name"),
    ("", "precision", "device", "precision"),
    ("mask", "kind", "mask", "kind"),
    ("mask", "keep_ratio", "mask", "keep_ratio"),
    ("mask", "fisher_samples", "mask", "samples"),
    ("mask", "fisher_target", "mask", "target"),
    ("mask", "fisher_power", "mask", "power"),
    ("mask", "warmup_epochs", "mask", "warmup_epochs"),
    ("mask", "mask_every", "mask", "every"),
    ("mask", "update_rule", "mask", "rule"),
    ("mask", "checkpoint_state", "checkpoint", "state"),
    ("mask", "checkpoint_values", "checkpoint", "values"),
    ("workers", "count", "workers", "count"),
    ("workers", "merge_steps", "workers", "merge_steps"),
    ("workers", "reselect_merges", "workers", "reselect_merges"),
    ("workers", "masks", "workers", "masks"),
    ("workers", "aggregate", "workers", "aggregate"),
    ("workers", "shard_data", "workers", "shard_data"),
];

/// Reads the text of a run's `config.json`, of this version or of the former one.
///
/// # Errors
/// When it is not JSON, or not a configuration.
pub fn read_config(json: &[u8]) -> Result<Config, serde_json::Error> {
    match serde_json::from_slice(json)? {
        Value::Object(flat) if flat.contains_key("preset") => serde_json::from_value(grouped(flat)?),
        // Read anew, as errors then name the line.
        _ => serde_json::from_slice(json),
    }
}

/// The groups of a file of the former version.
fn grouped(mut flat: Map<String, Value>) -> Result<Value, serde_json::Error> {
    let defaults = Values::new().map_err(serde::de::Error::custom)?;
    let mut groups = Map::new();
    groups.insert("recipe".into(), flat.remove("preset").unwrap_or_default());
    let mut objects = vec![("mask", flat.remove("mask")), ("workers", flat.remove("workers"))];
    objects.push(("", Some(Value::Object(flat))));
    for &(object, name, group, key) in FORMER {
        let from = objects.iter_mut().find(|(found, _)| *found == object);
        let from = from.and_then(|(_, object)| object.as_mut()?.as_object_mut());
        let value = match (name, from.and_then(|from| from.remove(name))) {
            ("train_images", None | Some(Value::Null)) => "all".into(),
            ("data", Some(Value::String(set))) => set.to_lowercase().replace("cifar-10", "cifar10").into(),
            (_, Some(value)) => value,
            // Without the object all its values were the defaults.
            (_, None) if !object.is_empty() => match defaults.get(&format!("{group}.{key}")) {
                Some(default) => defaults.settled(default.setting.key),
                None => continue,
            },
            (_, None) => continue,
        };
        if let Value::Object(group) = groups.entry(group).or_insert_with(|| Map::new().into()) {
            group.insert(key.into(), value);
        }
    }
    // What is left is no version's: reading refuses it by name.
    let left = objects.into_iter().filter_map(|(_, object)| object);
    groups.extend(left.flat_map(|object| match object {
        Value::Object(map) => map,
        _ => Map::new(),
    }));
    Ok(Value::Object(groups))
}

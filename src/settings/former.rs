//! Reading `config.json`, also that of runs begun before settings had groups, or before a setting was there.

use serde_json::{Map, Value};

use super::Config;
use super::recipes::BUILT_IN;
use super::table::settings;
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
/// When it is not JSON, or not a configuration, or its recipe cannot be.
pub fn read_config(json: &[u8]) -> Result<Config, serde_json::Error> {
    let Value::Object(file) = serde_json::from_slice(json)? else { return serde_json::from_slice(json) };
    let former = file.contains_key("preset");
    check_name(&file)?;
    let mut groups = if former { grouped(file) } else { file };
    let added = add_defaults(&mut groups)?;
    // A text that is whole is read anew, as errors then name the line.
    if former || added { serde_json::from_value(groups.into()) } else { serde_json::from_slice(json) }
}

/// Whether a file names a recipe that there can be. The former version knew only its own, by name; today a
/// recipe may be a file of the user's, of any name.
fn check_name(file: &Map<String, Value>) -> Result<(), serde_json::Error> {
    let refuse = |key, name: &str, need| {
        let name = name.escape_debug();
        Err(serde::de::Error::custom(format!("{key} is \"{name}\"; it must be {need}")))
    };
    match (file.get("preset"), file.get("recipe")) {
        (Some(Value::String(name)), _) if !BUILT_IN.iter().any(|(known, _)| known == name) => {
            let known: Vec<&str> = BUILT_IN.iter().map(|(known, _)| *known).collect();
            refuse("preset", name, format!("one of {}", known.join(", ")))
        }
        (None, Some(Value::String(name))) if name.is_empty() || name.contains(char::is_control) => {
            refuse("recipe", name, "the name of a recipe".into())
        }
        _ => Ok(()),
    }
}

/// Gives a file the defaults of settings that it lacks; returns whether there were any.
fn add_defaults(groups: &mut Map<String, Value>) -> Result<bool, serde_json::Error> {
    let defaults = Values::new().map_err(serde::de::Error::custom)?;
    let mut added = false;
    for setting in settings().filter(|setting| setting.default.is_some()) {
        let Some((group, key)) = setting.key.split_once('.') else { continue };
        let group = groups.entry(group).or_insert_with(|| Map::new().into());
        if let Value::Object(group) = group
            && !group.contains_key(key)
        {
            group.insert(key.into(), defaults.settled(setting.key));
            added = true;
        }
    }
    Ok(added)
}

/// The groups of a file of the former version.
fn grouped(mut flat: Map<String, Value>) -> Map<String, Value> {
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
    groups
}

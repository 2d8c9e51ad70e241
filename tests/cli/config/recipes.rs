//! Recipes: the built-in ones, files, inheritance, and the effective recipe.

use std::fs;
use std::path::Path;

use fishmask::settings::table::settings;
use fishmask::settings::{page, recipes};
use serde_json::json;
use tempfile::{TempDir, tempdir};

use super::{contradiction, flags, no_gpu, refusal, resolve, resolved};

/// What the presets of the version before recipes came to: (name, whole configuration's settings that differ
/// by preset).
#[test]
fn every_built_in_recipe_is_what_its_preset_was() {
    let (all, part, dense, fisher) = (json!("all"), json!(10_000), "dense", "fisher");
    let (small, small_quick) = ("small-checkpoints", "small-checkpoints-quick");
    let presets = [
        ("dawn", "resnet9", 64, &all, 24, 512, 0.4, 5.0, dense, 1024, 0, 1, 100),
        (small, "resnet34", 64, &all, 100, 512, 0.4, 5.0, fisher, 1024, 0, 1, 100),
        (small_quick, "resnet9", 16, &part, 8, 128, 0.2, 1.6, fisher, 256, 0, 1, 100),
        ("workers", "resnet9", 64, &all, 50, 512, 0.4, 5.0, fisher, 256, 5, 2, 100),
        ("workers-quick", "resnet9", 16, &part, 8, 128, 0.2, 1.6, fisher, 256, 1, 2, 20),
        ("quick", "resnet9", 16, &part, 8, 128, 0.2, 1.6, dense, 1024, 0, 1, 100),
    ];
    assert_eq!(presets.len(), recipes::BUILT_IN.len());
    for (name, model, width, images, epochs, batch, lr, peak, kind, samples, warmup, count, merge) in presets
    {
        let expected = json!({
            "recipe": name,
            "network": {"model": model, "width": width},
            "data": {"set": "cifar10", "images": images},
            "train": {"epochs": epochs, "batch_size": batch, "seed": 0, "label_smoothing": 0.0},
            "optimizer": {"lr": lr, "momentum": 0.9, "weight_decay": 5e-4},
            "schedule": {"peak_epoch": peak, "final": 0.0},
            "start": {
                "weights": "none", "weights_only": "*", "mask": "none", "mask_of_other_weights": false,
            },
            "mask": {
                "kind": kind, "keep_ratio": 0.02, "samples": samples, "target": "label", "power": "square",
                "warmup_epochs": warmup, "every": 0, "rule": "strict",
            },
            "checkpoint": {"every": 1, "best": false, "state": "on", "values": "f32"},
            "workers": {
                "count": count, "merge_steps": merge, "reselect_merges": 10, "masks": "same",
                "aggregate": "mean", "shard_data": false,
            },
            "device": {"name": "cpu", "precision": "f32"},
        });
        let config = resolve(&format!("--recipe {name}"));
        assert_eq!(serde_json::to_value(&config).unwrap(), expected);
        assert_eq!(resolve(&format!("--preset {name}")), config);
    }
}

/// A setting has a row in the table and a field of the configuration, both of the same name.
#[test]
fn the_table_has_a_row_for_every_field() {
    let all = serde_json::to_value(resolve("")).unwrap();
    let groups =
        all.as_object().unwrap().iter().filter_map(|(group, fields)| Some((group, fields.as_object()?)));
    let mut fields: Vec<String> =
        groups.flat_map(|(group, fields)| fields.keys().map(move |name| format!("{group}.{name}"))).collect();
    let mut rows: Vec<&str> = settings().map(|setting| setting.key).collect();
    rows.sort_unstable();
    fields.sort_unstable();
    assert_eq!(rows, fields);
}

/// `FISHMASK_WRITE_DOCS=1 cargo test --test cli the_page_of_settings` writes it.
#[test]
fn the_page_of_settings_is_that_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    if std::env::var_os("FISHMASK_WRITE_DOCS").is_some() {
        fs::write(&path, page()).unwrap();
    }
    assert!(fs::read_to_string(path).unwrap() == page(), "write it anew by FISHMASK_WRITE_DOCS=1");
}

/// A folder with these recipes.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempdir().unwrap();
    files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
    folder
}

#[test]
fn a_file_inherits_from_files_and_recipes() {
    let folder = folder(&[
        ("wide.toml", "inherits = \"tuned.toml\"\nnetwork.width = 32\n"),
        ("tuned.toml", "inherits = \"quick\"\n[optimizer]\nlr = 0.1\n[network]\nwidth = 8\n"),
    ]);
    let path = folder.path().join("wide.toml");
    let config = resolve(&format!("--recipe {}", path.display()));
    assert_eq!(config.recipe, "wide");
    let as_flags = resolve("--width 32 --lr 0.1");
    assert_eq!(fishmask::settings::Config { recipe: "quick".into(), ..config }, as_flags);
    assert_eq!(resolve(&format!("--recipe {} --width 4", path.display())).network.width, 4);
}

#[test]
fn the_effective_recipe_gives_the_same_run() {
    for line in [
        "",
        "--recipe dawn --epochs 7",
        "--recipe workers-quick --mask random --set train.seed=18446744073709551615 --device emulated",
        "--recipe workers --workers 1 --mask dense --data synthetic --train-images 1000",
    ] {
        let before = resolved(line);
        let folder = folder(&[("effective.toml", &before.recipe())]);
        let path = folder.path().join("effective.toml");
        let after = resolved(&format!("--recipe {}", path.display()));
        assert_eq!(after.config, before.config, "{}", before.recipe());
    }
}

#[test]
fn the_effective_recipe_says_where_values_come_from() {
    let text = resolved("--width 8 --set train.epochs=5 --device cpu").recipe();
    for (line, from) in [
        ("name = \"quick\"", "auto: the device is a CPU, and dawn would take an hour or more"),
        ("width = 8", "--width"),
        ("epochs = 5", "--set"),
        ("batch_size = 128", "recipes/quick.toml:14"),
        ("model = \"resnet9\"", "recipes/dawn.toml:5"),
        ("peak_epoch = 1.0", "recipes/quick.toml:20, which says \"20%\""),
        ("momentum = 0.9", "default"),
        ("# keep_ratio = 0.02", "not used"),
        ("name = \"cpu\"", "--device"),
        ("precision = \"f32\"", "default, which says auto"),
    ] {
        let found = text.lines().any(|row| {
            row.split_once("  # ").is_some_and(|(value, why)| value.trim_end() == line && why == from)
        });
        assert!(found, "{line} # {from} is not in\n{text}");
    }
}

#[test]
fn a_recipe_may_give_what_a_flag_makes_meaningless_and_not_what_it_does_itself() {
    let folder = folder(&[("own.toml", "inherits = \"quick\"\n[mask]\nkind = \"random\"\nsamples = 100\n")]);
    let path = folder.path().join("own.toml");
    let shown = path.display();
    let error = refusal(&format!("--recipe {shown}"));
    assert_eq!(error, format!("{shown}:4: mask.samples = 100: this is for --mask fisher"));
    assert_eq!(resolve(&format!("--recipe {shown} --mask fisher")).mask.samples, 100);
    assert!(!resolve("--recipe workers-quick --mask dense").is_masked());
}

#[test]
fn recipes_that_cannot_be() {
    let folder = folder(&[
        ("empty.toml", "# nothing\n"),
        ("broken.toml", "[train]\nepochs = \n"),
        ("range.toml", "inherits = \"quick\"\n\n[mask]\nkind = \"fisher\"\nkeep_ratio = 0\n"),
        ("key.toml", "inherits = \"quick\"\nmask.keep_ration = 0.1\n"),
        ("group.toml", "inherits = \"quick\"\nmask = \"fisher\"\n"),
        ("list.toml", "inherits = \"quick\"\ntrain.epochs = [1, 2]\n"),
        ("text.toml", "inherits = \"quick\"\ntrain.epochs = \"3\"\n"),
        ("little.toml", "train.epochs = 3\n"),
        ("name.toml", "inherits = \"quick\"\nname = \"a/b\"\n"),
        ("self.toml", "inherits = \"self.toml\"\n"),
        ("a.toml", "inherits = \"b.toml\"\n"),
        ("b.toml", "inherits = \"a.toml\"\n"),
        ("orphan.toml", "train.epochs = 3\ninherits = \"gone.toml\"\n"),
        ("auto.toml", "inherits = \"auto\"\n"),
        ("number.toml", "inherits = 3\n"),
    ]);
    fs::write(folder.path().join("bytes.toml"), b"train.epochs = 3 # \xff\n").unwrap();
    fs::create_dir(folder.path().join("folder.toml")).unwrap();
    for (name, problem) in [
        ("empty.toml", ": an empty recipe; give at least one setting, or inherits = \"dawn\""),
        ("broken.toml", ":2: not TOML: "),
        ("range.toml", ":5: mask.keep_ratio = 0: must be above 0 and at most 1"),
        ("key.toml", ":2: mask.keep_ration = 0.1: there is no such setting; did you mean mask.keep_ratio?"),
        ("group.toml", ":2: mask = \"fisher\": there is no such setting"),
        ("list.toml", ":2: train.epochs = array: a setting is a string, a number, true or false"),
        ("text.toml", ":2: train.epochs = \"3\": must be a whole number"),
        ("name.toml", ":2: name = \"a/b\": must be a string of letters"),
        ("self.toml", ":1: inherits = \"self.toml\": inheritance goes round in a ring, back to "),
        ("a.toml", "/b.toml:1: inherits = \"a.toml\": inheritance goes round in a ring, back to "),
        (
            "orphan.toml",
            ":2: inherits = \"gone.toml\": there is no such file, and the recipes are auto, dawn,",
        ),
        ("auto.toml", ":1: inherits = \"auto\": "),
        ("number.toml", ":1: inherits = 3: must be a string"),
        ("bytes.toml", ": not a recipe: not UTF-8 at byte 19"),
        ("folder.toml", ": a folder, and a recipe is a file"),
    ] {
        let path = folder.path().join(name);
        let error = refusal(&format!("--recipe {}", path.display()));
        assert!(error.contains(problem) && error.lines().count() == 1, "{name}: {error}");
        assert!(error.starts_with(&folder.path().display().to_string()), "{name}: {error}");
    }
    let path = folder.path().join("little.toml");
    let error = refusal(&format!("--recipe {}", path.display()));
    assert!(error.starts_with("recipe little: it says nothing of network.model; add it"), "{error}");
    let error = refusal("--recipe quik");
    assert!(
        error.starts_with("--recipe quik: there is no such file, and the recipes are auto, dawn, "),
        "{error}"
    );
    assert!(error.ends_with("; did you mean quick?"), "{error}");
}

#[test]
fn resuming_with_another_recipe() {
    let text =
        "--recipe dawn contradicts the run, whose config.json has quick; leave it out, or start a new run";
    assert_eq!(contradiction("--recipe dawn"), text);
    let folder = folder(&[("quick.toml", "inherits = \"quick\"\ntrain.epochs = 9\n")]);
    let path = folder.path().join("quick.toml");
    let error = contradiction(&format!("--recipe {}", path.display()));
    let expected =
        format!("{}:2: train.epochs = 9 contradicts the run, whose config.json has 8", path.display());
    assert!(error.starts_with(&expected), "{error}");
    let run = flags(&format!("--recipe {}", path.display())).resolve(no_gpu).unwrap().config;
    assert_eq!(run.agrees(&flags(&format!("--recipe {}", path.display()))), Ok(()));
}

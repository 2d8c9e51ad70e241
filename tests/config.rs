//! Flags, presets and run folders: what they come to, and one clear error for each bad input.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use fishmask::backend::Power;
use fishmask::distributed::Aggregate;
use fishmask::graph::Model;
use fishmask::mask::Kind;
use fishmask::train::{
    CheckpointState, Config, FisherTarget, Flags, FolderError, Precision, Preset, Reasons, Rule, RunFolder,
    WorkerMasks, Workers, config,
};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

fn flags(line: &str) -> Flags {
    Cli::try_parse_from(format!("train {line}").split_whitespace()).unwrap().flags
}

/// As on a machine without a GPU.
fn no_gpu() -> Result<(), String> {
    Err("no GPU here".into())
}

fn resolve(line: &str) -> Config {
    Config::new(&flags(line), no_gpu).unwrap().0
}

/// The error of flags that parse and cannot be followed.
#[track_caller]
fn refusal(line: &str) -> String {
    Config::new(&flags(line), no_gpu).unwrap_err().to_string()
}

/// The error of a flag given when resuming a quick run.
#[track_caller]
fn contradiction(line: &str) -> String {
    resolve("").agrees(&flags(line)).unwrap_err().to_string()
}

#[test]
fn quick_is_the_recipe_of_a_cpu() {
    let (config, reasons) = Config::new(&Flags::default(), no_gpu).unwrap();
    let expected = Config {
        preset: "quick".into(),
        model: Model::Resnet9,
        width: 16,
        epochs: 8,
        batch_size: 128,
        lr: 0.2,
        peak_epoch: 1.6,
        momentum: 0.9,
        weight_decay: 5e-4,
        label_smoothing: 0.0,
        train_images: Some(10_000),
        mask: None,
        workers: None,
        data: "CIFAR-10".into(),
        device: "cpu".into(),
        precision: Precision::F32,
        seed: 0,
        checkpoint_every: 1,
    };
    assert_eq!(config, expected);
    assert_eq!(reasons.device, "auto: no GPU here");
    assert_eq!(reasons.preset, "auto: the device is a CPU, and dawn would take an hour or more");
    assert_eq!(resolve("--preset auto --device auto --data cifar10"), expected);
    let reasons = Reasons { device: "--device".into(), preset: "--preset".into() };
    assert_eq!(Config::new(&flags("--preset quick --device cpu"), no_gpu).unwrap(), (expected, reasons));
}

#[test]
fn dawn_is_the_specification() {
    let config = resolve("--preset dawn");
    assert_eq!((config.width, config.epochs, config.batch_size), (64, 24, 512));
    assert_eq!((config.lr, config.peak_epoch, config.train_images), (0.4, 5.0, None));
    assert_eq!(Preset::default(), Preset::Auto);
}

#[test]
fn presets_set_only_what_is_not_given() {
    let line = "--preset dawn --model resnet34 --width 8 --epochs 3 --batch-size 7 --lr 0.02 --peak-epoch 2 \
                --momentum 0.5 --weight-decay 0 --label-smoothing 0.2 --train-images 70 --data synthetic \
                --device cpu --seed 18446744073709551615 --checkpoint-every 0";
    let expected = Config {
        preset: "dawn".into(),
        model: Model::Resnet34,
        width: 8,
        epochs: 3,
        batch_size: 7,
        lr: 0.02,
        peak_epoch: 2.0,
        momentum: 0.5,
        weight_decay: 0.0,
        label_smoothing: 0.2,
        train_images: Some(70),
        mask: None,
        workers: None,
        data: "synthetic".into(),
        device: "cpu".into(),
        precision: Precision::F32,
        seed: u64::MAX,
        checkpoint_every: 0,
    };
    assert_eq!(resolve(line), expected);
}

#[test]
fn the_peak_follows_the_epochs() {
    for (line, peak) in
        [("--epochs 20", 4.0), ("--preset dawn --epochs 100", 5.0), ("--preset dawn --epochs 12", 2.5)]
    {
        assert_eq!(resolve(line).peak_epoch, peak, "{line}");
    }
    // A preset's own peak is inside however short the run.
    assert_eq!(resolve("--preset dawn --epochs 1").peak_epoch, 5.0 / 24.0);
}

#[test]
fn width_0() {
    assert_eq!(refusal("--width 0"), "--width 0: must be from 1 to 512 channels");
}

#[test]
fn width_of_a_network_that_no_machine_holds() {
    assert_eq!(
        refusal("--width 18446744073709551615"),
        "--width 18446744073709551615: must be from 1 to 512 channels"
    );
}

#[test]
fn epochs_0() {
    assert_eq!(refusal("--epochs 0"), "--epochs 0: train for at least 1 epoch");
}

#[test]
fn batch_size_0() {
    assert_eq!(refusal("--batch-size 0"), "--batch-size 0: a step needs at least 1 image");
}

#[test]
fn train_images_0() {
    assert_eq!(refusal("--train-images 0"), "--train-images 0: training needs at least 1 image");
}

#[test]
fn threads_0() {
    assert_eq!(config::threads(Some(0)).unwrap_err().to_string(), "--threads 0: must be from 1 to 4096");
    assert!(config::threads(Some(4097)).is_err());
    assert_eq!(config::threads(Some(3)), Ok(3));
    assert!(config::threads(None).unwrap() >= 1);
}

#[test]
fn batch_larger_than_the_set() {
    let expected =
        "--batch-size 101: larger than the training set of 100 images; an epoch would have no step";
    assert_eq!(refusal("--train-images 100 --batch-size 101"), expected);
    assert!(Config::new(&flags("--train-images 100 --batch-size 100"), no_gpu).is_ok());
    // Known only once the data is there.
    let config = resolve("--preset dawn --batch-size 101");
    assert_eq!(config.images(100).unwrap_err().to_string(), expected);
    assert_eq!(config.images(101), Ok(101));
}

#[test]
fn more_training_images_than_there_are() {
    let error = resolve("--train-images 50001").images(50_000).unwrap_err().to_string();
    assert_eq!(error, "--train-images 50001: CIFAR-10 has only 50000 training images");
    assert_eq!(resolve("--train-images 500").images(50_000), Ok(500));
}

#[test]
fn lr_out_of_range() {
    for value in ["nan", "inf", "-0.1", "0"] {
        let error = refusal(&format!("--lr {value}"));
        assert!(error.ends_with(": must be a number above 0") && error.starts_with("--lr "), "{error}");
    }
}

#[test]
fn momentum_out_of_range() {
    for value in ["nan", "inf", "-0.1", "1"] {
        let error = refusal(&format!("--momentum {value}"));
        assert!(
            error.ends_with(": must be at least 0 and below 1") && error.starts_with("--momentum "),
            "{error}"
        );
    }
}

#[test]
fn weight_decay_out_of_range() {
    for value in ["nan", "inf", "-0.1", "1.5"] {
        let error = refusal(&format!("--weight-decay {value}"));
        assert!(error.ends_with(": must be from 0 to 1") && error.starts_with("--weight-decay "), "{error}");
    }
}

#[test]
fn label_smoothing_out_of_range() {
    for value in ["nan", "inf", "-0.1", "1"] {
        let error = refusal(&format!("--label-smoothing {value}"));
        assert!(
            error.ends_with("must be at least 0 and below 1") && error.starts_with("--label-smoothing "),
            "{error}"
        );
    }
}

#[test]
fn peak_epoch_outside_the_run() {
    for value in ["nan", "-1", "8.5"] {
        let error = refusal(&format!("--peak-epoch {value}"));
        assert!(
            error.ends_with(": must be from 0 to the 8 epochs") && error.starts_with("--peak-epoch "),
            "{error}"
        );
    }
    for value in ["0", "8"] {
        assert!(Config::new(&flags(&format!("--peak-epoch {value}")), no_gpu).is_ok());
    }
}

#[test]
fn unknown_names_and_broken_numbers_are_refused_with_what_there_is() {
    let cases = [
        ("--device tpu", "there is no such device; use auto, cpu, cuda, cuda:N or emulated"),
        ("--device cuda:x", "there is no such device"),
        ("--precision f64", "[possible values: f16, f32]"),
        ("--model resnet50", "[possible values: resnet9, resnet18, resnet34]"),
        (
            "--preset slow",
            "[possible values: auto, dawn, small-checkpoints, small-checkpoints-quick, workers, workers-quick, quick]",
        ),
        ("--data mnist", "[possible values: cifar10, synthetic]"),
        ("--epochs many", "--epochs <N>"),
        ("--lr 0,4", "--lr <LR>"),
        ("--seed -1", "-1"),
    ];
    for (line, part) in cases {
        let error =
            Cli::try_parse_from(format!("train {line}").split_whitespace()).err().unwrap().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn resuming_with_the_same_flags_is_fine() {
    let config = resolve("");
    for line in [
        "",
        "--preset auto",
        "--preset quick --width 16",
        "--lr 0.20 --data cifar10 --device auto --epochs 8",
    ] {
        assert_eq!(config.agrees(&flags(line)), Ok(()), "{line}");
    }
}

#[test]
fn resuming_with_other_flags_names_the_flag_and_both_values() {
    let expected =
        "--width 32 contradicts the run, whose config.json has 16; leave the flag out, or start a new run";
    assert_eq!(contradiction("--width 32"), expected);
    let cases = [
        ("--preset dawn", "quick"),
        ("--model resnet18", "resnet9"),
        ("--epochs 9", "8"),
        ("--batch-size 64", "128"),
        ("--lr 0.3", "0.2"),
        ("--peak-epoch 1", "1.6"),
        ("--momentum 0.8", "0.9"),
        ("--weight-decay 0", "0.0005"),
        ("--label-smoothing 0.1", "0"),
        ("--train-images 9999", "10000"),
        ("--data synthetic", "CIFAR-10"),
        ("--seed 1", "0"),
        ("--checkpoint-every 2", "1"),
    ];
    for (line, run) in cases {
        let expected = format!("{line} contradicts the run, whose config.json has {run}; leave");
        let error = contradiction(line);
        assert!(error.starts_with(&expected), "{error}");
    }
    let error = resolve("--preset dawn").agrees(&flags("--train-images 5")).unwrap_err().to_string();
    assert!(error.starts_with("--train-images 5 contradicts the run, whose config.json has all;"), "{error}");
}

#[test]
fn config_json_round_trips_and_admits_nothing_unknown() {
    let config = resolve("--preset dawn --lr 0.1 --seed 18446744073709551615");
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    let odd = json.replacen('{', r#"{"learning_rate":1,"#, 1);
    assert!(
        serde_json::from_str::<Config>(&odd)
            .unwrap_err()
            .to_string()
            .contains("unknown field `learning_rate`")
    );
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A run that has begun, in a temporary folder.
fn begun() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("runs/a");
    RunFolder::create(&path).unwrap().begin(&resolve("")).unwrap();
    (parent, path)
}

#[test]
fn a_run_folder_opens_as_it_was_begun() {
    let (_parent, path) = begun();
    assert_eq!(names(&path), [".lock", "checkpoints", "config.json"]);
    let (folder, config) = RunFolder::open(&path).unwrap();
    assert_eq!(config, resolve(""));
    assert_eq!(folder.checkpoints(), path.join("checkpoints"));
    assert!(fs::read_to_string(path.join("config.json")).unwrap().contains("\"data\": \"CIFAR-10\""));
}

#[test]
fn the_default_folder_is_named_by_utc_time_and_preset() {
    let path = RunFolder::default_path("quick", jiff::Timestamp::from_second(1_785_499_200).unwrap());
    assert_eq!(path, Path::new("runs/20260731T120000Z-quick"));
}

#[test]
fn a_run_that_never_begins_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a");
    drop(RunFolder::create(&path).unwrap());
    assert!(!path.exists());
    // A folder that was there stays, empty.
    fs::create_dir(&path).unwrap();
    drop(RunFolder::create(&path).unwrap());
    assert_eq!(names(&path), [""; 0]);
    // What a killed program left before it began is in nobody's way.
    fs::create_dir(path.join("checkpoints")).unwrap();
    fs::write(path.join(".lock"), "").unwrap();
    fs::write(path.join(".config.json.12.partial"), "{").unwrap();
    RunFolder::create(&path).unwrap().begin(&resolve("")).unwrap();
}

#[test]
fn an_existing_run_is_not_trained_over() {
    let (_parent, path) = begun();
    let error = RunFolder::create(&path).unwrap_err().to_string();
    let shown = path.display();
    let expected = format!(
        "{shown}: a run is already there; go on with it by --resume {shown}, or choose another --run-dir"
    );
    assert_eq!(error, expected);
    assert!(path.join("config.json").exists());
}

#[test]
fn a_folder_of_other_files_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    fs::write(parent.path().join("thesis.tex"), "").unwrap();
    let error = RunFolder::create(parent.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("there are other files in it, such as thesis.tex; choose another --run-dir"),
        "{error}"
    );
    assert_eq!(names(parent.path()), ["thesis.tex"]);
}

#[test]
fn a_folder_that_cannot_be_made_is_told() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "mine").unwrap();
    let error = RunFolder::create(&file.join("run")).unwrap_err().to_string();
    assert!(error.contains("file/run/checkpoints: cannot create this folder: "), "{error}");
    assert!(
        RunFolder::create(&file).unwrap_err().to_string().contains("file: cannot use it as a run folder")
    );
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

#[test]
fn resuming_what_is_no_run_folder_says_why() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    let cases = [
        (parent.path().join("absent"), "not a run folder: it does not exist"),
        (file, "not a run folder: it is a file"),
        (parent.path().to_path_buf(), "not a run folder: it has no config.json"),
    ];
    for (path, reason) in cases {
        let error = RunFolder::open(&path).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {reason}", path.display()));
    }
    assert_eq!(names(parent.path()), ["file"]);
}

#[test]
fn a_broken_or_impossible_config_json_is_named() {
    let (_parent, path) = begun();
    let file = path.join("config.json");
    fs::write(&file, "{\"preset\": \"quick\"").unwrap();
    let error = RunFolder::open(&path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: not a run's configuration: EOF", file.display())), "{error}");
    let mut config = resolve("");
    config.batch_size = 0;
    fs::write(&file, serde_json::to_string(&config).unwrap()).unwrap();
    let error = RunFolder::open(&path).unwrap_err().to_string();
    assert_eq!(error, format!("{}: --batch-size 0: a step needs at least 1 image", file.display()));
    config = Config { device: "tpu".into(), ..resolve("") };
    fs::write(&file, serde_json::to_string(&config).unwrap()).unwrap();
    assert!(
        RunFolder::open(&path).unwrap_err().to_string().contains("--device tpu: there is no such device")
    );
}

#[test]
fn two_programs_cannot_train_in_one_folder() {
    let (_parent, path) = begun();
    let (first, _) = RunFolder::open(&path).unwrap();
    let error = RunFolder::open(&path).unwrap_err();
    assert!(matches!(error, FolderError::InUse(_)), "{error}");
    drop(first);
    assert!(RunFolder::open(&path).is_ok());
    // Nor may a second one clear away what a first one has just made.
    let fresh = path.with_file_name("b");
    let mut first = RunFolder::create(&fresh).unwrap();
    assert!(matches!(RunFolder::create(&fresh).unwrap_err(), FolderError::InUse(_)));
    first.begin(&resolve("")).unwrap();
}

#[test]
fn opening_clears_away_what_a_kill_left_half_written() {
    let (_parent, path) = begun();
    fs::write(path.join(".final.safetensors.7.partial"), "half").unwrap();
    fs::write(path.join("checkpoints/.epoch-0001-step-00000.safetensors.7.partial"), "half").unwrap();
    RunFolder::open(&path).unwrap();
    assert_eq!(names(&path), [".lock", "checkpoints", "config.json"]);
    assert_eq!(names(&path.join("checkpoints")), [""; 0]);
}

#[test]
fn logs_are_cut_back_to_the_epochs_that_are_done() {
    let (_parent, path) = begun();
    let metrics = "{\"epoch\":1,\"lr\":0.1}\n{\"epoch\":2,\"lr\":0.1}\n";
    let logs = "epoch\thours\ttop1Accuracy\n1\t0.1\t40.00\n2\t0.2\t50.00\n";
    // Epoch 3 was logged and not kept; of epoch 10 and 1 only a part of the line got there.
    fs::write(path.join("metrics.jsonl"), format!("{metrics}{{\"epoch\":3}}\n{{\"epoch\":1,")).unwrap();
    fs::write(path.join("logs.tsv"), format!("{logs}3\t0.3\t60.00\n1")).unwrap();
    let (folder, _) = RunFolder::open(&path).unwrap();
    folder.cut_back(2).unwrap();
    assert_eq!(fs::read_to_string(path.join("metrics.jsonl")).unwrap(), metrics);
    assert_eq!(fs::read_to_string(path.join("logs.tsv")).unwrap(), logs);
    folder.cut_back(0).unwrap();
    assert_eq!(fs::read_to_string(path.join("metrics.jsonl")).unwrap(), "");
    assert_eq!(fs::read_to_string(path.join("logs.tsv")).unwrap(), "epoch\thours\ttop1Accuracy\n");
    // Files that were never written are none to cut.
    fs::remove_file(path.join("logs.tsv")).unwrap();
    folder.cut_back(0).unwrap();
}

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

#[test]
fn workers_and_their_presets() {
    assert_eq!(resolve("--workers 1"), resolve(""));
    let two = resolve("--workers 2").workers.unwrap();
    let same = Workers {
        count: 2,
        merge_steps: 100,
        reselect_merges: 10,
        masks: WorkerMasks::Same,
        aggregate: Aggregate::Mean,
        shard_data: false,
    };
    assert_eq!(two, same);
    // By lot there is nothing to share.
    assert_eq!(resolve("--workers 2 --mask random").workers.unwrap().masks, WorkerMasks::Interleaved);
    let line = "--workers 3 --mask fisher --merge-steps 7 --reselect-merges 0 --worker-masks interleaved --aggregate sum \
                --shard-data";
    let all = Workers {
        count: 3,
        merge_steps: 7,
        reselect_merges: 0,
        masks: WorkerMasks::Interleaved,
        aggregate: Aggregate::Sum,
        shard_data: true,
    };
    let config = resolve(line);
    assert_eq!(config.workers, Some(all));
    assert_eq!((config.worker_count(), config.worker_images(10_000)), (3, 3333));
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    assert!(
        !serde_json::to_string(&resolve("")).unwrap().contains("workers"),
        "as single runs always had it"
    );

    let paper = resolve("--preset workers");
    let recipe = (paper.model, paper.width, paper.epochs, paper.batch_size, paper.lr, paper.peak_epoch);
    assert_eq!(recipe, (Model::Resnet9, 64, 50, 512, 0.4, 5.0));
    let mask = paper.mask.unwrap();
    assert_eq!((mask.keep_ratio, mask.fisher_samples, mask.warmup_epochs), (0.02, 256, 5));
    assert_eq!(paper.workers, Some(same));
    let quick = resolve("--preset workers-quick");
    assert_eq!((quick.workers.unwrap().merge_steps, quick.mask.unwrap().warmup_epochs), (20, 1));
    assert_eq!(resolve("--preset workers-quick --workers 1").workers, None);
}

#[test]
fn workers_that_cannot_be() {
    for (line, parts) in [
        ("--workers 0", ["--workers 0", "at least 1 worker"]),
        ("--workers 5000", ["--workers 5000", "from 1 to 4096"]),
        ("--merge-steps 5", ["--merge-steps 5", "this is for 2 workers or more"]),
        ("--shard-data", ["--shard-data", "this is for 2 workers or more"]),
        ("--workers 2 --reselect-merges 3", ["--reselect-merges 3", "--mask fisher or --mask random"]),
        ("--workers 2 --merge-steps 0", ["--merge-steps 0", "at least 1 step"]),
        ("--workers 2 --aggregate sum", ["--aggregate sum", "--worker-masks interleaved"]),
        ("--workers 2 --worker-masks interleaved", ["--worker-masks interleaved", "--mask fisher or random"]),
        ("--workers 2 --mask fisher --mask-every 1", ["--mask-every 1", "--reselect-merges"]),
        (
            "--workers 2 --mask fisher --worker-masks interleaved --aggregate sum --update-rule published",
            ["--aggregate sum", "--update-rule strict"],
        ),
        (
            "--workers 4 --mask fisher --worker-masks interleaved --keep-ratio 0.3",
            ["4 masks of 123883 weights", "than the 412944 that the model has"],
        ),
        (
            "--workers 100 --shard-data",
            ["--workers 100", "each has 100 of the 10000 training images, fewer than a batch of 128"],
        ),
        ("--workers 3 --mask fisher --shard-data --fisher-samples 10000", ["10000", "there are 9999 images"]),
    ] {
        let text = refusal(line);
        assert!(parts.iter().all(|part| text.contains(part)), "{line}: {text}");
    }
}

#[test]
fn resuming_with_other_workers() {
    let run = resolve("--workers 3 --mask fisher --merge-steps 7 --shard-data");
    let agrees = |line: &str| run.agrees(&flags(line)).map_err(|error| error.to_string());
    for line in ["", "--workers 3", "--merge-steps 7 --shard-data --worker-masks same"] {
        assert_eq!(agrees(line), Ok(()), "{line}");
    }
    for (line, parts) in [
        ("--workers 2", ["--workers 2", "has 3"]),
        ("--workers 1", ["--workers 1", "has 3"]),
        ("--merge-steps 8", ["--merge-steps 8", "has 7"]),
        ("--worker-masks interleaved", ["--worker-masks interleaved", "has same"]),
    ] {
        let text = agrees(line).unwrap_err();
        assert!(parts.iter().all(|part| text.contains(part)), "{line}: {text}");
    }
    assert!(contradiction("--workers 2").contains("has 1"));
    let whole = resolve("--workers 3");
    assert!(whole.agrees(&flags("--shard-data")).unwrap_err().to_string().contains("--shard-data"));
}

#[test]
fn what_tells_two_configurations_apart_is_named_by_its_flag() {
    let own = resolve("--workers 2 --mask fisher");
    let difference = |line: &str| own.difference(&resolve(line));
    assert_eq!(difference("--workers 2 --mask fisher --preset quick"), None);
    let named = |line: &str| difference(line).unwrap();
    let texts = |flag: &str, own: &str, other: &str| (flag.to_string(), own.to_string(), other.to_string());
    assert_eq!(named("--workers 2 --mask fisher --lr 0.3"), texts("lr", "0.2", "0.3"));
    assert_eq!(named("--workers 2 --mask random").0, "mask");
    assert_eq!(named("--workers 2 --mask fisher --worker-masks interleaved").0, "worker-masks");
    assert_eq!(named("--workers 2 --mask fisher --merge-steps 9"), texts("merge-steps", "100", "9"));
    assert_eq!(named("--workers 2 --mask fisher --train-images 9000").0, "train-images");
    assert_eq!(named("--workers 2"), texts("mask", "fisher", "(not set)"));
}

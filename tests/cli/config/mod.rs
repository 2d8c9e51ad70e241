//! Flags, presets and run folders: what they come to, and one clear error for each bad input.

mod folder;
mod former;
mod masks;
mod recipes;
mod sets;
mod workers;

use fishmask::data::DataSource;
use fishmask::device::{Device, Precision};
use fishmask::graph::{Model, ModelId};
use fishmask::settings::{
    CheckpointSettings, CheckpointState, Config, ConfigError, DataSettings, DeviceSettings,
    OptimizerSettings, Reasons, Request, Resolved, ScheduleSettings, TrainSettings, arguments, threads,
};

/// What a command line asks for; its error is that of the command line.
fn parse(line: &str) -> Result<Result<Request, ConfigError>, clap::Error> {
    let command = arguments(clap::Command::new("train"), |_| true);
    command.try_get_matches_from(format!("train {line}").split_whitespace()).map(|m| Request::new(&m))
}

#[track_caller]
fn flags(line: &str) -> Request {
    parse(line).unwrap().unwrap()
}

/// As on a machine without a GPU.
fn no_gpu() -> Result<(), String> {
    Err("no GPU here".into())
}

#[track_caller]
fn resolved(line: &str) -> Resolved {
    flags(line).resolve(no_gpu).unwrap()
}

#[track_caller]
fn resolve(line: &str) -> Config {
    resolved(line).config
}

/// The error of flags that parse and cannot be followed.
#[track_caller]
fn refusal(line: &str) -> String {
    let resolved = parse(line).unwrap().and_then(|request| request.resolve(no_gpu));
    resolved.err().unwrap().to_string()
}

/// The error of a flag given when resuming a quick run.
#[track_caller]
fn contradiction(line: &str) -> String {
    resolve("").agrees(&flags(line)).unwrap_err().to_string()
}

#[test]
fn quick_is_the_recipe_of_a_cpu() {
    let Resolved { config, reasons, .. } = Request::default().resolve(no_gpu).unwrap();
    let expected = Config {
        recipe: "quick".into(),
        network: ModelId::new(Model::Resnet9, 16),
        data: DataSettings { set: DataSource::Cifar10, images: Some(10_000) },
        train: TrainSettings { epochs: 8, batch_size: 128, seed: 0, label_smoothing: 0.0 },
        optimizer: OptimizerSettings { lr: 0.2, momentum: 0.9, weight_decay: 5e-4 },
        schedule: ScheduleSettings { peak_epoch: 1.6, final_share: 0.0 },
        checkpoint: CheckpointSettings {
            every: 1,
            best: false,
            state: CheckpointState::On,
            values: Precision::F32,
        },
        device: DeviceSettings { name: Device::Cpu, precision: Precision::F32 },
        ..config.clone()
    };
    assert!(!config.is_masked() && !config.has_workers());
    assert_eq!(config, expected);
    assert_eq!(reasons.device, "auto: no GPU here");
    assert_eq!(reasons.recipe, "auto: the device is a CPU, and dawn would take an hour or more");
    assert_eq!(resolve("--preset auto --device auto --data cifar10"), expected);
    let reasons = Reasons { device: "--device".into(), recipe: "--recipe".into() };
    let both = resolved("--recipe quick --device cpu");
    assert_eq!((both.config, both.reasons), (expected, reasons));
}

#[test]
fn dawn_is_the_specification() {
    let config = resolve("--preset dawn");
    assert_eq!((config.network.width, config.train.epochs, config.train.batch_size), (64, 24, 512));
    assert_eq!((config.optimizer.lr, config.schedule.peak_epoch, config.data.images), (0.4, 5.0, None));
}

#[test]
fn presets_set_only_what_is_not_given() {
    let line = "--preset dawn --model resnet34 --width 8 --epochs 3 --batch-size 7 --lr 0.02 --peak-epoch 2 \
                --momentum 0.5 --weight-decay 0 --label-smoothing 0.2 --train-images 70 --data synthetic \
                --device cpu --seed 18446744073709551615 --checkpoint-every 0";
    let expected = Config {
        recipe: "dawn".into(),
        network: ModelId::new(Model::Resnet34, 8),
        data: DataSettings { set: DataSource::Synthetic, images: Some(70) },
        train: TrainSettings { epochs: 3, batch_size: 7, seed: u64::MAX, label_smoothing: 0.2 },
        optimizer: OptimizerSettings { lr: 0.02, momentum: 0.5, weight_decay: 0.0 },
        schedule: ScheduleSettings { peak_epoch: 2.0, final_share: 0.0 },
        checkpoint: CheckpointSettings { every: 0, ..resolve("").checkpoint },
        ..resolve("")
    };
    assert_eq!(resolve(line), expected);
}

#[test]
fn the_peak_follows_the_epochs() {
    for (line, peak) in
        [("--epochs 20", 4.0), ("--preset dawn --epochs 100", 5.0), ("--preset dawn --epochs 12", 2.5)]
    {
        assert_eq!(resolve(line).schedule.peak_epoch, peak, "{line}");
    }
    // A preset's own peak is inside however short the run.
    assert_eq!(resolve("--preset dawn --epochs 1").schedule.peak_epoch, 5.0 / 24.0);
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
    assert_eq!(threads(Some(0)).unwrap_err().to_string(), "--threads 0: must be from 1 to 4096");
    assert!(threads(Some(4097)).is_err());
    assert_eq!(threads(Some(3)), Ok(3));
    assert!(threads(None).unwrap() >= 1);
}

#[test]
fn batch_larger_than_the_set() {
    let expected =
        "--batch-size 101: larger than the training set of 100 images; an epoch would have no step";
    assert_eq!(refusal("--train-images 100 --batch-size 101"), expected);
    assert!(flags("--train-images 100 --batch-size 100").resolve(no_gpu).is_ok());
    // Known only once the data is there.
    let Resolved { config, values, .. } = resolved("--preset dawn --batch-size 101");
    assert_eq!(values.name(config.images(100).unwrap_err()).to_string(), expected);
    assert_eq!(config.images(101), Ok(101));
}

#[test]
fn more_training_images_than_there_are() {
    let Resolved { config, values, .. } = resolved("--train-images 50001");
    let error = values.name(config.images(50_000).unwrap_err()).to_string();
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
    for value in ["-1", "8.5"] {
        let error = refusal(&format!("--peak-epoch {value}"));
        assert_eq!(error, format!("--peak-epoch {value}: must be from 0 to the 8 epochs"));
    }
    for value in ["nan", "20", "5/0", "5/24,at", "half"] {
        let error = refusal(&format!("--peak-epoch {value}"));
        assert!(error.starts_with(&format!("--peak-epoch {value}: must be ")), "{error}");
    }
    for (value, peak) in [("0", 0.0), ("8", 8.0), ("25%", 2.0), ("3/4", 6.0)] {
        assert_eq!(resolve(&format!("--peak-epoch {value}")).schedule.peak_epoch, peak);
    }
}

#[test]
fn unknown_names_are_refused_with_what_there_is() {
    let cases = [
        ("--precision f64", "[possible values: auto, f16, f32]"),
        ("--model resnet50", "[possible values: resnet9, resnet18, resnet34]"),
        ("--data mnist", "[possible values: cifar10, synthetic]"),
    ];
    for (line, part) in cases {
        let error = parse(line).err().unwrap().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn broken_values_are_refused_as_they_were_typed() {
    for (line, text) in [
        ("--device tpu", "--device tpu: there is no such device; use auto, cpu, cuda, cuda:N or emulated"),
        (
            "--device cuda:x",
            "--device cuda:x: there is no such device; use auto, cpu, cuda, cuda:N or emulated",
        ),
        ("--epochs many", "--epochs many: must be a whole number"),
        ("--epochs 1.5", "--epochs 1.5: must be a whole number"),
        ("--epochs 5000000000", "--epochs 5000000000: must be at most 4294967295"),
        ("--lr 0,4", "--lr 0,4: must be a number"),
        ("--seed -1", "--seed -1: must be at least 0"),
        ("--train-images some", "--train-images some: must be a number of images, or all"),
        ("--set network.model=resnet50", "--set network.model=resnet50: must be resnet9, resnet18, resnet34"),
        ("--set workers.shard_data=1", "--set workers.shard_data=1: must be true or false"),
        ("--set train.epochs=\"3\"", "--set train.epochs=3: must be a whole number"),
        ("--set train.epochs=[3]", "--set train.epochs=[3]: must be a whole number"),
    ] {
        assert_eq!(refusal(line), text);
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
        "--width 32 contradicts the run, whose config.json has 16; leave it out, or start a new run";
    assert_eq!(contradiction("--width 32"), expected);
    let cases = [
        ("--recipe dawn", "quick"),
        ("--model resnet18", "resnet9"),
        ("--epochs 9", "8"),
        ("--batch-size 64", "128"),
        ("--lr 0.3", "0.2"),
        ("--peak-epoch 1", "1.6"),
        ("--momentum 0.8", "0.9"),
        ("--weight-decay 0", "0.0005"),
        ("--label-smoothing 0.1", "0.0"),
        ("--train-images 9999", "10000"),
        ("--data synthetic", "cifar10"),
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

#[test]
fn what_tells_two_configurations_apart_is_named_by_its_flag() {
    let own = resolve("--workers 2 --mask fisher");
    let difference = |line: &str| own.difference(&resolve(line));
    assert_eq!(difference("--workers 2 --mask fisher --preset quick"), None);
    let named = |line: &str| difference(line).unwrap();
    let texts = |flag: &str, own: &str, other: &str| (flag.to_string(), own.to_string(), other.to_string());
    assert_eq!(named("--workers 2 --mask fisher --lr 0.3"), texts("--lr ", "0.2", "0.3"));
    assert_eq!(named("--workers 2 --mask random").0, "--mask ");
    assert_eq!(named("--workers 2 --mask fisher --worker-masks interleaved").0, "--worker-masks ");
    assert_eq!(named("--workers 2 --mask fisher --merge-steps 9"), texts("--merge-steps ", "100", "9"));
    assert_eq!(named("--workers 2 --mask fisher --train-images 9000").0, "--train-images ");
    assert_eq!(named("--workers 2"), texts("--mask ", "fisher", "dense"));
}

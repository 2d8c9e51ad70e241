//! The programs as a user types them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::support::cli::{
    Running, SMALL, SMALL_MODEL, contents, evaluate, finish, listing, mask, restore, subcommand, succeed,
    timeless_logs, timeless_metrics, train,
};
use fishmask::data::synthetic;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

/// A finished run of [`SMALL`] without `--run-dir`: what it showed, and its working directory's files.
struct Finished {
    out: String,
    err: String,
    files: BTreeMap<String, Vec<u8>>,
    /// Seconds since 1970 before and after.
    time: [i64; 2],
}

fn finished() -> &'static Finished {
    static FINISHED: OnceLock<Finished> = OnceLock::new();
    FINISHED.get_or_init(|| {
        let directory = tempdir().unwrap();
        let now = || jiff::Timestamp::now().as_second();
        let before = now();
        let (out, err) = succeed(train(directory.path(), SMALL));
        Finished { out, err, files: contents(directory.path()), time: [before, now()] }
    })
}

impl Finished {
    /// The run's folder within the working directory.
    fn folder(&self) -> String {
        let first = self.files.keys().next().unwrap();
        first.splitn(3, '/').take(2).collect::<Vec<_>>().join("/")
    }

    /// A file of the run's folder.
    fn file(&self, name: &str) -> &[u8] {
        &self.files[&format!("{}/{name}", self.folder())]
    }

    fn text(&self, name: &str) -> &str {
        std::str::from_utf8(self.file(name)).unwrap()
    }

    /// The last epoch's line of `metrics.jsonl`.
    fn last(&self) -> Value {
        serde_json::from_str(self.text("metrics.jsonl").lines().last().unwrap()).unwrap()
    }

    /// A copy of the working directory, and the run's folder in it.
    fn copy(&self) -> (TempDir, PathBuf) {
        let directory = tempdir().unwrap();
        restore(directory.path(), &self.files);
        let run = directory.path().join(self.folder());
        (directory, run)
    }
}

#[test]
fn training_shows_a_header_a_row_an_epoch_and_a_last_line() {
    let run = finished();
    // Neither stream is a terminal: no bar, nothing to overwrite.
    assert_eq!(run.err, "");
    assert!(run.out.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", run.out);

    let lines: Vec<_> = run.out.lines().collect();
    let header = |name: &str| {
        let line = lines.iter().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no line {name} in\n{}", run.out)).trim_start_matches(name).trim()
    };
    assert!(header("device").starts_with("cpu"), "{}", run.out);
    let data = header("data");
    assert!(data.starts_with("synthetic") && data.contains("not CIFAR-10"), "{data}");
    assert!(data.contains("256 training images") && data.contains("10,000 test images"), "{data}");
    // 9*(3w + 2w^2 + 2*4w^2 + 8w^2 + 32w^2 + 2*64w^2) + 2*(w + 3*2w + 4w + 3*8w) + 80w, by hand for w = 2.
    assert_eq!(header("model"), "resnet9, width 2: 6,762 parameters");
    assert!(header("recipe").starts_with("quick (auto: ") && header("recipe").contains("CPU"), "{}", run.out);
    assert!(header("folder").starts_with("runs/"));

    let table = lines.iter().position(|line| line.starts_with("epoch ")).unwrap();
    assert!(lines[table].ends_with("data"), "{}", lines[table]);
    let metrics: Vec<Value> =
        run.text("metrics.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (epoch, (line, metrics)) in lines[table + 1..].iter().zip(&metrics).enumerate() {
        let columns: Vec<_> = line.split_whitespace().collect();
        assert_eq!((columns.len(), columns[0]), (10, &*(epoch + 1).to_string()), "{line}");
        assert_eq!(columns[9], "synthetic", "{line}");
        let number = |i: usize| columns[i].trim_end_matches('%').parse::<f64>().unwrap();
        let fields = [
            (1, "lr", 5e-5),
            (2, "train_loss", 5e-5),
            (3, "train_accuracy", 5e-3),
            (4, "test_loss", 5e-5),
            (5, "test_accuracy", 5e-3),
            (6, "train_seconds", 0.05),
            (7, "test_seconds", 0.05),
            (8, "total_seconds", 0.05),
        ];
        for (column, field, half_a_digit) in fields {
            let exact = metrics[field].as_f64().unwrap();
            assert!((number(column) - exact).abs() <= half_a_digit * 1.001, "{field}: {line}\n{metrics}");
        }
    }
    assert_eq!((metrics.len(), lines.len()), (3, table + 6), "three rows, an empty line, the last line");
    let accuracy =
        format!("{:.2}% test accuracy on synthetic", run.last()["test_accuracy"].as_f64().unwrap());
    let last = lines[lines.len() - 1];
    assert!(last.starts_with(&accuracy) && last.contains(" s of training"), "{last}");
    assert!(last.ends_with(&format!("run: {}", run.folder())), "{last}");
}

#[test]
fn the_default_folder_is_named_by_time_and_recipe() {
    let run = finished();
    let folder = run.folder();
    let name = folder.strip_prefix("runs/").unwrap();
    let time = name.strip_suffix("Z-quick").unwrap_or_else(|| panic!("{name}"));
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S", time).unwrap();
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_second();
    assert!((run.time[0]..=run.time[1]).contains(&time), "{name}");
}

#[test]
fn the_run_folder_holds_exactly_what_it_should() {
    let run = finished();
    let folder = run.folder();
    let names: Vec<_> =
        run.files.keys().map(|path| path.strip_prefix(&format!("{folder}/")).unwrap()).collect();
    let expected = [
        ".lock",
        "checkpoints/epoch-0002-step-00000.safetensors",
        "checkpoints/epoch-0003-step-00000.safetensors",
        "checkpoints/settings.json",
        "config.json",
        "final.safetensors",
        "logs.tsv",
        "metrics.jsonl",
        "status.json",
    ];
    assert_eq!(names, expected);

    let mut config: Value = serde_json::from_str(run.text("config.json")).unwrap();
    let sessions = config.as_object_mut().unwrap().remove("sessions").unwrap();
    let session = sessions[0].as_object().unwrap();
    assert_eq!(sessions.as_array().unwrap().len(), 1);
    let text = |key: &str| session[key].as_str().unwrap();
    assert!(text("command").contains("train --data synthetic --train-images 256"), "{session:?}");
    assert!(text("version").starts_with(env!("CARGO_PKG_VERSION")) && text("device").starts_with("cpu, "));
    assert_eq!(text("set"), "synthetic");
    assert!(!text("host").is_empty() && session["threads"].as_u64() > Some(0));
    assert!(["data", "settings"].iter().all(|key| text(key).len() == 16), "{session:?}");
    let [began, ended] = ["began", "ended"].map(|key| text(key).parse::<jiff::Timestamp>().unwrap());
    assert!(run.time[0] <= began.as_second() && began <= ended && ended.as_second() <= run.time[1]);
    assert_eq!(serde_json::from_str::<Value>(run.text("checkpoints/settings.json")).unwrap(), config);
    let expected = json!({
        "recipe": "quick",
        "network": {"model": "resnet9", "width": 2},
        "data": {"set": "synthetic", "images": 256},
        "train": {"epochs": 3, "batch_size": 64, "seed": 0, "label_smoothing": 0.0},
        "optimizer": {"lr": 0.2, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"peak_epoch": 1.0, "final": 0.0},
        "start": {
            "weights": "none", "weights_only": "*", "mask": "none", "mask_of_other_weights": false,
        },
        "mask": {
            "kind": "dense", "keep_ratio": 0.02, "samples": 1024, "target": "label", "power": "square",
            "warmup_epochs": 0, "every": 0, "rule": "strict",
        },
        "checkpoint": {"every": 1, "best": false, "state": "on", "values": "f32"},
        "workers": {
            "count": 1, "merge_steps": 100, "reselect_merges": 10, "masks": "same", "aggregate": "mean",
            "shard_data": false,
        },
        "device": {"name": "cpu", "precision": "f32"},
    });
    assert_eq!(config, expected);

    let mut total = 0.0;
    let logs: Vec<_> =
        run.text("logs.tsv").lines().map(|line| line.split('\t').collect::<Vec<_>>()).collect();
    assert_eq!(logs[0], ["epoch", "hours", "top1Accuracy", "data"]);
    for (i, line) in run.text("metrics.jsonl").lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = vec!["epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy"];
        expected.extend([
            "train_seconds",
            "test_seconds",
            "total_seconds",
            "images_per_second",
            "kept",
            "lr",
            "data",
        ]);
        expected.sort_unstable();
        assert_eq!(keys, expected);
        let number = |key: &str| line[key].as_f64().unwrap();
        assert_eq!((&line["epoch"], &line["data"]), (&json!(i + 1), &json!("synthetic")));
        // 3 epochs of peak 0.2 at epoch 1: down by a half of it an epoch.
        assert!((number("lr") - [0.2, 0.1, 0.0][i]).abs() < 1e-12, "{line}");
        assert!((number("images_per_second") - 256.0 / number("train_seconds")).abs() < 1e-6, "{line}");
        // Each number is read with the last digit rounded.
        let least = (total + number("train_seconds")) * (1.0 - 4.0 * f64::EPSILON);
        assert!(number("test_seconds") > 0.0 && number("total_seconds") >= least);
        total = number("total_seconds");

        let [epoch, hours, accuracy, data] = logs[i + 1][..] else { panic!("{logs:?}") };
        assert_eq!((epoch, data), (&*(i + 1).to_string(), "synthetic"));
        assert!((hours.parse::<f64>().unwrap() - total / 3600.0).abs() <= 1e-8, "{logs:?}");
        assert_eq!(accuracy, format!("{:.2}", number("test_accuracy")));
    }
    assert_eq!((logs.len(), run.text("metrics.jsonl").lines().count()), (4, 3));
}

#[test]
fn the_final_weights_have_pytorchs_names_and_shapes() {
    let tensors = SafeTensors::deserialize(finished().file("final.safetensors")).unwrap();
    let convs = [
        ("prep", 2, 3),
        ("layer1", 4, 2),
        ("layer1_residual_res1", 4, 4),
        ("layer1_residual_res2", 4, 4),
        ("layer2", 8, 4),
        ("layer3", 16, 8),
        ("layer3_residual_res1", 16, 16),
        ("layer3_residual_res2", 16, 16),
    ];
    let mut expected = BTreeMap::from([("linear.weight".to_string(), vec![10, 16])]);
    for (name, outputs, inputs) in convs {
        expected.insert(format!("{name}_conv.weight"), vec![outputs, inputs, 3, 3]);
        for part in ["weight", "bias", "running_mean", "running_var"] {
            expected.insert(format!("{name}_bn.{part}"), vec![outputs]);
        }
    }
    let found: BTreeMap<_, _> =
        tensors.iter().map(|(name, view)| (name.to_string(), view.shape().to_vec())).collect();
    assert_eq!(found, expected);
    assert!(tensors.iter().all(|(_, view)| view.dtype() == Dtype::F32));
}

#[test]
fn the_summary_adds_up_and_trains_nothing() {
    let directory = tempdir().unwrap();
    let flags =
        ["--summary", "--summary --preset dawn", "--summary --model resnet18 --width 64 --batch-size 8"];
    // The numbers of parameters in docs/METHOD.md ("Models"), and resnet9's at width 16.
    for (flags, parameters) in flags.into_iter().zip([412_944_u64, 6_573_120, 11_173_962]) {
        let (out, err) = succeed(train(directory.path(), flags));
        assert_eq!(err, "");
        let lines: Vec<Vec<_>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
        let heading = lines.iter().position(|line| line.first() == Some(&"nodes")).unwrap();
        let end = lines.iter().position(Vec::is_empty).unwrap();
        let count = |text: &str| text.replace(',', "").parse::<u64>().unwrap();
        let sum: u64 = lines[heading + 1..end].iter().map(|line| count(line[line.len() - 2])).sum();
        let value = |name: &str| {
            let line = out.lines().find(|line| line.starts_with(name));
            let rest = line.unwrap_or_else(|| panic!("no line {name} in\n{out}")).trim_start_matches(name);
            rest.split_whitespace().next().unwrap().to_string()
        };
        assert_eq!((sum, count(&value("parameters"))), (parameters, parameters), "{out}");
        let megabytes = |name| value(name).parse::<f64>().unwrap();
        let parts = ["activations", "weights, gradients, velocity", "scratch", "images"].map(megabytes);
        // Each is rounded to a tenth.
        let (sum, total) = (parts.iter().sum::<f64>(), megabytes("memory in all"));
        assert!((sum - total).abs() < 0.21, "{out}");
        assert!((parts[1] - 12e-6 * parameters as f64).abs() < 0.06, "weight, gradient, velocity: {out}");
        let mflop = megabytes("training, for one image");
        if flags.ends_with("dawn") {
            assert!((mflop / 2270.0 - 1.0).abs() < 0.01, "resnet9 takes 2.27 GFLOP a training image: {out}");
        }
    }
    assert!(listing(directory.path()).is_empty(), "nothing is made");
}

/// Mean cross-entropy and accuracy in percent of logits \[N,10\], in f64.
fn loss_and_accuracy(logits: &[f32], labels: &[u8]) -> (f64, f64) {
    let (mut loss, mut correct) = (0.0, 0);
    for (row, &label) in logits.chunks(10).zip(labels) {
        let row: Vec<_> = row.iter().map(|&logit| f64::from(logit)).collect();
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        loss += top + row.iter().map(|logit| (logit - top).exp()).sum::<f64>().ln() - row[label as usize];
        correct += usize::from(row.iter().position(|&logit| logit == top) == Some(label as usize));
    }
    (loss / labels.len() as f64, 100.0 * correct as f64 / labels.len() as f64)
}

/// The logits \[N,10\] of a file that `evaluate` wrote, and N.
fn logits(path: &Path) -> (Vec<f32>, usize) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.names(), ["logits"]);
    let view = file.tensor("logits").unwrap();
    assert_eq!((view.dtype(), view.shape().len(), view.shape()[1]), (Dtype::F32, 2, 10));
    let values = view.data().chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
    (values.collect(), view.shape()[0])
}

/// The two numbers of `evaluate`'s first line.
fn printed(line: &str) -> (f64, f64) {
    let line = line.lines().next().unwrap();
    let (loss, accuracy) = line.rsplit_once("loss ").unwrap().1.split_once(", accuracy ").unwrap();
    (loss.parse().unwrap(), accuracy.strip_suffix('%').unwrap().parse().unwrap())
}

#[test]
fn evaluating_the_final_weights_gives_the_last_rows_numbers() {
    let run = finished();
    let (directory, folder) = run.copy();
    let before = listing(&folder);
    let flags = format!("{SMALL_MODEL} --weights {}/final.safetensors --logits l.safetensors", run.folder());
    let (out, err) = succeed(evaluate(directory.path(), &flags));
    assert_eq!((err.as_str(), out.lines().count()), ("", 1 + 2 + 10), "{out}");
    assert!(out.starts_with("synthetic, 10000 test images: "), "{out}");
    let last = run.last();
    let (loss, accuracy) = printed(&out);
    assert_eq!(format!("{accuracy:.2}"), format!("{:.2}", last["test_accuracy"].as_f64().unwrap()));
    assert_eq!(format!("{loss:.4}"), format!("{:.4}", last["test_loss"].as_f64().unwrap()));

    let (logits, n) = logits(&directory.path().join("l.safetensors"));
    assert_eq!(n, 10_000);
    let labels = synthetic::dataset(1, 10_000, 0).test.labels;
    let (own_loss, own_accuracy) = loss_and_accuracy(&logits, &labels);
    // The printed loss is rounded to 4 decimals, and each image's was summed in f32: 6e-8 of about 2.3, an
    // image.
    assert!((own_loss - loss).abs() < 5e-5 + 1e-6, "{own_loss} {out}");
    assert!((own_accuracy - accuracy).abs() < 1e-9, "{own_accuracy} {out}");
    assert_eq!(listing(&folder), before, "the run is only read");
}

#[test]
fn evaluating_some_training_images() {
    let run = finished();
    let (directory, _) = run.copy();
    let flags = format!("{SMALL_MODEL} --weights {}/final.safetensors --split train", run.folder());
    let with = |more: &str| {
        let (out, _) = succeed(evaluate(directory.path(), &format!("{flags} {more} --logits l.safetensors")));
        (out, logits(&directory.path().join("l.safetensors")))
    };
    let (out, (values, n)) = with("--count 7");
    assert!(out.starts_with("synthetic, 7 training images: loss "), "{out}");
    let labels = synthetic::dataset(7, 1, 0).train.labels;
    let (loss, accuracy) = loss_and_accuracy(&values, &labels);
    let (out_loss, out_accuracy) = printed(&out);
    assert!((loss - out_loss).abs() < 5e-5 + 1e-6 && (accuracy - out_accuracy).abs() < 5e-3 + 1e-9, "{out}");
    assert_eq!(n, 7);

    // In the data's order, and the same whatever the batch and the number of threads.
    let (_, (more, n)) = with("--count 20 --batch-size 3 --threads 1");
    assert_eq!(n, 20);
    assert!(more[..70] == values[..]);
}

#[test]
fn the_same_bits_for_a_seed_whatever_the_threads_and_others_for_another() {
    let directory = tempdir().unwrap();
    let short = SMALL.replace("--epochs 3", "--epochs 1");
    let ends = |name: &str, flags: &str| {
        succeed(train(directory.path(), &format!("{short} --run-dir {name} {flags}")));
        let run = directory.path().join(name);
        (fs::read(run.join("final.safetensors")).unwrap(), timeless_metrics(&run))
    };
    let one = ends("one", "--threads 1");
    assert!(one == ends("two", "--threads 2 --seed 0"));
    let other = ends("other", "--threads 2 --seed 1");
    assert!(one.0 != other.0 && one.1[0]["train_loss"] != other.1[0]["train_loss"]);
}

/// Stopped by `signal` in the second epoch and resumed, against a run that never stopped.
fn stops_and_goes_on(signal: &str, code: i32) {
    let whole = finished();
    let directory = tempdir().unwrap();
    let mut running = Running::start(train(directory.path(), &format!("{SMALL} --run-dir a/run")));
    running.until("1 ");
    running.signal(signal);
    let (ended, out, err) = running.end();
    assert_eq!((ended, err.as_str()), (Some(code), ""), "{out}");
    let last = out.lines().last().unwrap();
    assert!(last.contains(signal) && last.ends_with("--peak-epoch 1 --resume a/run"), "{last}");
    let run = directory.path().join("a/run");
    assert!(!run.join("final.safetensors").exists());
    let checkpoints: Vec<_> = contents(&run.join("checkpoints")).into_keys().collect();
    assert!(checkpoints.len() == 3 || checkpoints[0].starts_with("epoch-0001"), "{checkpoints:?}");

    // Flags that say the same as the run are no contradiction.
    let (out, err) = succeed(train(directory.path(), "--resume a/run --width 2 --seed 0"));
    assert_eq!(err, "");
    assert!(out.lines().any(|line| line.starts_with("resumed  after ")), "{out}");
    assert!(fs::read(run.join("final.safetensors")).unwrap() == whole.file("final.safetensors"));
    let (_copy, uninterrupted) = whole.copy();
    assert_eq!(timeless_metrics(&run), timeless_metrics(&uninterrupted));
    assert_eq!(timeless_logs(&run), timeless_logs(&uninterrupted));
}

#[test]
fn ctrl_c_writes_a_checkpoint_and_resuming_ends_with_the_same_bits() {
    stops_and_goes_on("SIGINT", 130);
}

#[test]
fn sigterm_writes_a_checkpoint_and_resuming_ends_with_the_same_bits() {
    stops_and_goes_on("SIGTERM", 143);
}

#[test]
fn a_second_trainer_in_the_same_folder_is_refused() {
    let directory = tempdir().unwrap();
    let mut first = Running::start(train(directory.path(), &format!("{SMALL} --run-dir run")));
    first.until_training();
    for (flags, reason) in [
        ("--resume run", "run: another process is writing to this run (pid "),
        ("--data synthetic --run-dir run", "run: a run is already there"),
    ] {
        let (code, out, err) = finish(train(directory.path(), flags).output().unwrap());
        assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
        assert!(err.starts_with("error: ") && err.contains(reason), "{err}");
    }
    // The first is none the worse for it.
    let (code, _, err) = first.end();
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let end = fs::read(directory.path().join("run/final.safetensors")).unwrap();
    assert!(end == finished().file("final.safetensors"));
}

#[test]
fn help_names_every_flag() {
    let directory = tempdir().unwrap();
    let train_flags = "--recipe --set --print-config --model --width --epochs --batch-size --lr --peak-epoch \
        --momentum --weight-decay --label-smoothing --train-images --mask --keep-ratio --fisher-samples \
        --fisher-target --fisher-power --warmup-epochs --mask-every --update-rule --checkpoint-state \
        --checkpoint-values --data --data-dir --offline --no-verify --device --precision --seed --run-dir \
        --resume --checkpoint-every --threads --summary --weights --weights-only --mask-file \
        --mask-of-other-weights";
    let evaluate_flags = "--recipe --set --model --width --weights --epoch --data-dir --split --count \
        --confusion --logits --no-verify --device";
    let mask_flags = "--recipe --set --compare --model --width --weights --epoch --data-dir --fisher-samples \
        --fisher-target --fisher-power --keep-ratio --sample-order --augment --bn --device --out --seed \
        --threads";
    for (command, flags) in [
        (train(directory.path(), "--help"), train_flags),
        (evaluate(directory.path(), "--help"), evaluate_flags),
        (mask(directory.path(), "--help"), mask_flags),
    ] {
        let (out, err) = succeed(command);
        assert_eq!(err, "");
        let words: Vec<_> = out.split_whitespace().collect();
        for flag in flags.split_whitespace() {
            assert!(words.contains(&flag), "{flag} is not in\n{out}");
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let directory = tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = train(directory.path(), "--summary");
    let output = command.stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// `fishmask train --recipe quick --print-config | fishmask train --recipe /dev/stdin` is the run itself.
#[test]
fn the_printed_recipe_fed_back_gives_the_same_run() {
    let directory = tempdir().unwrap();
    let flags = format!("{SMALL} --mask fisher --fisher-samples 32 --set checkpoint.every=2");
    let (recipe, err) = succeed(subcommand("train", directory.path(), &format!("{flags} --print-config")));
    assert_eq!(err, "");
    assert!(listing(directory.path()).is_empty(), "nothing is made");
    fs::write(directory.path().join("recipe"), &recipe).unwrap();
    let piped = |flags: &str| {
        let mut command = train(directory.path(), &format!("--recipe /dev/stdin {flags}"));
        command.stdin(fs::File::open(directory.path().join("recipe")).unwrap());
        succeed(command)
    };
    let (own, _) = succeed(train(directory.path(), &format!("{flags} --summary")));
    assert_eq!(piped("--summary").0, own);
    let (again, _) = piped("--print-config");
    let values = |text: &str| {
        text.lines()
            .filter_map(|line| Some(line.split_once("  #")?.0.trim_end().to_string()))
            .collect::<Vec<_>>()
    };
    assert_eq!(values(&again), values(&recipe));
    piped("--run-dir piped");
    succeed(train(directory.path(), &format!("{flags} --run-dir typed")));
    for file in ["checkpoints/settings.json", "final.safetensors"] {
        let [piped, typed] =
            ["piped", "typed"].map(|run| fs::read(directory.path().join(run).join(file)).unwrap());
        assert!(piped == typed, "{file}");
    }
}

#[test]
fn completions_and_man_pages_are_of_every_subcommand() {
    let directory = tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let (out, _) = succeed(subcommand("completions", directory.path(), shell));
        for part in ["evaluate", "keep-ratio", "checkpoint", "man"] {
            assert!(out.contains(part), "{shell} has no {part}");
        }
    }
    let (out, _) = succeed(subcommand("man", directory.path(), ""));
    assert!(out.contains(".TH fishmask 1"), "{out}");
    succeed(subcommand("man", directory.path(), "."));
    let pages: Vec<_> = contents(directory.path()).into_keys().collect();
    for page in
        ["fishmask.1", "fishmask-train.1", "fishmask-evaluate.1", "fishmask-mask.1", "fishmask-checkpoint.1"]
    {
        assert!(pages.iter().any(|name| name == page), "{page} is not among {pages:?}");
    }
}

#[test]
fn the_version_is_the_packages() {
    let directory = tempdir().unwrap();
    for (command, name) in [
        (train(directory.path(), "-V"), "train"),
        (subcommand("", directory.path(), "-V"), "fishmask"),
        (evaluate(directory.path(), "-V"), "fishmask-evaluate"),
    ] {
        let (out, _) = succeed(command);
        let version = format!("{name} {}", env!("CARGO_PKG_VERSION"));
        assert!(out.starts_with(&version), "{out}");
    }
}

#[test]
fn train_is_fishmask_train() {
    let directory = tempdir().unwrap();
    let [(own, _), (sub, _)] = [
        succeed(train(directory.path(), "--recipe workers --print-config")),
        succeed(subcommand("train", directory.path(), "--recipe workers --print-config")),
    ];
    assert_eq!(own, sub);
}

#[test]
fn evaluating_by_a_recipe() {
    let run = finished();
    let (directory, _) = run.copy();
    let flags = format!("--data synthetic --count 7 --weights {}/final.safetensors", run.folder());
    let (own, _) = succeed(evaluate(directory.path(), &format!("{flags} --model resnet9 --width 2")));
    let (by_recipe, _) = succeed(evaluate(directory.path(), &format!("{flags} --recipe quick --width 2")));
    let (by_set, _) =
        succeed(evaluate(directory.path(), &format!("{flags} --recipe quick --set network.width=2")));
    assert_eq!((&by_recipe, &by_set), (&own, &own));
}

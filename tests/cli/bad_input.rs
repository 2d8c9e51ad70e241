//! Bad input: one clear error that names the thing, an exit code that is neither 0 nor a panic's, nothing
//! made or lost.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use crate::support::cli::{
    SMALL, SMALL_MODEL, contents, evaluate, finish, listing, restore, succeed, timeless_metrics, train,
};
use fishmask::records::{State, Status};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use tempfile::{TempDir, tempdir};

/// Runs a command that must fail with one line that holds all of `parts`, and leave `directory` as it is.
fn refused(directory: &Path, mut command: Command, parts: &[&str]) {
    let before = listing(directory);
    let (code, out, err) = finish(command.output().unwrap());
    assert_eq!((code, out.as_str()), (Some(1), ""), "{command:?}: {err}");
    // What is being done is told on the error stream as well; the error is its last line.
    let mut lines: Vec<_> = err.lines().collect();
    let last = lines.pop().unwrap_or_default();
    let progress = |line: &&str| line.starts_with("verifying ") || line.starts_with("unpacking ");
    assert!(lines.iter().all(progress), "{command:?}: {err}");
    assert!(last.starts_with("error: ") && parts.iter().all(|part| last.contains(part)), "{parts:?}: {err}");
    assert_eq!(listing(directory), before, "{command:?}");
}

/// The files of a finished [`SMALL`] run in the folder `run`.
fn finished() -> &'static BTreeMap<String, Vec<u8>> {
    static FINISHED: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    FINISHED.get_or_init(|| {
        let directory = tempdir().unwrap();
        succeed(train(directory.path(), &format!("{SMALL} --run-dir run")));
        contents(directory.path())
    })
}

/// A working directory with the finished run in it.
fn with_run() -> TempDir {
    let directory = tempdir().unwrap();
    restore(directory.path(), finished());
    directory
}

/// The finished run cut back to what it was when its second epoch was done.
fn with_stopped_run() -> TempDir {
    let directory = with_run();
    let run = directory.path().join("run");
    fs::remove_file(run.join("final.safetensors")).unwrap();
    fs::remove_file(run.join("checkpoints/epoch-0003-step-00000.safetensors")).unwrap();
    directory
}

/// Bytes of an official batch.
const BATCH: u64 = 30_730_000;
const NAMES: [&str; 6] =
    ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"];

/// Black pictures of label 0 in the official layout. The files have no blocks, so they cost nothing to make.
fn black(directory: &Path) {
    let folder = directory.join("data/cifar-10-batches-bin");
    fs::create_dir_all(&folder).unwrap();
    for name in NAMES {
        File::create(folder.join(format!("{name}.bin"))).unwrap().set_len(BATCH).unwrap();
    }
}

/// A working directory whose `data` holds these files.
fn with_data(files: &[(&str, &[u8])]) -> TempDir {
    let directory = tempdir().unwrap();
    let files = files.iter().map(|(name, bytes)| (format!("data/{name}"), bytes.to_vec()));
    restore(directory.path(), &files.collect());
    directory
}

const TINY: &str = "--offline --train-images 64 --width 2 --batch-size 32 --epochs 1";

/// `train` refuses it, into a folder by its own choice as into a given one.
fn data_is_refused(directory: &Path, parts: &[&str]) {
    refused(directory, train(directory, TINY), parts);
}

#[test]
fn a_batch_too_short_or_too_long() {
    for (length, expected) in [(BATCH - 1, "expected 30730000 bytes"), (BATCH + 1, "at most 30730000 bytes")]
    {
        let directory = tempdir().unwrap();
        black(directory.path());
        let file = directory.path().join("data/cifar-10-batches-bin/data_batch_1.bin");
        File::options().write(true).open(file).unwrap().set_len(length).unwrap();
        let found = format!("found {length}");
        let parts = ["data/cifar-10-batches-bin/data_batch_1.bin", expected, &found];
        data_is_refused(directory.path(), &parts);
        let (directory, run) = (directory.path(), with_run());
        let weights = run.path().join("run/final.safetensors");
        let flags = format!("--offline --model resnet9 --width 2 --weights {}", weights.display());
        refused(directory, evaluate(directory, &flags), &parts);
    }
}

#[test]
fn a_label_above_9() {
    let directory = tempdir().unwrap();
    black(directory.path());
    let path = directory.path().join("data/cifar-10-batches-bin/data_batch_1.bin");
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(7 * 3073)).unwrap();
    file.write_all(&[10]).unwrap();
    data_is_refused(directory.path(), &["data_batch_1.bin", "record 7", "label 10", "0 to 9"]);
    refused(directory.path(), train(directory.path(), &format!("{TINY} --no-verify")), &["record 7"]);
}

#[test]
fn other_content_of_the_right_size_unless_not_verified() {
    let directory = tempdir().unwrap();
    black(directory.path());
    let md5 = "5dd7e06a14cb22eb9f671a540d1b7c25";
    data_is_refused(directory.path(), &["data_batch_1.bin", "md5", md5, "--no-verify"]);

    let before = listing(&directory.path().join("data"));
    let (out, _) = succeed(train(directory.path(), &format!("{TINY} --no-verify --run-dir run")));
    assert!(out.contains("64 training images, 10,000 test images"), "{out}");
    assert!(directory.path().join("run/final.safetensors").exists());
    assert_eq!(listing(&directory.path().join("data")), before);
}

#[test]
fn a_broken_tar() {
    for bytes in [&b"no gzip"[..], b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03cut"] {
        let directory = with_data(&[("cifar-10-binary.tar.gz", bytes)]);
        data_is_refused(directory.path(), &["data/cifar-10-binary.tar.gz: not a readable tar.gz"]);
    }
}

#[test]
fn a_broken_pickle() {
    let cut = &b"\x80\x02}q\x01(U\x06lab"[..];
    let directory =
        with_data(&[("cifar-10-batches-py/data_batch_1", cut), ("cifar-10-batches-py/test_batch", b".")]);
    data_is_refused(directory.path(), &["data/cifar-10-batches-py/data_batch_1: not a readable pickle"]);
}

#[test]
fn a_broken_png_or_json() {
    let labels = |count: usize| serde_json::to_vec(&vec![0; count]).unwrap();
    let (train_labels, test_labels) = (labels(50_000), labels(10_000));
    let files = |png: &'static [u8], json| {
        with_data(&[
            ("package/data_batch_1.png", png),
            ("package/train_lables.json", json),
            ("package/test_lables.json", &test_labels),
        ])
    };
    let directory = files(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", &train_labels);
    data_is_refused(directory.path(), &["data/package/data_batch_1.png: not a readable PNG"]);
    let directory = files(b"", b"[1, 2");
    data_is_refused(directory.path(), &["data/package/train_lables.json: not a readable JSON"]);
    let fewer = labels(49_999);
    let directory = files(b"", &fewer);
    data_is_refused(directory.path(), &["train_lables.json", "50000 labels", "found 49999"]);
}

#[test]
fn no_data_with_offline() {
    let directory = tempdir().unwrap();
    data_is_refused(directory.path(), &["data: no CIFAR-10", "--offline", "--data-dir", "--data synthetic"]);
    fs::create_dir(directory.path().join("data")).unwrap();
    data_is_refused(directory.path(), &["data: no CIFAR-10", "--offline"]);
}

#[test]
fn numbers_that_cannot_be() {
    let directory = tempdir().unwrap();
    for (flags, parts) in [
        ("--batch-size 257 --train-images 256", ["--batch-size 257", "256 images"]),
        ("--batch-size 50001 --preset dawn", ["--batch-size 50001", "50000 images"]),
        ("--batch-size 0", ["--batch-size 0", "at least 1"]),
        ("--width 0", ["--width 0", "from 1"]),
        ("--width 1000000", ["--width 1000000", "to 512"]),
        ("--epochs 0", ["--epochs 0", "at least 1"]),
        ("--train-images 0", ["--train-images 0", "at least 1"]),
        ("--train-images 50001", ["--train-images 50001", "50000"]),
        ("--threads 0", ["--threads 0", "from 1"]),
        ("--lr -1", ["--lr -1", "above 0"]),
        ("--lr nan", ["--lr nan", "above 0"]),
        ("--epochs 2 --peak-epoch 3", ["--peak-epoch 3", "2 epochs"]),
    ] {
        let command = train(directory.path(), &format!("--data synthetic {flags}"));
        refused(directory.path(), command, &parts);
    }
    let directory = with_run();
    for (flags, parts) in [
        ("--batch-size 0", ["--batch-size 0", "at least 1"]),
        ("--count 0", ["--count 0", "10000 test images"]),
        ("--count 10001", ["--count 10001", "10000 test images"]),
    ] {
        let flags = format!("{SMALL_MODEL} --weights run/final.safetensors {flags}");
        refused(directory.path(), evaluate(directory.path(), &flags), &parts);
    }
}

/// The final weights with their tensors changed, as `changed.safetensors` in a working directory.
#[test]
fn workers_that_cannot_be() {
    let directory = tempdir().unwrap();
    for (flags, parts) in [
        ("--workers 0", ["--workers 0", "at least 1 worker"]),
        ("--workers 2 --merge-steps 0", ["--merge-steps 0", "at least 1 step"]),
        (
            "--workers 5 --shard-data",
            ["--workers 5", "51 of the 256 training images, fewer than a batch of 64"],
        ),
        (
            "--workers 4 --mask fisher --fisher-samples 9 --keep-ratio 0.3 --worker-masks interleaved",
            ["--worker-masks interleaved", "a smaller --keep-ratio, fewer --workers"],
        ),
    ] {
        refused(directory.path(), train(directory.path(), &format!("{SMALL} {flags}")), &parts);
    }
    // Built with MPI it says how to start it, without how to build it.
    let distributed = train(directory.path(), &format!("{SMALL} --distributed"));
    let part = if cfg!(feature = "mpi") { "mpirun -n W" } else { "cargo build --release --features mpi" };
    refused(directory.path(), distributed, &[part]);
}

#[test]
fn a_device_that_is_not_there() {
    let directory = with_run();
    let path = directory.path();
    // GPUs are hidden (see support::cli): there is no driver here, or it finds none. Never the CPU in its
    // stead.
    for device in ["cuda", "cuda:7"] {
        refused(path, train(path, &format!("--device {device}")), &["NVIDIA driver", "use the CPU"]);
        let flags = format!("{SMALL_MODEL} --weights run/final.safetensors --device {device}");
        refused(path, evaluate(path, &flags), &["NVIDIA driver", "use the CPU"]);
    }
    for (flags, parts) in [
        ("--device cpu --precision f16", ["--precision f16", "cpu stores f32"]),
        ("--device emulated --precision f32", ["--precision f32", "emulated stores f16"]),
        ("--device cuda --precision f32 --summary", ["--precision f32", "cuda:0 stores f16"]),
    ] {
        refused(path, train(path, flags), &parts);
    }
    for device in ["gpu", "cuda:", "cuda:-1", "cuda:x", "CUDA"] {
        let parts = [&*format!("--device {device}: "), "use auto, cpu, cuda, cuda:N or emulated"];
        refused(path, train(path, &format!("--device {device}")), &parts);
    }
}

#[test]
fn resuming_on_a_gpu_that_is_gone() {
    let directory = with_stopped_run();
    let path = directory.path().join("run/config.json");
    let config = fs::read_to_string(&path).unwrap();
    let moved = config.replace("\"name\": \"cpu\"", "\"name\": \"cuda:0\"");
    let moved = moved.replace("\"precision\": \"f32\"", "\"precision\": \"f16\"");
    assert_ne!(config, moved);
    fs::write(&path, moved).unwrap();
    let resumed = train(directory.path(), "--resume run --device cuda:0 --set device.precision=f16");
    refused(directory.path(), resumed, &["NVIDIA driver", "use the CPU"]);
}

fn with_weights(change: impl FnOnce(&mut BTreeMap<String, TensorView>)) -> TempDir {
    let directory = tempdir().unwrap();
    let file = SafeTensors::deserialize(&finished()["run/final.safetensors"]).unwrap();
    let mut tensors = file.iter().map(|(name, view)| (name.to_string(), view)).collect();
    change(&mut tensors);
    let bytes = safetensors::serialize(tensors, None).unwrap();
    fs::write(directory.path().join("changed.safetensors"), bytes).unwrap();
    directory
}

fn weights_are_refused(directory: &TempDir, flags: &str, parts: &[&str]) {
    let flags = format!("--data synthetic {flags} --weights changed.safetensors --logits l.safetensors");
    let parts: Vec<_> = parts.iter().copied().chain(["changed.safetensors: "]).collect();
    refused(directory.path(), evaluate(directory.path(), &flags), &parts);
}

const OWN: &str = "--model resnet9 --width 2";

#[test]
fn weights_with_a_missing_extra_or_misshaped_tensor() {
    let directory = with_weights(|tensors| drop(tensors.remove("layer2_conv.weight")));
    weights_are_refused(&directory, OWN, &["layer2_conv.weight", "[8, 4, 3, 3]", "missing"]);

    let of_six = |shape| TensorView::new(safetensors::Dtype::F32, shape, &[0; 24]).unwrap();
    let directory = with_weights(|tensors| drop(tensors.insert("spare".into(), of_six(vec![2, 3]))));
    weights_are_refused(&directory, OWN, &["spare", "[2, 3]", "not one of the model's"]);

    let directory = with_weights(|tensors| drop(tensors.insert("layer1_bn.bias".into(), of_six(vec![6]))));
    weights_are_refused(&directory, OWN, &["layer1_bn.bias", "expected shape [4]", "found [6]"]);
}

#[test]
fn weights_of_another_model_or_width_or_a_checkpoint() {
    let directory = with_weights(|_| {});
    weights_are_refused(&directory, "--model resnet18 --width 2", &["conv1.weight", "resnet9's tensors"]);
    let parts = ["prep_conv.weight", "[4, 3, 3, 3]", "[2, 3, 3, 3]", "of width 2"];
    weights_are_refused(&directory, "--model resnet9 --width 4", &parts);
    let checkpoint = &finished()["run/checkpoints/epoch-0003-step-00000.safetensors"];
    fs::write(directory.path().join("changed.safetensors"), checkpoint).unwrap();
    weights_are_refused(&directory, OWN, &["full checkpoint", "fishmask checkpoint restore"]);
}

#[test]
fn weights_that_are_not_safetensors_or_not_there() {
    let directory = with_weights(|_| {});
    let path = directory.path().join("changed.safetensors");
    let whole = fs::read(&path).unwrap();
    for bytes in [&b""[..], b"PK\x03\x04 something else", &whole[..whole.len() - 1], &[255; 100]] {
        fs::write(&path, bytes).unwrap();
        weights_are_refused(&directory, OWN, &["not a safetensors file"]);
    }
    fs::remove_file(&path).unwrap();
    weights_are_refused(&directory, OWN, &["No such file"]);
}

#[test]
fn a_folder_that_holds_a_run_or_other_files() {
    let directory = with_run();
    let command = train(directory.path(), &format!("{SMALL} --run-dir run"));
    refused(directory.path(), command, &["run: a run is already there", "--resume run"]);
    fs::remove_file(directory.path().join("run/config.json")).unwrap();
    let command = train(directory.path(), &format!("{SMALL} --run-dir run"));
    refused(directory.path(), command, &["run: there are other files in it", "--run-dir"]);
}

#[test]
fn resuming_something_else() {
    let directory = with_run();
    let path = directory.path();
    fs::create_dir(path.join("empty")).unwrap();
    let resume = |name: &str| train(path, &format!("--resume {name}"));
    refused(path, resume("absent"), &["absent: not a run folder", "not exist"]);
    refused(path, resume("empty"), &["empty: not a run folder", "config.json"]);
    refused(path, resume("run/logs.tsv"), &["run/logs.tsv: not a run folder", "a file"]);
    for (text, parts) in [
        ("{", ["run/config.json", "EOF"]),
        ("{\"recipe\": \"quick\"}", ["run/config.json", "missing field"]),
        ("[]", ["run/config.json", "not a run's configuration"]),
    ] {
        fs::write(path.join("run/config.json"), text).unwrap();
        refused(path, resume("run"), &parts);
    }
    let config = std::str::from_utf8(&finished()["run/config.json"]).unwrap();
    fs::write(path.join("run/config.json"), config.replace("\"width\": 2", "\"width\": 0")).unwrap();
    refused(path, resume("run"), &["run/config.json: network.width = 0"]);
    // The checkpoints are of another model than the configuration.
    fs::write(path.join("run/config.json"), config.replace("\"width\": 2", "\"width\": 3")).unwrap();
    refused(path, resume("run"), &["run/config.json: changed", "network.width from 2 to 3"]);
    let repeated = train(path, "--resume run --width 3");
    refused(path, repeated, &["epoch-0003-step-00000.safetensors", "width 2", "width 3"]);
}

#[test]
fn resuming_with_flags_that_contradict_the_run() {
    let directory = with_stopped_run();
    for (flags, parts) in [
        ("--width 3", ["--width 3", "has 2"]),
        ("--model resnet18", ["--model resnet18", "has resnet9"]),
        ("--epochs 4", ["--epochs 4", "one of 3 epochs"]),
        ("--epochs 2", ["--epochs 2", "has 3"]),
        ("--seed 1", ["--seed 1", "has 0"]),
        ("--lr 0.1", ["--lr 0.1", "has 0.2"]),
        ("--batch-size 32", ["--batch-size 32", "has 64"]),
        ("--train-images 100", ["--train-images 100", "has 256"]),
        ("--data cifar10", ["--data cifar10", "has synthetic"]),
        ("--preset dawn", ["--recipe dawn", "has quick"]),
    ] {
        let command = train(directory.path(), &format!("--resume run {flags}"));
        refused(directory.path(), command, &parts);
    }
    let command = train(directory.path(), "--resume run --run-dir other");
    refused(directory.path(), command, &["--resume run --run-dir other: a run goes on in its own folder"]);
}

#[test]
fn a_damaged_newest_checkpoint_is_not_passed_over() {
    let name = "run/checkpoints/epoch-0003-step-00000.safetensors";
    let whole = &finished()[name];
    let flipped: Vec<_> =
        whole.iter().enumerate().map(|(i, &byte)| byte ^ u8::from(i == whole.len() - 9)).collect();
    for (bytes, problem) in
        [(&whole[..whole.len() / 2], "cut short"), (&flipped[..], "damaged"), (&[], "empty")]
    {
        let directory = with_run();
        fs::write(directory.path().join(name), bytes).unwrap();
        let parts =
            [name, problem, "remove it to go on from run/checkpoints/epoch-0002-step-00000.safetensors"];
        refused(directory.path(), train(directory.path(), "--resume run"), &parts);
        // What it advises works.
        if problem == "damaged" {
            fs::remove_file(directory.path().join(name)).unwrap();
            succeed(train(directory.path(), "--resume run"));
            let end = fs::read(directory.path().join("run/final.safetensors")).unwrap();
            assert!(end == finished()["run/final.safetensors"]);
        }
    }
}

/// A path below a regular file stands for a folder without permission, which does not exist for a superuser.
#[test]
fn a_folder_that_cannot_be_written() {
    let directory = with_run();
    fs::write(directory.path().join("file"), "").unwrap();
    let command = train(directory.path(), &format!("{SMALL} --run-dir file/run"));
    refused(directory.path(), command, &["file/run", "cannot create this folder"]);
    fs::write(directory.path().join("runs"), "").unwrap();
    refused(directory.path(), train(directory.path(), SMALL), &["runs/", "cannot create this folder"]);
    let command = train(directory.path(), &format!("{SMALL} --run-dir file"));
    refused(directory.path(), command, &["file: "]);
    // The data folder, which would have to be made for the download: told before any network is used.
    let command = train(directory.path(), "--data-dir file/data --run-dir new");
    refused(directory.path(), command, &["file/data: cannot create this folder"]);
    let flags =
        format!("{SMALL_MODEL} --weights run/final.safetensors --count 5 --logits absent/l.safetensors");
    refused(directory.path(), evaluate(directory.path(), &flags), &["absent/l.safetensors"]);
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint() {
    let directory = tempdir().unwrap();
    let wild = SMALL.replace("--peak-epoch 1", "--peak-epoch 0 --lr 1e30 --run-dir run");
    let check = |command: Command, epoch: &str| {
        let (code, _, err) = finish({ command }.output().unwrap());
        assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
        for part in ["error: ", "no longer finite", epoch, "step", "lr ", "--lr"] {
            assert!(err.contains(part), "{part}: {err}");
        }
        assert!(!directory.path().join("run/final.safetensors").exists());
    };
    check(train(directory.path(), &wild), "epoch 1");

    // After two sound epochs.
    let stopped = with_stopped_run();
    let config = std::str::from_utf8(&finished()["run/config.json"]).unwrap();
    fs::remove_dir_all(directory.path().join("run")).unwrap();
    restore(directory.path(), &contents(stopped.path()));
    let config = config.replace("\"lr\": 0.2", "\"lr\": 1e30");
    fs::write(directory.path().join("run/config.json"), config).unwrap();
    let before = contents(&directory.path().join("run/checkpoints"));
    check(train(directory.path(), "--resume run --lr 1e30"), "epoch 3");
    let status = Status::read(&directory.path().join("run")).unwrap();
    assert_eq!((status.state, status.epoch), (State::Diverged, 2));
    assert!(status.reason.unwrap().contains("no longer finite"));
    let mut after = contents(&directory.path().join("run/checkpoints"));
    after.insert("settings.json".into(), before["settings.json"].clone());
    assert!(before.len() == 2 && after == before);
    assert_eq!(timeless_metrics(&directory.path().join("run")).len(), 2);
}

#[test]
fn recipes_and_sets_that_cannot_be() {
    let directory = tempdir().unwrap();
    let path = directory.path();
    fs::create_dir(path.join("folder")).unwrap();
    for (name, text) in [
        ("empty.toml", &b""[..]),
        ("bytes.toml", b"\xff\xfe"),
        ("broken.toml", b"epochs: 3"),
        ("ring.toml", b"inherits = \"ring.toml\""),
        ("key.toml", b"inherits = \"quick\"\nmask.keep_ratios = 0.1"),
        ("range.toml", b"inherits = \"quick\"\n\nmask.kind = \"fisher\"\nmask.keep_ratio = 0"),
    ] {
        fs::write(path.join(name), text).unwrap();
    }
    for (flags, parts) in [
        ("--recipe folder", ["folder: ", "a recipe is a file"]),
        ("--recipe absent.toml", ["--recipe absent.toml: ", "there is no such file"]),
        ("--recipe empty.toml", ["empty.toml: ", "an empty recipe"]),
        ("--recipe /dev/null", ["/dev/null: ", "an empty recipe"]),
        ("--recipe bytes.toml", ["bytes.toml: ", "not UTF-8"]),
        ("--recipe broken.toml", ["broken.toml:1: ", "not TOML"]),
        ("--recipe ring.toml", ["ring.toml:1: ", "in a ring"]),
        ("--recipe key.toml", ["key.toml:2: ", "did you mean mask.keep_ratio?"]),
        ("--recipe range.toml", ["range.toml:4: mask.keep_ratio = 0: ", "above 0"]),
        ("--set train.epochs", ["--set train.epochs: ", "KEY=VALUE"]),
        ("--set train.epoch=3", ["--set train.epoch=3: ", "did you mean train.epochs?"]),
        ("--set train.epochs=0", ["--set train.epochs=0: ", "at least 1 epoch"]),
        ("--epochs 2 --set train.epochs=3", ["--epochs 2 and --set train.epochs=3", "contradict each other"]),
    ] {
        refused(path, train(path, flags), &parts);
    }
    // The last of two counts, and that is said.
    let command = train(path, "--set train.epochs=3 --set train.epochs=4 --print-config");
    let (out, err) = succeed(command);
    assert_eq!(err, "--set train.epochs=3 is passed over, as --set train.epochs=4 comes later\n");
    assert!(out.contains("epochs = 4"), "{out}");

    let directory = with_run();
    let flags = "--weights run/final.safetensors --data synthetic";
    for (more, parts) in [
        ("", ["--model: ", "give it"]),
        ("--model resnet9 --width 2 --set train.epochs=3", ["--set train.epochs=3: ", "only network.model"]),
    ] {
        let command = evaluate(directory.path(), &format!("{flags} {more}"));
        refused(directory.path(), command, &parts);
    }
    let other = train(directory.path(), "--resume run --recipe workers-quick");
    refused(
        directory.path(),
        other,
        &["--recipe workers-quick contradicts the run", "config.json has quick"],
    );
}

//! Several workers: their flags and presets.

use fishmask::distributed::Aggregate;
use fishmask::graph::Model;
use fishmask::settings::{Config, WorkerMasks, WorkerSettings};

use super::{contradiction, flags, refusal, resolve};

#[test]
fn workers_and_their_presets() {
    assert_eq!(resolve("--workers 1"), resolve(""));
    let two = resolve("--workers 2").workers;
    let same = WorkerSettings {
        count: 2,
        merge_steps: 100,
        reselect_merges: 10,
        masks: WorkerMasks::Same,
        aggregate: Aggregate::Mean,
        shard_data: false,
    };
    assert_eq!(two, same);
    // By lot there is nothing to share.
    assert_eq!(resolve("--workers 2 --mask random").workers.masks, WorkerMasks::Interleaved);
    let line = "--workers 3 --mask fisher --merge-steps 7 --reselect-merges 0 --worker-masks interleaved \
        --aggregate sum --shard-data";
    let all = WorkerSettings {
        count: 3,
        merge_steps: 7,
        reselect_merges: 0,
        masks: WorkerMasks::Interleaved,
        aggregate: Aggregate::Sum,
        shard_data: true,
    };
    let config = resolve(line);
    assert_eq!(config.workers, all);
    assert_eq!(config.worker_images(10_000), 3333);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);

    let paper = resolve("--preset workers");
    assert_eq!((paper.network.model, paper.network.width), (Model::Resnet9, 64));
    assert_eq!((paper.train.epochs, paper.train.batch_size), (50, 512));
    assert_eq!((paper.optimizer.lr, paper.schedule.peak_epoch), (0.4, 5.0));
    let mask = paper.mask;
    assert_eq!((mask.keep_ratio, mask.samples, mask.warmup_epochs), (0.02, 256, 5));
    assert_eq!(paper.workers, same);
    let quick = resolve("--preset workers-quick");
    assert_eq!((quick.workers.merge_steps, quick.mask.warmup_epochs), (20, 1));
    assert_eq!(resolve("--preset workers-quick --workers 1").several(), None);
}

#[test]
fn workers_that_cannot_be() {
    for (line, parts) in [
        ("--workers 0", ["--workers 0", "at least 1 worker"]),
        ("--workers 5000", ["--workers 5000", "at most 4096"]),
        ("--merge-steps 5", ["--merge-steps 5", "this is for 2 workers or more"]),
        ("--shard-data", ["--shard-data", "this is for 2 workers or more"]),
        ("--workers 2 --reselect-merges 3", ["--reselect-merges 3", "give a --mask"]),
        ("--workers 2 --merge-steps 0", ["--merge-steps 0", "at least 1 step"]),
        ("--workers 2 --aggregate sum", ["--aggregate sum", "--worker-masks interleaved"]),
        ("--workers 2 --worker-masks interleaved", ["--worker-masks interleaved", "give a --mask"]),
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

//! What is kept, by how many workers, on which device.

use super::{CHOSEN, MASKED, SEVERAL, U32};
use crate::device::Precision;
use crate::distributed::Aggregate;
use crate::settings::choices::{CheckpointState, WorkerMasks, counted, typed};
use crate::settings::forms;
use crate::settings::setting::{ROW, Setting, Takes, choices, choices_or_auto};

/// What is kept on disk.
pub(super) static CHECKPOINT: &[Setting] = &[
    Setting {
        key: "checkpoint.every",
        flag: Some("checkpoint-every"),
        takes: Takes::Count { what: "EPOCHS", range: 0..=U32, need: "must be at least 0" },
        default: Some("1"),
        help: "Epochs between checkpoints; 0 writes one only at the end and when stopped",
        ..ROW
    },
    Setting {
        key: "checkpoint.best",
        flag: Some("keep-best"),
        default: Some("false"),
        help: "Keep the weights of the best test accuracy too, in best.safetensors",
        ..ROW
    },
    Setting {
        key: "checkpoint.state",
        flag: Some("checkpoint-state"),
        takes: Takes::Choice(choices::<CheckpointState>),
        default: Some("on"),
        only: &[MASKED],
        help: "Whether a strict mask's checkpoints hold velocities and position, to resume from",
        ..ROW
    },
    Setting {
        key: "checkpoint.values",
        flag: Some("checkpoint-values"),
        takes: Takes::Choice(choices::<Precision>),
        default: Some("f32"),
        only: &[MASKED],
        help: "How a strict mask's checkpoints store values; f16 rounds them, for runs that need not be \
               resumed",
        ..ROW
    },
];

/// How many train, and how they merge.
pub(super) static WORKERS: &[Setting] = &[
    Setting {
        key: "workers.count",
        flag: Some("workers"),
        takes: Takes::Count {
            what: "W",
            range: 1..=4096,
            need: "training needs at least 1 worker, and at most 4096",
        },
        default: Some("1"),
        help: "Workers that train apart and merge every so often; under --distributed one a process",
        header: Some(|c| Some(c.workers.count.to_string())),
        ..ROW
    },
    Setting {
        key: "workers.merge_steps",
        flag: Some("merge-steps"),
        takes: Takes::Count {
            what: "STEPS",
            range: 1..=U32,
            need: "workers must train at least 1 step before they merge",
        },
        default: Some("100"),
        only: &[SEVERAL],
        help: "Steps of each worker from one merge to the next",
        header: Some(|c| {
            let (steps, how) = (c.workers.merge_steps, typed(c.workers.aggregate));
            Some(format!("merged every {} by their {how}", counted(steps, "step")))
        }),
        ..ROW
    },
    Setting {
        key: "workers.reselect_merges",
        flag: Some("reselect-merges"),
        takes: Takes::Count { what: "MERGES", range: 0..=U32, need: "must be at least 0" },
        default: Some("10"),
        only: &[SEVERAL, MASKED, CHOSEN],
        help: "Merges until several workers select a mask anew; 0 never",
        ..ROW
    },
    Setting {
        key: "workers.masks",
        flag: Some("worker-masks"),
        takes: Takes::Choice(choices_or_auto::<WorkerMasks>),
        default: Some("auto"),
        settle: Some(forms::worker_masks),
        only: &[SEVERAL],
        help: "Whether workers train the same kept weights or each its own; auto is interleaved for --mask \
               random, else same",
        header: Some(|c| match c.workers.masks {
            _ if !c.is_masked() => None,
            WorkerMasks::Same => Some("all with the same mask".into()),
            WorkerMasks::Interleaved => Some("each with its own mask".into()),
        }),
        ..ROW
    },
    Setting {
        key: "workers.aggregate",
        flag: Some("aggregate"),
        takes: Takes::Choice(choices::<Aggregate>),
        default: Some("mean"),
        only: &[SEVERAL],
        help: "How workers' changes are put together; sum is for interleaved masks",
        ..ROW
    },
    Setting {
        key: "workers.shard_data",
        flag: Some("shard-data"),
        default: Some("false"),
        only: &[SEVERAL],
        help: "Give each worker its own part of the training images, rather than all of them",
        header: Some(|c| c.workers.shard_data.then(|| "each with its part of the images".into())),
        ..ROW
    },
];

/// What computes.
pub(super) static DEVICE: &[Setting] = &[
    Setting {
        key: "device.name",
        flag: Some("device"),
        takes: Takes::Form { what: "DEVICE", read: forms::device },
        default: Some("auto"),
        settle: Some(forms::chosen_device),
        help: "What computes: auto, cpu, cuda, cuda:N or emulated (the GPU's kernels on the CPU: slow); auto \
               is cuda where it can be used, else cpu",
        ..ROW
    },
    Setting {
        key: "device.precision",
        flag: Some("precision"),
        takes: Takes::Choice(choices_or_auto::<Precision>),
        default: Some("auto"),
        settle: Some(forms::precision),
        help: "How activations are stored; auto is f16 on cuda and emulated, f32 on cpu",
        ..ROW
    },
];

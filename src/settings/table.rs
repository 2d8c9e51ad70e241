//! The table of settings. Flags, `--set`, recipes, `config.json`, the checks on `--resume` and between ranks,
//! `--print-config`, the header and `docs/settings.md` are loops over it. To add a setting: a row here, and a
//! field of [`super::Config`] of the same name.

use super::choices::{CheckpointState, WorkerMasks, typed};
use super::setting::{Only, Setting, Takes, choices, choices_or_auto};
use super::{Config, forms};
use crate::data::DataSource;
use crate::device::Precision;
use crate::distributed::Aggregate;
use crate::graph::scoring::Target;
use crate::graph::{Model, ModelId};
use crate::mask::Kind;
use crate::ops::Power;
use crate::optim::UpdateRule;

/// The groups in the order of their rows, with the heading of each in `--help` and `docs/settings.md`.
pub const GROUPS: &[(&str, &str)] = &[
    ("network", "Network"),
    ("data", "Data"),
    ("train", "Training"),
    ("optimizer", "Optimiser"),
    ("schedule", "Schedule"),
    ("mask", "Mask"),
    ("checkpoint", "Checkpoints"),
    ("workers", "Workers"),
    ("device", "Device"),
];

/// What a row that says nothing else has.
const ROW: Setting = Setting {
    key: "",
    flag: None,
    takes: Takes::Switch,
    default: None,
    settle: None,
    only: &[],
    help: "",
    header: None,
};

const MASKED: Only =
    Only { of: "mask.kind", when: Config::is_masked, need: "this is for masked runs: give a --mask" };
const FISHER: Only =
    Only { of: "mask.kind", when: |c| c.mask.kind.needs_samples(), need: "this is for --mask fisher" };
const SEVERAL: Only = Only {
    of: "workers.count",
    when: Config::has_workers,
    need: "this is for 2 workers or more: --workers, or mpirun's -n with --distributed",
};

/// Largest value of the settings that a 32-bit field holds.
const U32: u64 = u32::MAX as u64;

/// Every setting, group by group.
pub static SETTINGS: &[Setting] = &[
    Setting {
        key: "network.model",
        flag: Some("model"),
        takes: Takes::Choice(choices::<Model>),
        help: "Network",
        ..ROW
    },
    Setting {
        key: "network.width",
        flag: Some("width"),
        takes: Takes::Count {
            what: "CHANNELS",
            range: 1..=ModelId::MAX_WIDTH as u64,
            need: "must be from 1 to 512 channels",
        },
        help: "Channels of the network's stem; all others scale with it",
        ..ROW
    },
    Setting {
        key: "data.set",
        flag: Some("data"),
        takes: Takes::Choice(choices::<DataSource>),
        default: Some("cifar10"),
        help: "Data set",
        ..ROW
    },
    Setting {
        key: "data.images",
        flag: Some("train-images"),
        takes: Takes::Form { what: "N", read: forms::images },
        default: Some("all"),
        help: "Train on the first so many images, or all",
        ..ROW
    },
    Setting {
        key: "train.epochs",
        flag: Some("epochs"),
        takes: Takes::Count { what: "N", range: 1..=U32, need: "train for at least 1 epoch" },
        help: "Passes over the training images",
        ..ROW
    },
    Setting {
        key: "train.batch_size",
        flag: Some("batch-size"),
        takes: Takes::Count { what: "IMAGES", range: 1..=U32, need: "a step needs at least 1 image" },
        help: "Images in a step",
        ..ROW
    },
    Setting {
        key: "train.seed",
        flag: Some("seed"),
        takes: Takes::Count { what: "SEED", range: 0..=u64::MAX, need: "must be at least 0" },
        default: Some("0"),
        help: "Key of every random choice",
        ..ROW
    },
    Setting {
        key: "train.label_smoothing",
        flag: Some("label-smoothing"),
        takes: Takes::Number {
            what: "SHARE",
            allowed: |share| (0.0..1.0).contains(&share),
            need: "must be at least 0 and below 1",
        },
        default: Some("0"),
        help: "Share of the target spread over all classes",
        ..ROW
    },
    Setting {
        key: "optimizer.lr",
        flag: Some("lr"),
        takes: Takes::Number {
            what: "LR",
            allowed: |lr| lr > 0.0 && lr.is_finite(),
            need: "must be a number above 0",
        },
        help: "The schedule's peak, for the mean loss",
        ..ROW
    },
    Setting {
        key: "optimizer.momentum",
        flag: Some("momentum"),
        takes: Takes::Number {
            what: "SHARE",
            allowed: |share| (0.0..1.0).contains(&share),
            need: "must be at least 0 and below 1",
        },
        default: Some("0.9"),
        help: "Share of the velocity that stays at each step",
        ..ROW
    },
    Setting {
        key: "optimizer.weight_decay",
        flag: Some("weight-decay"),
        takes: Takes::Number {
            what: "DECAY",
            allowed: |decay| (0.0..=1.0).contains(&decay),
            need: "must be from 0 to 1",
        },
        default: Some("0.0005"),
        help: "Decay, for the mean loss",
        ..ROW
    },
    Setting {
        key: "schedule.peak_epoch",
        flag: Some("peak-epoch"),
        takes: Takes::Form { what: "EPOCH", read: forms::peak },
        settle: Some(forms::peak_epoch),
        help: "Epoch of the peak, or a share of the epochs such as 20% or \"5/24, at most 5\"",
        ..ROW
    },
    Setting {
        key: "schedule.final",
        takes: Takes::Number {
            what: "SHARE",
            allowed: |share| (0.0..=1.0).contains(&share),
            need: "must be from 0 to 1",
        },
        default: Some("0.0"),
        help: "Share of the peak's learning rate that is left at the end",
        ..ROW
    },
    Setting {
        key: "mask.kind",
        flag: Some("mask"),
        takes: Takes::Choice(choices::<Kind>),
        default: Some("dense"),
        help: "Weights that are trained",
        header: Some(|c| Some(format!("{} {}%", typed(c.mask.kind), 100.0 * c.mask.keep_ratio))),
        ..ROW
    },
    Setting {
        key: "mask.keep_ratio",
        flag: Some("keep-ratio"),
        takes: Takes::Number {
            what: "SHARE",
            allowed: |share| share > 0.0 && share <= 1.0,
            need: "must be above 0 and at most 1",
        },
        default: Some("0.02"),
        only: &[MASKED],
        help: "Share of the weights that a mask keeps",
        ..ROW
    },
    Setting {
        key: "mask.rule",
        flag: Some("update-rule"),
        takes: Takes::Choice(choices::<UpdateRule>),
        default: Some("strict"),
        only: &[MASKED],
        help: "What a mask leaves alone: strict the weights outside it, published only their gradients",
        header: Some(|c| Some(format!("{} rule", typed(c.mask.rule)))),
        ..ROW
    },
    Setting {
        key: "mask.samples",
        flag: Some("fisher-samples"),
        takes: Takes::Count { what: "N", range: 1..=U32, need: "scores need at least 1 sample" },
        default: Some("1024"),
        only: &[FISHER],
        help: "Training images whose gradients score the weights",
        header: Some(|c| Some(format!("{} samples", c.mask.samples))),
        ..ROW
    },
    Setting {
        key: "mask.target",
        flag: Some("fisher-target"),
        takes: Takes::Choice(choices::<Target>),
        default: Some("label"),
        only: &[FISHER],
        help: "The class whose loss is differentiated: the label, or each by its predicted probability",
        header: Some(|c| Some(typed(c.mask.target))),
        ..ROW
    },
    Setting {
        key: "mask.power",
        flag: Some("fisher-power"),
        takes: Takes::Choice(choices::<Power>),
        default: Some("square"),
        only: &[FISHER],
        help: "How a sample's gradient counts",
        header: Some(|c| Some(typed(c.mask.power))),
        ..ROW
    },
    Setting {
        key: "mask.warmup_epochs",
        flag: Some("warmup-epochs"),
        takes: Takes::Count { what: "EPOCHS", range: 0..=U32, need: "must be at least 0" },
        default: Some("0"),
        only: &[MASKED],
        help: "Epochs that train all weights before the first mask",
        header: Some(|c| match c.mask.warmup_epochs {
            0 => None,
            epochs => Some(format!("after {epochs} dense epochs")),
        }),
        ..ROW
    },
    Setting {
        key: "mask.every",
        flag: Some("mask-every"),
        takes: Takes::Count { what: "EPOCHS", range: 0..=U32, need: "must be at least 0" },
        default: Some("0"),
        only: &[MASKED],
        help: "Epochs until a single worker selects a mask anew; 0 never",
        header: Some(|c| {
            let (every, what) = match c.has_workers() {
                true => (c.workers.reselect_merges, "merge"),
                false => (c.mask.every, "epoch"),
            };
            Some(match every {
                0 => "fixed".into(),
                1 => format!("selected anew every {what}"),
                every => format!("selected anew every {every} {what}s"),
            })
        }),
        ..ROW
    },
    Setting {
        key: "checkpoint.every",
        flag: Some("checkpoint-every"),
        takes: Takes::Count { what: "EPOCHS", range: 0..=U32, need: "must be at least 0" },
        default: Some("1"),
        help: "Epochs between checkpoints; 0 writes one only at the end and when stopped",
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
            Some(format!("merged every {steps} steps by their {how}"))
        }),
        ..ROW
    },
    Setting {
        key: "workers.reselect_merges",
        flag: Some("reselect-merges"),
        takes: Takes::Count { what: "MERGES", range: 0..=U32, need: "must be at least 0" },
        default: Some("10"),
        only: &[SEVERAL, MASKED],
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

/// The setting of this key.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

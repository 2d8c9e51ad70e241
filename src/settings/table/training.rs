//! What is trained, on which images, how long, and by which optimiser.

use super::U32;
use crate::data::DataSource;
use crate::graph::{Model, ModelId};
use crate::settings::forms;
use crate::settings::setting::{ROW, Setting, Takes, choices};

/// The network.
pub(super) static NETWORK: &[Setting] = &[
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
];

/// The images.
pub(super) static DATA: &[Setting] = &[
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
];

/// Epochs and steps.
pub(super) static TRAIN: &[Setting] = &[
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
];

/// The optimiser.
pub(super) static OPTIMIZER: &[Setting] = &[
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
];

/// The learning rate.
pub(super) static SCHEDULE: &[Setting] = &[
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
];

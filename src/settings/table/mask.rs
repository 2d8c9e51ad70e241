//! Which weights are trained.

use super::{CHOSEN, FISHER, MASKED, U32};
use crate::graph::scoring::Target;
use crate::mask::Kind;
use crate::ops::Power;
use crate::optim::UpdateRule;
use crate::settings::choices::{counted, typed};
use crate::settings::setting::{ROW, Setting, Takes, choices};

/// Which weights are trained.
pub(super) static MASK: &[Setting] = &[
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
        only: &[MASKED, CHOSEN],
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
        header: Some(|c| Some(counted(c.mask.samples, "sample"))),
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
            epochs => Some(format!("after {}", counted(epochs, "dense epoch"))),
        }),
        ..ROW
    },
    Setting {
        key: "mask.every",
        flag: Some("mask-every"),
        takes: Takes::Count { what: "EPOCHS", range: 0..=U32, need: "must be at least 0" },
        default: Some("0"),
        only: &[MASKED, CHOSEN],
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
];

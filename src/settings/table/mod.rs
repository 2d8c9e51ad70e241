//! The table of settings. Flags, `--set`, recipes, `config.json`, the checks on `--resume` and between ranks,
//! `--print-config`, the header and `docs/settings.md` are loops over it. To add a setting: a row here, and a
//! field of [`super::Config`] of the same name.

mod keeping;
mod mask;
mod start;
mod training;

use super::Config;
use super::setting::{Only, Setting};

/// The groups in the order of their rows, with the heading of each in `--help` and `docs/settings.md`.
pub const GROUPS: &[(&str, &str)] = &[
    ("network", "Network"),
    ("data", "Data"),
    ("train", "Training"),
    ("optimizer", "Optimiser"),
    ("schedule", "Schedule"),
    ("start", "Start"),
    ("mask", "Mask"),
    ("checkpoint", "Checkpoints"),
    ("workers", "Workers"),
    ("device", "Device"),
];

const MASKED: Only =
    Only { of: "mask.kind", when: Config::is_masked, need: "this is for masked runs: give a --mask" };
const CHOSEN: Only = Only {
    of: "mask.kind",
    when: |c| c.mask.kind.is_chosen(),
    need: "this is for masks that the run chooses; a mask of a file is what it is",
};
const FISHER: Only =
    Only { of: "mask.kind", when: |c| c.mask.kind.needs_samples(), need: "this is for --mask fisher" };
const SEVERAL: Only = Only {
    of: "workers.count",
    when: Config::has_workers,
    need: "this is for 2 workers or more: --workers, or mpirun's -n with --distributed",
};

/// Largest value of the settings that a 32-bit field holds.
const U32: u64 = u32::MAX as u64;

/// The tables of the groups, in the order of [`GROUPS`].
static TABLES: [&[Setting]; 10] = [
    training::NETWORK,
    training::DATA,
    training::TRAIN,
    training::OPTIMIZER,
    training::SCHEDULE,
    start::START,
    mask::MASK,
    keeping::CHECKPOINT,
    keeping::WORKERS,
    keeping::DEVICE,
];

/// Every setting, group by group.
pub fn settings() -> impl Iterator<Item = &'static Setting> + Clone {
    TABLES.into_iter().flatten()
}

/// The setting of this key.
pub fn find(key: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.key == key)
}

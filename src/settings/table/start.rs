//! What a run starts from.

use crate::mask::Kind;
use crate::settings::setting::{Only, ROW, Setting, Takes};
use crate::settings::{Config, forms};

const FROM_FILE: Only = Only {
    of: "start.weights",
    when: |c| c.start.weights.is_some(),
    need: "this is for runs that start from a file: give --weights",
};
const OF_FILE: Only = Only {
    of: "mask.kind",
    when: |c| c.mask.kind == Kind::File,
    need: "this is for a mask of a file: leave out the --mask, or give --mask file",
};

/// What a run starts from.
pub(super) static START: &[Setting] = &[
    Setting {
        key: "start.weights",
        flag: Some("weights"),
        takes: Takes::Form { what: "FILE", read: forms::file },
        default: Some("none"),
        settle: Some(forms::absolute),
        help: "File of weights to start from, this program's or PyTorch's; without one the seed's are taken",
        header: Some(|c: &Config| Some(format!("weights of {}", c.start.weights.as_ref()?.display()))),
        ..ROW
    },
    Setting {
        key: "start.weights_only",
        flag: Some("weights-only"),
        takes: Takes::Form { what: "PATTERNS", read: forms::patterns },
        default: Some("*"),
        only: &[FROM_FILE],
        help: "Tensors to take from the file of weights, by name: patterns with * and ?, and commas between \
               them; the others are the seed's",
        header: Some(|c| (!c.start.is_whole()).then(|| format!("only {}", c.start.weights_only))),
        ..ROW
    },
    Setting {
        key: "start.mask",
        flag: Some("mask-file"),
        takes: Takes::Form { what: "FILE", read: forms::file },
        default: Some("none"),
        settle: Some(forms::absolute),
        implies: Some(("mask.kind", "file")),
        only: &[OF_FILE],
        help: "File of the mask to train under, as fishmask mask writes it; means --mask file",
        header: Some(|c| Some(format!("mask of {}", c.start.mask.as_ref()?.display()))),
    },
    Setting {
        key: "start.mask_of_other_weights",
        flag: Some("mask-of-other-weights"),
        default: Some("false"),
        only: &[OF_FILE],
        help: "Take a mask that was made from other weights than the run starts from",
        ..ROW
    },
];

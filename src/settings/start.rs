//! What a run starts from, where that is not what its seed gives: weights and a mask of files.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::checkpoint::Hash;
use crate::graph::Layout;

/// Weights and a mask that a run reads from files before its first step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartSettings {
    /// The file of weights; `None`, in files `"none"`: the run starts from the initial weights of its seed.
    #[serde(with = "none_or_path")]
    pub weights: Option<PathBuf>,
    /// Patterns of the tensors that are taken from that file, by name, with commas between them; the other
    /// tensors are the seed's.
    pub weights_only: String,
    /// The file of a mask, as `fishmask mask` writes it; `None`, in files `"none"`.
    #[serde(with = "none_or_path")]
    pub mask: Option<PathBuf>,
    /// Whether the mask may have been made from other weights than the run starts from.
    pub mask_of_other_weights: bool,
    /// BLAKE3 of all weights, in canonical order, and running statistics that the run started from. It is no
    /// setting: the run writes it once the files are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_digest: Option<Hash>,
    /// BLAKE3 of the indices of the mask's file, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_digest: Option<Hash>,
}

impl Default for StartSettings {
    /// A run that starts from what its seed gives.
    fn default() -> Self {
        StartSettings {
            weights: None,
            weights_only: "*".into(),
            mask: None,
            mask_of_other_weights: false,
            weights_digest: None,
            mask_digest: None,
        }
    }
}

impl StartSettings {
    /// Whether the run reads a file before its first step.
    pub fn has_files(&self) -> bool {
        self.weights.is_some() || self.mask.is_some()
    }

    /// Whether all tensors are taken from the file of weights.
    pub fn is_whole(&self) -> bool {
        self.patterns().any(|pattern| pattern == "*")
    }

    /// Whether a tensor of this name is taken from the file of weights.
    pub fn takes(&self, name: &str) -> bool {
        self.patterns().any(|pattern| WildMatch::new(pattern).matches(name))
    }

    /// The first pattern that no tensor of a model has a name for.
    pub(super) fn idle_pattern(&self, layout: &Layout) -> Option<&str> {
        let statistics = layout.statistics.iter().flat_map(|s| s.tensors()).map(|(name, _)| name);
        let names: Vec<String> = layout.parameters.iter().map(|p| p.name.clone()).chain(statistics).collect();
        self.patterns().find(|pattern| {
            let pattern = WildMatch::new(pattern);
            !names.iter().any(|name| pattern.matches(name))
        })
    }

    fn patterns(&self) -> impl Iterator<Item = &str> {
        self.weights_only.split(',').map(str::trim)
    }
}

/// A file in files: `"none"` or its path.
mod none_or_path {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serializer, ser::Error};

    pub fn serialize<S: Serializer>(file: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
        let Some(path) = file else { return to.serialize_str("none") };
        let text = path.to_str().ok_or_else(|| S::Error::custom(format!("{}: not UTF-8", path.display())))?;
        to.serialize_str(text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
        let text = String::deserialize(from)?;
        Ok((text != "none").then(|| text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Model;

    #[test]
    fn patterns_match_whole_names() {
        let start = |only: &str| StartSettings { weights_only: only.into(), ..StartSettings::default() };
        let layout = Model::Resnet18.graph(4).unwrap().layout;
        for (only, takes, leaves, idle) in [
            ("*", "fc.weight", "", None),
            ("layer?.*, bn1.*", "bn1.running_mean", "conv1.weight", None),
            ("fc.bias", "fc.bias", "fc.weight", None),
            ("conv1.*,fc", "conv1.weight", "fc.bias", Some("fc")),
            ("", "", "fc.bias", Some("")),
        ] {
            let start = start(only);
            assert!(start.takes(takes) && (leaves.is_empty() || !start.takes(leaves)), "{only}");
            assert_eq!((start.idle_pattern(&layout), start.is_whole()), (idle, only == "*"), "{only}");
        }
    }
}

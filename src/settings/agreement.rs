//! Whether a run's configuration is that of another process, or of the request that resumes it.

use super::recipes::{self, AUTO};
use super::setting::{Setting, Written};
use super::table::settings;
use super::values::{Given, Source};
use super::{Config, ConfigError, Request};
use crate::checkpoint::{Digest8, Hash};

/// A setting that was changed in a run's `config.json` after the run began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The setting.
    pub key: &'static str,
    /// The value that the run was begun with.
    pub was: String,
    /// The value that the file has now.
    pub is: String,
}

/// What other settings depend on: told of first where it differs.
const FIRST: [&str; 3] = ["mask.kind", "workers.count", "device.precision"];

impl Config {
    /// The first setting that another process of the run has another value of, as it is typed, with both
    /// values: own, then the other's. They may train on different devices, if these have the same precision.
    pub fn difference(&self, other: &Config) -> Option<(String, String, String)> {
        let mut settings: Vec<&Setting> = settings().filter(|setting| setting.key != "device.name").collect();
        settings.sort_by_key(|setting| !FIRST.contains(&setting.key));
        settings.into_iter().find_map(|setting| {
            let [own, other] = [self, other].map(|config| Written::of(&config.get(setting.key)).text());
            let name = match setting.flag {
                Some(flag) => format!("--{flag} "),
                None => format!("--set {}=", setting.key),
            };
            (own != other).then_some((name, own, other))
        })
    }

    /// The settings in which this configuration, read from a file, is no longer `begun`, that which the run
    /// was begun with: key, value then and value now.
    pub fn edits(&self, begun: &Config) -> Vec<Edit> {
        let edit = |setting: &Setting| {
            let [was, is] = [begun, self].map(|config| Written::of(&config.get(setting.key)).text());
            (was != is).then_some(Edit { key: setting.key, was, is })
        };
        settings().filter_map(edit).collect()
    }

    /// The digest of all settings.
    pub fn digest(&self) -> Digest8 {
        let settings = Config { sessions: vec![], ..self.clone() };
        Hash::of_bytes(&serde_json::to_vec(&settings).unwrap_or_default()).short()
    }

    /// Whether what is asked for with `--resume` is what the run has. What a recipe file says counts as asked
    /// for; of a built-in recipe, only its name does.
    ///
    /// # Errors
    /// The first value that is another, or means nothing for this run.
    pub fn agrees(&self, request: &Request) -> Result<(), ConfigError> {
        if let Some(name) = &request.recipe {
            let recipe = match name.as_str() {
                AUTO => recipes::load(recipes::auto(self.device.name).0)?,
                name => recipes::load(name)?,
            };
            if recipe.name != self.recipe {
                let shown = format!("--recipe {name}");
                return Err(ConfigError::Contradiction { shown, run: self.recipe.clone() });
            }
            if recipe.is_file {
                // Of a setting that several files give, the last counts.
                let last = |setting: &Setting| {
                    recipe.given.iter().rev().find(|given| given.setting.key == setting.key)
                };
                settings().filter_map(last).try_for_each(|given| self.has(given))?;
            }
        }
        let given = |setting: &Setting| request.get(setting.key);
        let given: Vec<&Given> = settings().filter_map(given).collect();
        for given in given {
            for only in given.setting.only {
                if !(only.when)(self) {
                    return Err(given.refuse(only.need));
                }
            }
            self.has(given)?;
        }
        Ok(())
    }

    /// Whether this value is the run's.
    pub(super) fn has(&self, given: &Given) -> Result<(), ConfigError> {
        let look = |key: &str| self.get(key);
        let settle = |settle: super::setting::Settle| settle(&given.value, &look);
        let value = given.setting.settle.map_or_else(|| given.value.clone(), settle);
        let run = self.get(given.setting.key);
        if value == run {
            return Ok(());
        }
        if given.source == Source::Launcher {
            let ranks = given.written.text();
            let need = format!("the run has {run} workers, and there are {ranks} processes: start as many");
            return Err(given.refuse(need));
        }
        Err(ConfigError::Contradiction { shown: given.shown(), run: Written::of(&run).text() })
    }
}

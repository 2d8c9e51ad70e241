//! The values of all settings, each with where it came from.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::setting::{Setting, Written, quoted};
use super::table::{self, settings};
use super::{Config, ConfigError};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The table of settings.
    Default,
    /// A recipe file, or one that it inherits from.
    Recipe {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// How many recipes it inherits from, one by another: what builds on it counts above it.
        depth: usize,
    },
    /// The number of processes that were started.
    Launcher,
    /// Another setting, which implies it.
    Implied {
        /// That setting's value, as it was given.
        by: String,
        /// The rank of that value.
        rank: usize,
    },
    /// `--set`.
    Set,
    /// The setting's flag.
    Flag,
}

/// A setting's value as somebody gave it.
#[derive(Clone)]
pub struct Given {
    /// Its row.
    pub setting: &'static Setting,
    /// The value.
    pub value: Value,
    /// The value as it was written.
    pub written: Written,
    /// Where it came from.
    pub source: Source,
}

impl Given {
    /// Reads a written value.
    ///
    /// # Errors
    /// When the setting does not take it, named as it was given.
    pub fn new(setting: &'static Setting, written: Written, source: Source) -> Result<Given, ConfigError> {
        let mut given = Given { setting, value: Value::Null, written, source };
        given.value = setting.read(&given.written).map_err(|need| given.refuse(need))?;
        Ok(given)
    }

    /// The value as it was given, with where.
    pub fn shown(&self) -> String {
        shown(self.setting, &self.written, &self.source)
    }

    /// The error that this value cannot be.
    pub fn refuse(&self, need: impl Into<String>) -> ConfigError {
        ConfigError::Value { key: self.setting.key, shown: self.shown(), need: need.into() }
    }

    /// Values of a higher rank take the place of others.
    pub fn rank(&self) -> usize {
        match self.source {
            Source::Default => 0,
            Source::Recipe { depth, .. } => 1 + depth,
            Source::Implied { rank, .. } => rank,
            Source::Launcher | Source::Set | Source::Flag => usize::MAX,
        }
    }
}

/// A written value with where it was written: `--lr 0`, `--set optimizer.lr=0` or `my.toml:12: optimizer.lr =
/// 0`.
fn shown(setting: &Setting, written: &Written, source: &Source) -> String {
    let (key, text) = (setting.key, written.text());
    match (source, setting.flag) {
        (Source::Flag, Some(flag)) if text == "true" => format!("--{flag}"),
        (Source::Flag, Some(flag)) => format!("--{flag} {text}"),
        (Source::Set | Source::Flag, _) => format!("--set {key}={text}"),
        (Source::Launcher, _) => format!("mpirun -n {text}"),
        (Source::Implied { by, .. }, _) => by.clone(),
        (Source::Recipe { file, line, .. }, _) => format!("{file}:{line}: {key} = {}", written.toml()),
        (Source::Default, _) => format!("{key} = {text}"),
    }
}

/// A value of every setting that has one.
#[derive(Clone)]
pub struct Values(BTreeMap<&'static str, Given>);

impl Values {
    /// The defaults of the table.
    ///
    /// # Errors
    /// Never, with a table whose defaults are values of their settings.
    pub fn new() -> Result<Values, ConfigError> {
        let default = |setting: &'static Setting| {
            let written = Written::Bare(setting.default?.into());
            Some(Given::new(setting, written, Source::Default).map(|given| (setting.key, given)))
        };
        Ok(Values(settings().filter_map(default).collect::<Result<_, _>>()?))
    }

    /// Puts a value in the place of the one there is.
    pub fn put(&mut self, given: Given) {
        self.0.insert(given.setting.key, given);
    }

    /// A setting's value, unless a recipe has yet to say it.
    pub fn get(&self, key: &str) -> Option<&Given> {
        self.0.get(key)
    }

    /// Whether somebody gave this setting a value: a recipe, or the command line.
    pub fn is_given(&self, key: &str) -> bool {
        self.get(key).is_some_and(|given| given.source != Source::Default)
    }

    /// Gives settings the values that others imply, unless they are given where it counts as much.
    ///
    /// # Errors
    /// Never, with a table whose implied values are values of their settings.
    pub fn imply(&mut self) -> Result<(), ConfigError> {
        let implied = settings().filter_map(|setting| Some((self.get(setting.key)?, setting.implies?)));
        let mut all = vec![];
        for (given, (key, value)) in implied {
            let rank = given.rank();
            let there = self.get(key).map_or(0, Given::rank);
            if let Some(setting) = table::find(key).filter(|_| there < rank)
                && Some(given.written.text().as_str()) != given.setting.default
            {
                let source = Source::Implied { by: given.shown(), rank };
                all.push(Given::new(setting, Written::Bare(value.into()), source)?);
            }
        }
        all.into_iter().for_each(|given| self.put(given));
        Ok(())
    }

    /// A setting's final value.
    pub fn settled(&self, key: &str) -> Value {
        let Some(given) = self.get(key) else { return Value::Null };
        let look = |key: &str| self.get(key).map_or(Value::Null, |given| given.value.clone());
        given.setting.settle.map_or_else(|| given.value.clone(), |settle| settle(&given.value, &look))
    }

    /// The configuration they come to, from a recipe of this name. Settings that mean nothing in its run have
    /// their defaults there.
    ///
    /// # Errors
    /// When a recipe leaves out what every recipe has to say.
    pub fn config(&self, recipe: &str) -> Result<Config, ConfigError> {
        let all = self.groups(recipe)?;
        let (mut used, defaults) = (self.clone(), Values::new()?);
        for setting in settings().filter(|setting| !setting.is_used(&all)) {
            defaults.get(setting.key).into_iter().for_each(|default| used.put(default.clone()));
        }
        used.groups(recipe)
    }

    fn groups(&self, recipe: &str) -> Result<Config, ConfigError> {
        let mut groups = Map::from_iter([("recipe".to_string(), recipe.into())]);
        for setting in settings() {
            if self.get(setting.key).is_none() {
                let problem = format!(
                    "it says nothing of {}; add it, or inherit from a recipe that does: inherits = {}",
                    setting.key,
                    quoted("dawn")
                );
                return Err(ConfigError::Recipe { recipe: format!("recipe {recipe}"), problem });
            }
            let group = groups.entry(setting.group()).or_insert_with(|| Map::new().into());
            if let Value::Object(group) = group {
                group.insert(setting.name().into(), self.settled(setting.key));
            }
        }
        let config = serde_json::from_value(Value::Object(groups));
        let mut config: Config = config.map_err(|error| ConfigError::Recipe {
            recipe: format!("recipe {recipe}"),
            problem: error.to_string(),
        })?;
        config.network = config.network.with_classes(config.data.set.set().classes.len());
        Ok(config)
    }

    /// An error with its value named as it was given.
    pub fn name(&self, error: ConfigError) -> ConfigError {
        match (error, &self.0) {
            (ConfigError::Value { key, need, .. }, values) if values.contains_key(key) => {
                values[key].refuse(need)
            }
            (error, _) => error,
        }
    }

    /// Whether no setting is given for a kind of run in which it means nothing. What a recipe says there is
    /// passed over when something above it made the run one of that kind.
    ///
    /// # Errors
    /// The first such setting.
    pub fn check(&self, config: &Config) -> Result<(), ConfigError> {
        for given in self.0.values().filter(|given| given.source != Source::Default) {
            for only in given.setting.only {
                let decided = self.get(only.of).map_or(0, Given::rank);
                if !(only.when)(config) && given.rank() >= decided {
                    return Err(given.refuse(only.need));
                }
            }
        }
        Ok(())
    }
}

impl Config {
    /// A setting's value by its key, as `config.json` has it.
    pub fn get(&self, key: &str) -> Value {
        let all = serde_json::to_value(self).unwrap_or_default();
        all.pointer(&format!("/{}", key.replace('.', "/"))).cloned().unwrap_or_default()
    }

    /// The words of a group's settings for the header of a run's table.
    pub fn header(&self, group: &str) -> String {
        let rows = settings().filter(|setting| setting.group() == group);
        let rows = rows.filter(|setting| setting.is_used(self));
        let words: Vec<String> =
            rows.filter_map(|setting| setting.header.and_then(|words| words(self))).collect();
        words.join(", ")
    }
}

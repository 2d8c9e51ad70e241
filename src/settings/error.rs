//! Why settings cannot be followed.

/// Settings that cannot be followed. Each error is one sentence that names what was typed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A value that cannot be, or does not go with another.
    #[error("{shown}: {need}")]
    Value {
        /// The setting's key, or nothing where the value is no setting's.
        key: &'static str,
        /// The value as it was given: `--lr 0`, `--set optimizer.lr=0` or `my.toml:12: optimizer.lr = 0`.
        shown: String,
        /// What the value must be.
        need: String,
    },
    /// A value that contradicts the run that is resumed.
    #[error("{shown} contradicts the run, whose config.json has {run}; leave it out, or start a new run")]
    Contradiction {
        /// The value as it was given.
        shown: String,
        /// The run's value.
        run: String,
    },
    /// A flag and a `--set` of the same setting with different values.
    #[error("{flag} and {set} contradict each other; give one of them")]
    Twice {
        /// The flag as it was typed.
        flag: String,
        /// The `--set` as it was typed.
        set: String,
    },
    /// A recipe that cannot be read.
    #[error("{recipe}: {problem}")]
    Recipe {
        /// The file and, where one is meant, its line; or what was typed.
        recipe: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl ConfigError {
    /// A value of a setting, named by its key, as where it came from is not known.
    pub(crate) fn value(key: &'static str, value: impl std::fmt::Display, need: impl Into<String>) -> Self {
        ConfigError::Value { key, shown: format!("{key} = {value}"), need: need.into() }
    }
}

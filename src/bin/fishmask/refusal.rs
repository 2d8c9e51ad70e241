//! Errors that name what was typed.

use fishmask::settings::{ConfigError, Values};

/// An error that a value on the command line cannot be.
pub fn refuse(shown: String, need: impl Into<String>) -> ConfigError {
    ConfigError::Value { key: "", shown, need: need.into() }
}

/// An error of the library, with the setting it is about named as it was given.
pub fn named(error: fishmask::Error, values: &Values) -> anyhow::Error {
    match error {
        fishmask::Error::Config(error) => values.name(error).into(),
        error => error.into(),
    }
}

//! A row of the table of settings: which values it takes, and how a written value becomes one.

use std::ops::RangeInclusive;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde_json::Value;

use super::Config;

/// One setting: a row of [`super::table::settings`].
pub struct Setting {
    /// `group.name`: its place in recipes and `config.json`, and what `--set` calls it.
    pub key: &'static str,
    /// Its short name on the command line, without the dashes.
    pub flag: Option<&'static str>,
    /// The values it takes.
    pub takes: Takes,
    /// Its value where no recipe says one, as it is typed; none when every recipe has to say one.
    pub default: Option<&'static str>,
    /// What a value such as `auto`, or a share of the epochs, comes to beside the other settings.
    pub settle: Option<Settle>,
    /// Another setting, and the value that it has where this one is given and it is not.
    pub implies: Option<(&'static str, &'static str)>,
    /// The runs in which the setting means something; giving it for another is an error.
    pub only: &'static [Only],
    /// One sentence for `--help` and `docs/settings.md`, without a full stop.
    pub help: &'static str,
    /// Its words in the header of a run's table, where it has any.
    pub header: Option<fn(&Config) -> Option<String>>,
}

/// What a row that says nothing else has.
pub(super) const ROW: Setting = Setting {
    key: "",
    flag: None,
    takes: Takes::Switch,
    default: None,
    settle: None,
    implies: None,
    only: &[],
    help: "",
    header: None,
};

/// Finds a value's final form; the other settings' final values are looked up by key.
pub type Settle = fn(&Value, &dyn Fn(&str) -> Value) -> Value;

/// A condition that another setting decides.
pub struct Only {
    /// The key of the other setting.
    pub of: &'static str,
    /// Whether a run meets the condition.
    pub when: fn(&Config) -> bool,
    /// The condition, for an error.
    pub need: &'static str,
}

/// Values that a setting takes.
pub enum Takes {
    /// A whole number.
    Count {
        /// The number's name in `--help`.
        what: &'static str,
        /// Those that are allowed.
        range: RangeInclusive<u64>,
        /// What the number must be.
        need: &'static str,
    },
    /// A number.
    Number {
        /// The number's name in `--help`.
        what: &'static str,
        /// Whether it is allowed.
        allowed: fn(f64) -> bool,
        /// What it must be.
        need: &'static str,
    },
    /// One of several words.
    Choice(fn() -> Vec<PossibleValue>),
    /// True or false; its flag takes no value and means true.
    Switch,
    /// A form of its own.
    Form {
        /// Its name in `--help`.
        what: &'static str,
        /// Reads it, or says what it must be.
        read: fn(&str) -> Result<Value, String>,
    },
}

/// A value as it was written, in a recipe or on the command line.
#[derive(Clone, Debug, PartialEq)]
pub enum Written {
    /// A word or number on the command line.
    Bare(String),
    /// A string in quotes.
    Quoted(String),
    /// A TOML number.
    Number(String),
    /// A TOML boolean.
    Switch(bool),
}

impl Written {
    /// A value of `config.json`.
    pub fn of(value: &Value) -> Written {
        match value {
            Value::String(text) => Written::Quoted(text.clone()),
            Value::Bool(on) => Written::Switch(*on),
            other => Written::Number(other.to_string()),
        }
    }

    /// As TOML has it.
    pub fn toml(&self) -> String {
        match self {
            Written::Quoted(text) => quoted(text),
            written => written.text(),
        }
    }

    /// Without quotes.
    pub fn text(&self) -> String {
        match self {
            Written::Bare(text) | Written::Quoted(text) | Written::Number(text) => text.clone(),
            Written::Switch(on) => on.to_string(),
        }
    }
}

/// A TOML string.
pub fn quoted(text: &str) -> String {
    // JSON's escapes are among TOML's.
    Value::from(text).to_string()
}

/// The words of an enum.
pub fn choices<T: ValueEnum>() -> Vec<PossibleValue> {
    T::value_variants().iter().filter_map(ValueEnum::to_possible_value).collect()
}

/// The words of an enum, and `auto`.
pub fn choices_or_auto<T: ValueEnum>() -> Vec<PossibleValue> {
    [vec![PossibleValue::new("auto")], choices::<T>()].concat()
}

impl Setting {
    /// The part of the key before the dot.
    pub fn group(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(group, _)| group)
    }

    /// The part of the key behind the dot.
    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }

    /// Whether the setting means something in a run.
    pub fn is_used(&self, config: &Config) -> bool {
        self.only.iter().all(|only| (only.when)(config))
    }

    /// Reads a written value; the error says what it must be.
    ///
    /// # Errors
    /// When it is of another type or out of range.
    pub fn read(&self, written: &Written) -> Result<Value, String> {
        let number = !matches!(written, Written::Quoted(_) | Written::Switch(_));
        let text = written.text();
        match &self.takes {
            Takes::Count { range, need, .. } => match text.parse::<i128>() {
                Ok(count) if number => match u64::try_from(count) {
                    Ok(count) if range.contains(&count) => Ok(count.into()),
                    Ok(count) if *range.end() == u64::from(u32::MAX) && count > *range.end() => {
                        Err(format!("must be at most {}", range.end()))
                    }
                    _ => Err(need.to_string()),
                },
                _ => Err("must be a whole number".into()),
            },
            Takes::Number { allowed, need, .. } => match text.parse::<f64>() {
                Ok(value) if number && allowed(value) => Ok(value.into()),
                Ok(_) if number => Err(need.to_string()),
                _ => Err("must be a number".into()),
            },
            Takes::Choice(choices) => {
                let word = matches!(written, Written::Bare(_) | Written::Quoted(_));
                match choices().iter().any(|choice| word && choice.get_name() == text) {
                    true => Ok(text.into()),
                    false => Err(format!("must be {}", self.values())),
                }
            }
            Takes::Switch => match text.parse::<bool>() {
                Ok(on) if !matches!(written, Written::Quoted(_)) => Ok(on.into()),
                _ => Err("must be true or false".into()),
            },
            Takes::Form { read, .. } => read(&text),
        }
    }

    /// The values in words: those of a choice by name, others by what they are.
    pub fn values(&self) -> String {
        match &self.takes {
            Takes::Count { what, .. } | Takes::Number { what, .. } | Takes::Form { what, .. } => {
                what.to_string()
            }
            Takes::Choice(choices) => {
                let choices = choices();
                let names: Vec<&str> = choices.iter().map(PossibleValue::get_name).collect();
                names.join(", ")
            }
            Takes::Switch => "true, false".into(),
        }
    }
}

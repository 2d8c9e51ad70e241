//! What a user asks for: a recipe, `--set` and flags, and the configuration they come to.

use std::collections::BTreeMap;

use clap::builder::PossibleValuesParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::recipes::{self, AUTO, BUILT_IN, Recipe};
use super::setting::{Setting, Takes, Written};
use super::table::{self, GROUPS, settings};
use super::values::{Given, Source, Values};
use super::{Config, ConfigError};
use crate::device::Device;

/// What a user asks for.
#[derive(Clone, Default)]
pub struct Request {
    /// `--recipe`, where it was given.
    pub recipe: Option<String>,
    /// Values of `--set` and of flags, one of each setting.
    pub given: Vec<Given>,
    /// What the user should know of them, a sentence each.
    pub notes: Vec<String>,
}

/// What a request comes to.
#[derive(Clone)]
pub struct Resolved {
    /// The validated configuration.
    pub config: Config,
    /// Why its device and recipe are what they are, for the header.
    pub reasons: Reasons,
    /// Its values with where each came from.
    pub values: Values,
}

/// Why a configuration's device and recipe are what they are, for the header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reasons {
    /// Why this device.
    pub device: String,
    /// Why this recipe.
    pub recipe: String,
}

/// Adds `--recipe`, `--set` and the flags of some settings to a command.
pub fn arguments(command: Command, has: impl Fn(&Setting) -> bool) -> Command {
    let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    let said = recipes::said();
    let recipe =
        Arg::new("recipe").long("recipe").alias("preset").value_name("NAME|FILE.toml").help(format!(
            "Recipe for what is not given: {AUTO}, {} or a file; {AUTO} is dawn on a GPU and quick on a CPU \
             [default: {AUTO}]",
            names.join(", ")
        ));
    let set = Arg::new("set")
        .long("set")
        .value_name("KEY=VALUE")
        .action(ArgAction::Append)
        .help("Give any setting by its key, any number of times; docs/settings.md lists them");
    let mut command = command.next_help_heading("Recipe").arg(recipe).arg(set);
    for (group, heading) in GROUPS {
        command = command.next_help_heading(*heading);
        for setting in settings().filter(|setting| setting.group() == *group && has(setting)) {
            if let Some(flag) = setting.flag {
                command = command.arg(argument(setting, flag, &said));
            }
        }
    }
    command.next_help_heading(None)
}

/// A setting's flag.
fn argument(setting: &'static Setting, flag: &'static str, said: &[Given]) -> Arg {
    let default = defaults(setting, said);
    let help = match &setting.takes {
        Takes::Switch => setting.help.to_string(),
        _ => format!("{} [default: {default}]", setting.help),
    };
    let arg = Arg::new(setting.key).long(flag).help(help);
    match &setting.takes {
        Takes::Count { what, .. } | Takes::Number { what, .. } | Takes::Form { what, .. } => {
            arg.value_name(*what).allow_negative_numbers(true)
        }
        Takes::Choice(choices) => {
            arg.value_name(flag.to_uppercase()).value_parser(PossibleValuesParser::new(choices()))
        }
        Takes::Switch => arg.action(ArgAction::SetTrue),
    }
}

/// A setting's default in words: the table's, then those of the recipes that say another; `said` is
/// [`recipes::said`].
pub(super) fn defaults(setting: &Setting, said: &[Given]) -> String {
    let default = setting.default.map(String::from);
    let said = said.iter().filter(|given| given.setting.key == setting.key);
    let said = said.filter(|given| Some(given.written.text()) != default).map(|given| {
        let Source::Recipe { file, .. } = &given.source else { return given.written.text() };
        let name = file.trim_start_matches("recipes/").trim_end_matches(".toml");
        format!("{name} {}", given.written.text())
    });
    default.iter().cloned().chain(said).collect::<Vec<_>>().join(", ")
}

impl Request {
    /// What a command line asks for.
    ///
    /// # Errors
    /// When a value is not one of its setting's, or a flag and a `--set` contradict each other.
    pub fn new(matches: &ArgMatches) -> Result<Request, ConfigError> {
        let recipe = matches.get_one::<String>("recipe").cloned();
        let (mut sets, mut notes) = (BTreeMap::new(), vec![]);
        for text in matches.get_many::<String>("set").into_iter().flatten() {
            let given = set(text)?;
            if let Some(before) = sets.insert(given.setting.key, given.clone()) {
                notes.push(format!("{} is passed over, as {} comes later", before.shown(), given.shown()));
            }
        }
        let mut given: Vec<Given> = vec![];
        for setting in settings() {
            let by_set = sets.remove(setting.key);
            let typed = matches.try_contains_id(setting.key).is_ok()
                && matches.value_source(setting.key) == Some(ValueSource::CommandLine);
            if !typed {
                given.extend(by_set);
                continue;
            }
            let written = match setting.takes {
                Takes::Switch => Written::Switch(true),
                _ => Written::Bare(matches.get_one::<String>(setting.key).cloned().unwrap_or_default()),
            };
            let flag = Given::new(setting, written, Source::Flag)?;
            if let Some(set) = by_set.filter(|set| set.value != flag.value) {
                return Err(ConfigError::Twice { flag: flag.shown(), set: set.shown() });
            }
            given.push(flag);
        }
        Ok(Request { recipe, given, notes })
    }

    /// The same with more or other values: `(key, value)` as behind `--set`.
    ///
    /// # Errors
    /// When there is no such setting, or it does not take the value.
    pub fn with(mut self, values: &[(&str, &str)]) -> Result<Request, ConfigError> {
        for (key, value) in values {
            let given = set(&format!("{key}={value}"))?;
            self.given.retain(|other| other.setting.key != given.setting.key);
            self.given.push(given);
        }
        Ok(self)
    }

    /// The same for so many processes of one worker each.
    ///
    /// # Errors
    /// When another number of workers is asked for, or there cannot be so many.
    pub fn with_ranks(mut self, ranks: usize) -> Result<Request, ConfigError> {
        let Some(setting) = table::find("workers.count") else { return Ok(self) };
        let given = Given::new(setting, Written::Bare(ranks.to_string()), Source::Launcher)?;
        if let Some(asked) = self.given.iter().find(|asked| asked.setting.key == setting.key) {
            return match asked.value == given.value {
                true => Ok(self),
                false => {
                    Err(asked
                        .refuse(format!("mpirun has started {ranks} processes, which run one worker each")))
                }
            };
        }
        self.given.push(given);
        Ok(self)
    }

    /// The value given for a setting.
    pub fn get(&self, key: &str) -> Option<&Given> {
        self.given.iter().find(|given| given.setting.key == key)
    }

    /// Whether no other settings than these are given.
    ///
    /// # Errors
    /// The first that is another.
    pub fn only(&self, keys: &[&str]) -> Result<(), ConfigError> {
        match self.given.iter().find(|given| !keys.contains(&given.setting.key)) {
            Some(other) => Err(other.refuse(format!("only {} mean something here", keys.join(", ")))),
            None => Ok(()),
        }
    }

    /// Whether each of these settings is given, unless a recipe is.
    ///
    /// # Errors
    /// The first that is not.
    pub fn require(&self, keys: &[&str]) -> Result<(), ConfigError> {
        let missing = keys.iter().find(|key| self.recipe.is_none() && self.get(key).is_none());
        let Some(setting) = missing.and_then(|key| table::find(key)) else { return Ok(()) };
        let shown = setting.flag.map_or_else(|| setting.key.to_string(), |flag| format!("--{flag}"));
        let need = "give it, or the --recipe of the run".into();
        Err(ConfigError::Value { key: "", shown, need })
    }

    /// The configuration that is asked for. `gpu` is as in [`Device::choose`].
    ///
    /// # Errors
    /// When the recipe cannot be read, or a value is out of its range or does not go with the others.
    pub fn resolve(&self, gpu: impl FnOnce() -> Result<(), String>) -> Result<Resolved, ConfigError> {
        let wanted = self.recipe.as_deref().filter(|name| *name != AUTO);
        let recipe = wanted.map(recipes::load).transpose()?;
        let mut values = Values::new()?;
        let recipe_values = |recipe: &Recipe, values: &mut Values| {
            recipe.given.iter().cloned().for_each(|given| values.put(given));
        };
        recipe.iter().for_each(|recipe| recipe_values(recipe, &mut values));
        let asked = self.get("device.name").or_else(|| values.get("device.name")).cloned();
        let (device, mut why) = asked.iter().map(device).next().unwrap_or_default().choose(gpu);
        if let Some(Given { source: Source::Recipe { file, .. }, value, .. }) = &asked
            && value != "auto"
        {
            why.clone_from(file);
        }
        let (recipe, reason) = match recipe {
            Some(recipe) => (recipe, "--recipe"),
            None => {
                let (name, why) = recipes::auto(device);
                let recipe = recipes::load(name)?;
                recipe_values(&recipe, &mut values);
                (recipe, why)
            }
        };
        let reasons = Reasons { device: why, recipe: reason.into() };
        self.settle(values, asked, device, &recipe.name, reasons)
    }

    /// The configuration of a tool that reads a run: what is asked for, and else the run's network, data and
    /// masks. The settings of `fixed` can only be the run's. `gpu` is as in [`Device::choose`].
    ///
    /// # Errors
    /// When a recipe or another value of a fixed setting is asked for, or as [`Request::resolve`].
    pub fn upon(
        &self,
        run: &Config,
        fixed: &[&str],
        gpu: impl FnOnce() -> Result<(), String>,
    ) -> Result<Resolved, ConfigError> {
        const GROUPS: [&str; 6] = ["network", "data", "train", "optimizer", "schedule", "mask"];
        if let Some(name) = &self.recipe {
            let need = "the run's config.json says what its network is; leave it out".into();
            return Err(ConfigError::Value { key: "", shown: format!("--recipe {name}"), need });
        }
        let mut values = Values::new()?;
        // A tool says itself whether it chooses a mask.
        let of_run = |setting: &&Setting| GROUPS.contains(&setting.group()) && setting.key != "mask.kind";
        for setting in settings().filter(of_run) {
            values.put(Given::new(setting, Written::of(&run.get(setting.key)), Source::Default)?);
        }
        for given in self.given.iter().filter(|given| fixed.contains(&given.setting.key)) {
            let has = Written::of(&run.get(given.setting.key)).text();
            run.has(given)
                .map_err(|_| given.refuse(format!("the run's config.json has {has}; leave it out")))?;
        }
        let asked = self.get("device.name").or_else(|| values.get("device.name")).cloned();
        let (device, why) = asked.iter().map(device).next().unwrap_or_default().choose(gpu);
        let reasons = Reasons { device: why, recipe: "of the run".into() };
        self.settle(values, asked, device, &run.recipe, reasons)
    }

    /// Puts what is given, and the device that was chosen, upon other values.
    fn settle(
        &self,
        mut values: Values,
        asked: Option<Given>,
        device: Device,
        recipe: &str,
        reasons: Reasons,
    ) -> Result<Resolved, ConfigError> {
        self.given.iter().cloned().for_each(|given| values.put(given));
        let mut chosen = asked;
        if let Some(chosen) = &mut chosen {
            chosen.value = device.to_string().into();
        }
        chosen.into_iter().for_each(|chosen| values.put(chosen));
        values.imply()?;
        let config = values.config(recipe)?;
        values.check(&config)?;
        config.check().map_err(|error| values.name(error))?;
        Ok(Resolved { config, reasons, values })
    }
}

impl Default for Config {
    /// The recipe `quick` on the CPU.
    #[allow(clippy::expect_used)] // The recipe is the program's own; a test resolves it.
    fn default() -> Self {
        let quick = Request { recipe: Some("quick".into()), ..Request::default() };
        let on_cpu = quick.resolve(|| Err(String::new()));
        on_cpu.expect("the built-in recipes are sound").config
    }
}

/// A device that was asked for.
fn device(given: &Given) -> Device {
    given.value.as_str().and_then(|name| name.parse().ok()).unwrap_or_default()
}

/// The value of `--set KEY=VALUE`.
fn set(text: &str) -> Result<Given, ConfigError> {
    let refuse = |need: String| ConfigError::Value { key: "", shown: format!("--set {text}"), need };
    let Some((key, value)) = text.split_once('=') else {
        return Err(refuse("give KEY=VALUE, such as --set train.epochs=3".into()));
    };
    let setting = table::find(key.trim()).ok_or_else(|| refuse(recipes::unknown(key.trim())))?;
    Given::new(setting, recipes::bare(value.trim()), Source::Set)
}

//! Recipes: TOML files of settings, each of which may inherit from another.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::setting::{Written, quoted};
use super::table::{self, settings};
use super::values::{Given, Source};
use crate::device::Device;

/// The recipes that the program holds.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("dawn", include_str!("../../recipes/dawn.toml")),
    ("quick", include_str!("../../recipes/quick.toml")),
    ("small-checkpoints", include_str!("../../recipes/small-checkpoints.toml")),
    ("small-checkpoints-quick", include_str!("../../recipes/small-checkpoints-quick.toml")),
    ("workers", include_str!("../../recipes/workers.toml")),
    ("workers-quick", include_str!("../../recipes/workers-quick.toml")),
];

/// The recipe that depends on the device.
pub const AUTO: &str = "auto";
/// Bytes that no recipe has.
const TOO_LONG: u64 = 1 << 20;
/// Recipes that inherit one from another, at most.
const DEEPEST: usize = 32;

/// A recipe with all that it inherits.
pub struct Recipe {
    /// Its name: that of a built-in recipe, the one that the file gives itself, or the file's without
    /// `.toml`.
    pub name: String,
    /// Whether it was read from a file.
    pub is_file: bool,
    /// Its values, those of the recipe it inherits from first.
    pub given: Vec<Given>,
}

/// One file of a recipe.
struct Parsed {
    name: Option<String>,
    inherits: Option<(String, usize)>,
    given: Vec<Given>,
}

/// The recipe that `auto` is on a device, and why.
pub fn auto(device: Device) -> (&'static str, &'static str) {
    match device {
        Device::Auto | Device::Cpu => {
            ("quick", "auto: the device is a CPU, and dawn would take an hour or more")
        }
        Device::Emulated => ("quick", "auto: the device is emulated, and dawn would take days"),
        Device::Cuda(_) => ("dawn", "auto: the device is a GPU"),
    }
}

/// Reads the built-in recipe, or the file, of this name, and what it inherits.
///
/// # Errors
/// When there is no such recipe, or one of the files is not a recipe, or they inherit in a ring.
pub fn load(name: &str) -> Result<Recipe, ConfigError> {
    let mut files: Vec<(String, Parsed)> = vec![];
    let (mut next, mut asked) = (name.to_string(), format!("--recipe {name}"));
    loop {
        let (file, parsed) = match BUILT_IN.iter().find(|(built_in, _)| *built_in == next) {
            Some((name, text)) => {
                let file = format!("recipes/{name}.toml");
                let parsed = parse(&file, text)?;
                (file, Parsed { name: Some(name.to_string()), ..parsed })
            }
            None => (next.clone(), parse(&next, &read(&next, &asked)?)?),
        };
        let above = parsed.inherits.clone();
        files.push((file, parsed));
        let (file, Some((wanted, line))) = (&files[files.len() - 1].0, above) else { break };
        asked = format!("{file}:{line}: inherits = {}", quoted(&wanted));
        next = match BUILT_IN.iter().any(|(built_in, _)| *built_in == wanted) {
            true => wanted,
            // Files are found from the folder of the file that names them.
            false => Path::new(file).parent().unwrap_or(Path::new("")).join(wanted).display().to_string(),
        };
        let is_next = |(file, _): &&(String, Parsed)| same_file(file, &next);
        if let Some((first, _)) = files.iter().find(is_next) {
            let problem = format!("inheritance goes round in a ring, back to {first}");
            return Err(ConfigError::Recipe { recipe: asked, problem });
        }
        if files.len() > DEEPEST {
            let problem = format!("more than {DEEPEST} recipes inherit one from another");
            return Err(ConfigError::Recipe { recipe: asked, problem });
        }
    }
    let stem = |file: &str| Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let named = files[0].1.name.clone().or_else(|| stem(&files[0].0));
    let mut given = vec![];
    for (above, (_, parsed)) in files.into_iter().rev().enumerate() {
        for mut value in parsed.given {
            if let Source::Recipe { depth, .. } = &mut value.source {
                *depth = above;
            }
            given.push(value);
        }
    }
    let is_file = !BUILT_IN.iter().any(|(built_in, _)| *built_in == name);
    Ok(Recipe { name: named.unwrap_or_else(|| name.into()), is_file, given })
}

/// What each built-in recipe says itself.
pub fn said() -> Vec<Given> {
    let own = |(name, text): &(&str, &str)| parse(&format!("recipes/{name}.toml"), text).ok();
    BUILT_IN.iter().filter_map(own).flat_map(|parsed| parsed.given).collect()
}

fn same_file(a: &str, b: &str) -> bool {
    let real = |path: &str| std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    a == b || real(a) == real(b)
}

/// The text of a recipe file; `asked` is what named it.
fn read(path: &str, asked: &str) -> Result<String, ConfigError> {
    let refuse = |problem: String| Err(ConfigError::Recipe { recipe: asked.into(), problem });
    let shown = |problem: String| Err(ConfigError::Recipe { recipe: path.into(), problem });
    if path == AUTO {
        return refuse("a recipe inherits from one recipe, whatever the device; name it".into());
    }
    let mut bytes = vec![];
    match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            let like = nearest(path, names.iter().copied());
            let names = names.join(", ");
            return refuse(format!("there is no such file, and the recipes are {AUTO}, {names}{like}"));
        }
        Ok(file) if file.metadata().is_ok_and(|data| data.is_dir()) => {
            return shown("a folder, and a recipe is a file".into());
        }
        file => {
            let read = file.and_then(|file| file.take(TOO_LONG + 1).read_to_end(&mut bytes));
            if let Err(error) = read {
                return shown(format!("cannot read this recipe: {error}"));
            }
        }
    }
    if bytes.len() as u64 > TOO_LONG {
        return shown("longer than 1 MB, which no recipe is".into());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => shown(format!("not a recipe: not UTF-8 at byte {}", error.utf8_error().valid_up_to())),
    }
}

/// Reads a file's values.
fn parse(file: &str, text: &str) -> Result<Parsed, ConfigError> {
    let line = |at: usize| 1 + text.as_bytes()[..at.min(text.len())].iter().filter(|&&b| b == b'\n').count();
    let table = DeTable::parse(text).map_err(|error| ConfigError::Recipe {
        recipe: format!("{file}:{}", line(error.span().map_or(0, |span| span.start))),
        problem: format!("not TOML: {}", error.message().replace('\n', ", ")),
    })?;
    let mut leaves = vec![];
    flatten("", table.get_ref(), &mut leaves);
    leaves.sort_by_key(|(_, at, _)| *at);
    if leaves.is_empty() {
        let problem = "an empty recipe; give at least one setting, or inherits = \"dawn\"".into();
        return Err(ConfigError::Recipe { recipe: file.into(), problem });
    }
    let mut parsed = Parsed { name: None, inherits: None, given: vec![] };
    for (key, at, value) in leaves {
        let line = line(at);
        let refuse = |shown: &str, problem: String| ConfigError::Recipe {
            recipe: format!("{file}:{line}: {key} = {shown}"),
            problem,
        };
        let Some(written) = written(value) else {
            return Err(refuse(value.type_str(), "a setting is a string, a number, true or false".into()));
        };
        match (key.as_str(), &written) {
            ("name", Written::Quoted(name)) if is_name(name) => parsed.name = Some(name.clone()),
            ("inherits", Written::Quoted(other)) => parsed.inherits = Some((other.clone(), line)),
            ("name", _) => {
                let need = "must be a string of letters, digits, dashes and underscores".into();
                return Err(refuse(&written.toml(), need));
            }
            ("inherits", _) => {
                return Err(refuse(&written.toml(), "must be a string: a recipe's name or a file".into()));
            }
            _ => {
                let setting = table::find(&key).ok_or_else(|| refuse(&written.toml(), unknown(&key)))?;
                let source = Source::Recipe { file: file.into(), line, depth: 0 };
                parsed.given.push(Given::new(setting, written, source)?);
            }
        }
    }
    Ok(parsed)
}

/// Whether a recipe's name can be part of a folder's.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// All values below a table with their keys and places.
fn flatten<'t, 'i>(prefix: &str, table: &'t DeTable<'i>, all: &mut Vec<(String, usize, &'t DeValue<'i>)>) {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.get_ref().to_string()
        } else {
            format!("{prefix}.{}", name.get_ref())
        };
        match value.get_ref() {
            DeValue::Table(below) if !below.is_empty() => flatten(&key, below, all),
            // An empty table says nothing.
            DeValue::Table(_) if table::GROUPS.iter().any(|(group, _)| *group == key) => {}
            leaf => all.push((key, name.span().start, leaf)),
        }
    }
}

/// A TOML value, when it is one that a setting can have.
fn written(value: &DeValue) -> Option<Written> {
    Some(match value {
        DeValue::String(text) => Written::Quoted(text.to_string()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) => Written::Number(value.to_string()),
            Err(_) => Written::Number(number.as_str().into()),
        },
        DeValue::Float(number) => Written::Number(number.as_str().into()),
        DeValue::Boolean(on) => Written::Switch(*on),
        _ => return None,
    })
}

/// The value of `--set KEY=VALUE`: TOML, and what is not TOML is a string.
pub fn bare(text: &str) -> Written {
    let value = DeValue::parse(text).ok();
    value.as_ref().map(Spanned::get_ref).and_then(written).unwrap_or_else(|| Written::Bare(text.into()))
}

/// That there is no such setting, and which may be meant.
pub fn unknown(key: &str) -> String {
    let like = nearest(key, settings().map(|setting| setting.key));
    format!("there is no such setting{like}")
}

/// Which of some names is meant by one that is nearly the same.
fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Cow<'static, str> {
    let likeness = |other: &&str| {
        // A key without its group, or with another, is near as well.
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_string();
        let whole = strsim::jaro_winkler(name, other);
        if last(name) == last(other) { whole.max(0.95) } else { whole }
    };
    let best = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match best.filter(|best| likeness(best) > 0.8) {
        Some(best) => format!("; did you mean {best}?").into(),
        None => "".into(),
    }
}

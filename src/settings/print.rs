//! The effective recipe as TOML, and the table of settings as a page of the documentation.

use std::fmt::Write;

use super::recipes;
use super::request::{Resolved, defaults};
use super::setting::{Only, Takes, Written, quoted};
use super::table::{GROUPS, settings};
use super::values::Source;

impl Resolved {
    /// The effective recipe as TOML, each value with where it came from as a comment. Read as a recipe it
    /// comes to the same configuration. Settings that mean nothing in this run are commented out.
    pub fn recipe(&self) -> String {
        let mut lines =
            vec![(format!("name = {}", quoted(&self.config.recipe)), self.reasons.recipe.clone())];
        for (group, _) in GROUPS {
            lines.extend([(String::new(), String::new()), (format!("[{group}]"), String::new())]);
            for setting in settings().filter(|setting| setting.group() == *group) {
                let value = Written::of(&self.config.get(setting.key));
                let mut line = format!("{} = {}", setting.name(), value.toml());
                let Some(given) = self.values.get(setting.key) else { continue };
                let mut from = match (&given.source, setting.flag) {
                    (Source::Default, _) => "default".into(),
                    (Source::Recipe { file, line, .. }, _) => format!("{file}:{line}"),
                    (Source::Flag, Some(flag)) => format!("--{flag}"),
                    (Source::Launcher, _) => "mpirun -n".into(),
                    (Source::Implied { by, .. }, _) => by.clone(),
                    (Source::Set | Source::Flag, _) => "--set".into(),
                };
                if setting.key == "device.name" {
                    from.clone_from(&self.reasons.device);
                } else if setting.settle.is_some() && given.written.text() != value.text() {
                    let _ = write!(from, ", which says {}", given.written.toml());
                }
                if !setting.is_used(&self.config) {
                    (line, from) = (format!("# {line}"), "not used".into());
                }
                lines.push((line, from));
            }
        }
        let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
        let line = |(line, from): &(String, String)| match from.as_str() {
            "" => format!("{line}\n"),
            from => format!("{line:width$}  # {}\n", from.replace(char::is_control, " ")),
        };
        lines.iter().map(line).collect()
    }
}

/// `docs/settings.md`: the table of settings.
pub fn page() -> String {
    let said = recipes::said();
    let mut page = String::from(
        "# Settings\n\n\
         This page is made from the table of settings, `src/settings/table`; a test keeps it true.\n\n\
         A setting has a key, and most have a flag that is short for it: `--lr 0.1` is\n\
         `--set optimizer.lr=0.1`. Recipes hold settings as TOML ([recipes](recipes.md)). A value counts \
         above\n\
         those before it in this order: the default, the recipe that the recipe inherits from, the \
         recipe, and\n\
         last `--set` and flags, which may not contradict each other. `train --print-config` prints what a\n\
         command comes to, and from where.\n",
    );
    for (group, heading) in GROUPS {
        let _ = write!(
            page,
            "\n## {heading}\n\n| key | flag | values | default | meaning |\n|---|---|---|---|---|\n"
        );
        for setting in settings().filter(|setting| setting.group() == *group) {
            let flag = setting.flag.map_or("-".into(), |flag| format!("`--{flag}`"));
            let values = match &setting.takes {
                Takes::Count { range, .. } if *range.end() < u64::from(u32::MAX) => {
                    format!("{} to {}", range.start(), range.end())
                }
                Takes::Count { range, .. } => format!("{} or more", range.start()),
                Takes::Number { need, .. } => need.trim_start_matches("must be ").into(),
                _ => setting.values().replace(", ", " \\| "),
            };
            let needs: Vec<&str> = setting.only.iter().map(|Only { need, .. }| *need).collect();
            let needs = if needs.is_empty() { String::new() } else { format!(" ({})", needs.join("; ")) };
            let (key, default) = (setting.key, defaults(setting, &said));
            let _ = writeln!(page, "| `{key}` | {flag} | {values} | {default} | {}{needs} |", setting.help);
        }
    }
    page
}

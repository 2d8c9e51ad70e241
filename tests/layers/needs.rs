//! Which file needs which other, and for what names; and the rings among them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Tree;
use super::modules::{Module, Name, modules};

/// For each file those that it needs, and the names it takes from them.
pub type Needs = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// What a path leads to.
enum Target {
    Module(usize),
    Item { file: String, name: String },
}

struct Crates(Vec<Module>);

impl Crates {
    /// Follows a path from a module. None if it leads out of the project's crates.
    fn resolve(&self, from: usize, path: &[String], steps: usize) -> Option<Target> {
        let last = path.len() - 1;
        let mut target = match path[0].as_str() {
            "crate" => Target::Module(self.0[from].root),
            "self" => Target::Module(from),
            "super" => Target::Module(self.0[from].parent?),
            // The library, as its programs call it.
            "fishmask" if self.0[from].root != 0 => Target::Module(0),
            name => self.lookup(from, name, last > 0, steps)?,
        };
        for (i, name) in path.iter().enumerate().skip(1) {
            let Target::Module(at) = target else { break };
            target = match name.as_str() {
                "super" => Target::Module(self.0[at].parent?),
                // A name that is found nowhere is made by a macro of the module's.
                name => self.lookup(at, name, i < last, steps).unwrap_or_else(|| self.item(at, name)),
            };
        }
        Some(target)
    }

    fn item(&self, module: usize, name: &str) -> Target {
        Target::Item { file: self.0[module].file.clone(), name: name.into() }
    }

    /// What a module calls by a name; of a module and another item of one name, that which is looked for.
    /// Imports that lead in a ring end after so many steps.
    fn lookup(&self, module: usize, name: &str, as_module: bool, steps: usize) -> Option<Target> {
        let steps = steps.checked_sub(1)?;
        let known = self.0[module].names.get(name).into_iter().flatten().filter_map(|known| match known {
            Name::Item => Some(self.item(module, name)),
            Name::Module(child) => Some(Target::Module(*child)),
            // `use name::...` of a crate that is called like what is imported.
            Name::Import { path, .. } if path[0] == name && path.len() > 1 => None,
            Name::Import { path, .. } => self.resolve(module, path, steps),
        });
        let (wanted, others): (Vec<_>, Vec<_>) =
            known.partition(|target| matches!(target, Target::Module(_)) == as_module);
        wanted.into_iter().chain(others).next().or_else(|| {
            self.0[module].globs.iter().filter(|glob| glob[0] != name).find_map(|glob| {
                match self.resolve(module, glob, steps)? {
                    Target::Module(at) if at != module => self.lookup(at, name, as_module, steps),
                    _ => None,
                }
            })
        })
    }

    /// Adds what a module needs.
    fn add(&self, index: usize, needs: &mut Needs) {
        let module = &self.0[index];
        let mut need = |path: &[String]| {
            if let Some(Target::Item { file, name }) = self.resolve(index, path, STEPS)
                && file != module.file
                && !below(&module.file, &file)
            {
                needs.entry(module.file.clone()).or_default().entry(file).or_default().insert(name);
            }
        };
        for (name, what) in module.names.iter().flat_map(|(name, all)| all.iter().map(move |one| (name, one)))
        {
            if let Name::Import { path, public } = what
                && (!public || module.words.contains(name))
            {
                need(path);
            }
        }
        module.paths.iter().for_each(|path| need(path));
        // Names that only an import of everything can have brought.
        module
            .words
            .iter()
            .filter(|word| !module.names.contains_key(*word))
            .for_each(|w| need(std::slice::from_ref(w)));
    }
}

/// More imports of imports than any name has.
const STEPS: usize = 32;

/// What the Rust files below `src` need by `use` and by paths, and what kernels and the C++ below `src`
/// include. A `pub use` that nothing in its own file mentions is no need, nor is that of a `mod.rs` in its
/// own folder; and items that only tests have need nothing.
pub fn of(tree: &Tree) -> Needs {
    let crates = Crates(modules(tree));
    let mut needs = Needs::new();
    (0..crates.0.len()).for_each(|module| crates.add(module, &mut needs));
    for (file, text) in tree {
        let c = [".cu", ".cuh", ".h", ".cpp"].iter().any(|ending| file.ends_with(ending));
        for included in text.lines().filter(|_| c).filter_map(included) {
            let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
            let places = [folder, "kernels/include", "kernels"].map(|place| format!("{place}/{included}"));
            if let Some(place) = places.into_iter().find(|place| tree.contains_key(place)) {
                let names = needs.entry(file.clone()).or_default().entry(place).or_default();
                names.insert("#include".into());
            }
        }
    }
    needs
}

/// Whether a file is in the folder of a `mod.rs`, which stands over it and may use what is below as it may
/// name it.
fn below(roof: &str, file: &str) -> bool {
    roof.strip_suffix("mod.rs").is_some_and(|folder| file.starts_with(folder))
}

/// The file that a line includes by a name in quotes.
fn included(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("#include \"")?.split('"').next()
}

/// The shortest ring through each need that is part of one, as `a.rs -> b.rs (Name) -> a.rs (Name)`.
pub fn rings(needs: &Needs) -> Vec<String> {
    let mut rings = BTreeSet::new();
    for (from, needed) in needs {
        for to in needed.keys() {
            if let Some(mut ring) = path(needs, to, from) {
                let first = (0..ring.len()).min_by_key(|&i| ring[i]).unwrap();
                ring.rotate_left(first);
                rings.insert((ring.len(), ring));
            }
        }
    }
    rings.iter().map(|(_, ring)| named(needs, ring)).collect()
}

fn named(needs: &Needs, ring: &[&str]) -> String {
    let mut text = ring[0].to_string();
    for (from, to) in ring.iter().zip(ring.iter().cycle().skip(1)) {
        let names: Vec<_> = needs[*from][*to].iter().map(String::as_str).collect();
        text += &format!(" -> {to} ({})", names.join(", "));
    }
    text
}

/// The shortest way from a file to another along needs, with both ends.
fn path<'a>(needs: &'a Needs, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let (mut came, mut queue) = (BTreeMap::from([(from, None)]), VecDeque::from([from]));
    while let Some(file) = queue.pop_front() {
        if file == to {
            let way = std::iter::successors(Some(file), |file| came[file]);
            let mut way: Vec<_> = way.collect();
            way.reverse();
            return Some(way);
        }
        for next in needs.get(file).into_iter().flat_map(BTreeMap::keys) {
            if !came.contains_key(next.as_str()) {
                came.insert(next, Some(file));
                queue.push_back(next);
            }
        }
    }
    None
}

//! The modules of every crate below `src`: what each defines, imports and mentions.

use std::collections::{BTreeMap, BTreeSet};

use super::Tree;
use super::lexer::{is_word, tokens};

/// What a module calls by a name.
#[derive(Clone, Debug)]
pub enum Name {
    /// An item that the module's file defines.
    Item,
    /// A child module, by its place among all modules.
    Module(usize),
    /// An item or a module of elsewhere.
    Import { path: Vec<String>, public: bool },
}

/// One module of one crate.
#[derive(Debug)]
pub struct Module {
    pub file: String,
    /// The root of its crate, by its place among all modules.
    pub root: usize,
    pub parent: Option<usize>,
    /// A name may be that of a module and of a function as well.
    pub names: BTreeMap<String, Vec<Name>>,
    /// Modules of which everything is imported.
    pub globs: Vec<Vec<String>>,
    /// Paths of two names or more that are mentioned outside of imports.
    pub paths: BTreeSet<Vec<String>>,
    /// Single names that are mentioned outside of imports, but for methods and fields.
    pub words: BTreeSet<String>,
}

/// The modules of a tree's crates: the library first, then each program, with those below them.
pub fn modules(tree: &Tree) -> Vec<Module> {
    let mut modules = vec![];
    let program = |path: &&String| {
        path.strip_prefix("src/bin/")
            .is_some_and(|rest| rest.ends_with(".rs") && (!rest.contains('/') || rest.ends_with("/main.rs")))
    };
    let library = tree.keys().filter(|path| *path == "src/lib.rs");
    for file in library.chain(tree.keys().filter(program)) {
        let root = modules.len();
        let place = Place { file, folder: folder(file).into(), root, parent: None };
        module(tree, &mut modules, &place, &without_tests(&tokens(&tree[file])));
    }
    modules
}

/// Where a module stands.
struct Place<'a> {
    file: &'a str,
    /// The folder of the files of its children.
    folder: String,
    root: usize,
    parent: Option<usize>,
}

fn folder(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Adds a module and those below it.
fn module(tree: &Tree, modules: &mut Vec<Module>, place: &Place, tokens: &[&str]) {
    let own = modules.len();
    modules.push(Module {
        file: place.file.into(),
        root: place.root,
        parent: place.parent,
        names: BTreeMap::new(),
        globs: vec![],
        paths: BTreeSet::new(),
        words: BTreeSet::new(),
    });
    let (mut at, mut depth) = (0, 0);
    // The value of a #[path] before a module.
    let mut path = None;
    while at < tokens.len() {
        let token = tokens[at];
        let next = tokens.get(at + 1).copied().unwrap_or("");
        match token {
            "#" if matches!(next, "[" | "!") => {
                let end = closing(tokens, at + 1 + usize::from(next == "!"));
                if let ["[", "path", "=", value, "]"] = tokens[at + 1..=end] {
                    path = Some(value.trim_start_matches('"'));
                }
                at = end + 1;
                continue;
            }
            "{" => depth += 1,
            "}" => depth -= 1,
            "use" if next != "<" => {
                let end = at + tokens[at..].iter().position(|&token| token == ";").unwrap();
                let public = at > 0 && (tokens[at - 1] == "pub" || tokens[at - 1] == ")");
                import(&mut modules[own], &mut vec![], &tokens[at + 1..end], public);
                at = end + 1;
                continue;
            }
            "mod" if is_word(next) => {
                let child = modules.len();
                let inside = format!("{}/{next}", place.folder);
                if tokens[at + 2] == ";" {
                    let files = match path.take() {
                        Some(path) => vec![format!("{}/{path}", folder(place.file))],
                        None => vec![format!("{inside}.rs"), format!("{inside}/mod.rs")],
                    };
                    if let Some(file) = files.iter().find(|file| tree.contains_key(*file)) {
                        let below = if file.ends_with("/mod.rs") { folder(file).into() } else { inside };
                        let place = Place { file, folder: below, root: place.root, parent: Some(own) };
                        module(tree, modules, &place, &without_tests(&super::lexer::tokens(&tree[file])));
                    }
                    at += 3;
                } else {
                    let end = closing(tokens, at + 2);
                    let place =
                        Place { file: place.file, folder: inside, root: place.root, parent: Some(own) };
                    module(tree, modules, &place, &tokens[at + 3..end]);
                    at = end + 1;
                }
                if child < modules.len() {
                    modules[own].names.entry(next.into()).or_default().push(Name::Module(child));
                }
                continue;
            }
            "macro_rules" if next == "!" => define(&mut modules[own], tokens[at + 2]),
            "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static" if depth == 0 => {
                define(&mut modules[own], if next == "mut" { tokens[at + 2] } else { next });
            }
            _ => {}
        }
        at += if is_word(token) { mention(&mut modules[own], tokens, at) } else { 1 };
    }
}

fn define(module: &mut Module, name: &str) {
    if is_word(name) && name != "fn" && name != "unsafe" {
        module.names.entry(name.into()).or_default().push(Name::Item);
    }
}

/// Notes the path or the name that begins here; the number of tokens it has.
fn mention(module: &mut Module, tokens: &[&str], at: usize) -> usize {
    let before = if at > 0 { tokens[at - 1] } else { "" };
    let mut path = vec![tokens[at].to_string()];
    while tokens.get(at + 2 * path.len() - 1) == Some(&"::") {
        match tokens.get(at + 2 * path.len()) {
            Some(token) if is_word(token) => path.push(token.to_string()),
            _ => break,
        }
    }
    let length = 2 * path.len() - 1;
    let next = tokens.get(at + length).copied().unwrap_or("");
    // `pub(in crate::a)` needs nothing, and neither does the end of a path whose beginning is a type.
    let visibility = before == "in" && at >= 3 && tokens[at - 3] == "pub";
    if before == "." || before == "::" || visibility {
        return length;
    }
    if path.len() > 1 {
        module.paths.insert(path);
    } else if tokens[at].starts_with(char::is_uppercase) || matches!(next, "(" | "!" | "::") {
        module.words.insert(path.remove(0));
    }
    length
}

/// Notes the names that the tree of a `use` binds.
fn import(module: &mut Module, prefix: &mut Vec<String>, tree: &[&str], public: bool) {
    let before = prefix.len();
    let mut at = 0;
    while at < tree.len() {
        match tree[at] {
            "::" => {}
            "{" => {
                let end = closing(tree, at);
                for branch in branches(&tree[at + 1..end]) {
                    import(module, prefix, branch, public);
                }
                prefix.truncate(before);
                return;
            }
            "*" => {
                module.globs.push(prefix.clone());
                prefix.truncate(before);
                return;
            }
            "as" => break,
            word => prefix.push(word.into()),
        }
        at += 1;
    }
    if prefix.last().is_some_and(|last| last == "self") && prefix.len() > 1 {
        prefix.pop();
    }
    let name = if tree.get(at) == Some(&"as") { tree[at + 1] } else { prefix.last().map_or("", |s| s) };
    // A trait imported as `_` has no name, and is needed all the same.
    let name = if name == "_" { format!("_ {}", prefix.join("::")) } else { name.into() };
    module.names.entry(name).or_default().push(Name::Import { path: prefix.clone(), public });
    prefix.truncate(before);
}

/// Splits at the commas that stand outside of braces.
fn branches<'a, 'b>(tokens: &'b [&'a str]) -> Vec<&'b [&'a str]> {
    let mut depth = 0;
    let outside = |token: &&str| {
        match *token {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        depth == 0 && *token == ","
    };
    tokens.split(outside).filter(|branch| !branch.is_empty()).collect()
}

/// The place of the bracket that closes the one at `open`.
fn closing(tokens: &[&str], open: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match *token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    tokens.len() - 1
}

/// Leaves out the items that only tests have.
fn without_tests<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    let (mut at, mut kept) = (0, vec![]);
    while at < tokens.len() {
        if !(tokens[at] == "#" && tokens.get(at + 1) == Some(&"[")) {
            kept.push(tokens[at]);
            at += 1;
            continue;
        }
        let end = closing(tokens, at + 1);
        let attribute = &tokens[at..=end];
        at = end + 1;
        let tests = attribute[2] == "cfg" && attribute.contains(&"test") && !attribute.contains(&"not");
        if !tests {
            kept.extend(attribute);
            continue;
        }
        while at < tokens.len() {
            match tokens[at] {
                ";" | "," => {
                    at += 1;
                    break;
                }
                ")" | "]" | "}" => break,
                "{" => {
                    at = closing(tokens, at) + 1;
                    break;
                }
                "(" | "[" => at = closing(tokens, at) + 1,
                _ => at += 1,
            }
        }
    }
    kept
}

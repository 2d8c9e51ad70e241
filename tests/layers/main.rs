//! The rules of the house, checked on the sources as they stand: no two files need each other, nothing names
//! a layer above its own, and so on. Each rule says in its complaints which file breaks it, and how.

mod house;
mod lexer;
mod modules;
mod needs;
mod planted;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Rules that today's sources break. The list must become empty; a rule that is kept may not stand here.
const NOT_YET: &[&str] = &[];

/// Sources by their path from the repository's root.
type Tree = BTreeMap<String, String>;

/// Where sources are. What is not there, is left out.
const ROOTS: &[&str] = &[
    "src",
    "kernels",
    "tests",
    "benches",
    "build",
    "build.rs",
    "scripts",
    "examples",
    "recipes",
    "docs",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
];

/// The endings of files that people write by hand.
const ENDINGS: &[&str] = &["rs", "cu", "cuh", "cpp", "c", "h", "py", "sh", "toml", "md"];

/// Reads the sources below `path`.
fn read(root: &Path, path: &str, tree: &mut Tree) {
    let full = root.join(path);
    if full.is_dir() {
        for entry in fs::read_dir(full).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            read(root, &format!("{path}/{name}"), tree);
        }
    } else if ENDINGS.iter().any(|ending| path.ends_with(&format!(".{ending}"))) && full.exists() {
        tree.insert(path.into(), fs::read_to_string(full).unwrap());
    }
}

fn sources() -> Tree {
    let (root, mut tree) = (Path::new(env!("CARGO_MANIFEST_DIR")), Tree::new());
    ROOTS.iter().for_each(|path| read(root, path, &mut tree));
    tree
}

/// Asserts that a rule has nothing to complain of, or that it stands in [`NOT_YET`] for a reason.
#[track_caller]
fn check(rule: &str, complaints: &[String]) {
    let list = complaints.join("\n");
    if NOT_YET.contains(&rule) {
        assert!(!complaints.is_empty(), "{rule}: the rule is kept; strike it from NOT_YET");
        println!("{list}");
    } else {
        assert!(complaints.is_empty(), "{rule}:\n{list}");
    }
}

#[test]
fn no_two_files_need_each_other() {
    check("rings", &needs::rings(&needs::of(&sources())));
}

#[test]
fn nothing_needs_a_layer_above_its_own() {
    let tree = sources();
    check("layers", &house::upward(&tree, &needs::of(&tree)));
}

#[test]
fn only_one_header_has_intrinsics() {
    check("intrinsics", &house::intrinsics(&sources()));
}

#[test]
fn lines_end_where_rustfmt_says() {
    check("columns", &house::columns(&sources()));
}

#[test]
fn files_have_one_subject() {
    check("length", &house::length(&sources()));
}

#[test]
fn documents_that_are_cited_are_there() {
    check("documents", &house::documents(&sources()));
}

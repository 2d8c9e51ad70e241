//! The house's rules beside rings: layers, the one header of intrinsics, lines, files, and documents that are
//! cited.

use super::Tree;
use super::lexer::{is_word, tokens};
use super::needs::Needs;

/// The layers from the top down; a file belongs to the longest path that it begins with.
const LAYERS: &[&[&str]] = &[
    &["src/bin/"],
    &["src/lib.rs", "src/run/"],
    &["src/records/"],
    &["src/train/"],
    &["src/settings/"],
    &["src/mask/", "src/checkpoint/", "src/distributed/", "src/optim/"],
    &["src/graph/"],
    &["src/ops/"],
    &["src/device/"],
    &["src/data/", "src/rng.rs"],
];

/// The layer of a file of `src`, counted from the top.
fn layer(file: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.iter().any(|path| file.starts_with(path)))
}

/// Files of `src` that need one of a higher layer, and folders that belong to no layer.
pub fn upward(tree: &Tree, needs: &Needs) -> Vec<String> {
    let of_src = |file: &&String| file.starts_with("src/") && file.ends_with(".rs");
    let folder = |file: &String| file.split('/').take(2).collect::<Vec<_>>().join("/");
    let mut found: Vec<_> =
        tree.keys().filter(of_src).filter(|file| layer(file).is_none()).map(folder).collect();
    found.dedup();
    found.iter_mut().for_each(|folder| *folder += " belongs to no layer");
    for (file, needed) in needs {
        for (other, names) in needed {
            if let (Some(own), Some(above)) = (layer(file), layer(other))
                && above < own
            {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                found.push(format!("{file} -> {other} ({})", names.join(", ")));
            }
        }
    }
    found
}

/// The header of what CUDA alone has, and its twin for the host's compiler, which it includes.
const HEADERS: [&str; 2] = ["kernels/include/device.cuh", "kernels/include/emulated.cuh"];

/// Words of CUDA's that say where a thing is or how it is called, and are no intrinsics.
const QUALIFIERS: &[&str] = &[
    "__align__",
    "__constant__",
    "__device__",
    "__forceinline__",
    "__global__",
    "__grid_constant__",
    "__launch_bounds__",
    "__restrict__",
    "__shared__",
];

/// Kernels and headers with an intrinsic, an atomic or inline PTX that is not in the one header for them.
pub fn intrinsics(tree: &Tree) -> Vec<String> {
    let mut found = vec![];
    for (file, text) in tree {
        if !file.starts_with("kernels/") || HEADERS.contains(&file.as_str()) {
            continue;
        }
        for token in tokens(text).into_iter().filter(|token| is_word(token)) {
            let intrinsic = token.starts_with("__") && !QUALIFIERS.contains(&token);
            let atomic =
                token.strip_prefix("atomic").is_some_and(|rest| rest.starts_with(char::is_uppercase));
            if intrinsic || atomic || token == "asm" {
                found.push(format!("{file}: {token}"));
            }
        }
    }
    found
}

/// Columns of a line, as in `rustfmt.toml`.
const COLUMNS: usize = 110;

/// Lines that are too long. An address may be as long as it is, and documents for readers break lines as they
/// like.
pub fn columns(tree: &Tree) -> Vec<String> {
    let mut found = vec![];
    for (file, text) in tree {
        for (i, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS && !line.contains("://") && !file.ends_with(".md") {
                found.push(format!("{file}:{}: {columns} columns", i + 1));
            }
        }
    }
    found
}

/// Lines of a file of `src`.
const LINES: usize = 400;

/// Files of `src` that are too long.
pub fn length(tree: &Tree) -> Vec<String> {
    let long = |(file, text): (&String, &String)| {
        let lines = text.lines().count();
        (file.starts_with("src/") && lines > LINES).then(|| format!("{file}: {lines} lines"))
    };
    tree.iter().filter_map(long).collect()
}

/// Documents that the repository does not have. This file alone may name them.
const ABSENT: [&str; 2] = ["SPEC", "DESIGN"];

/// Lines that cite a document that is not there. A constant may be called so.
pub fn documents(tree: &Tree) -> Vec<String> {
    let mut found = vec![];
    for (file, text) in tree.iter().filter(|(file, _)| !file.starts_with("tests/layers/")) {
        let tokens = tokens(text);
        let absent = |word| ABSENT.contains(&word) && !(file.ends_with(".rs") && tokens.contains(&word));
        for (i, line) in text.lines().enumerate() {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words.any(absent) {
                found.push(format!("{file}:{}: {}", i + 1, line.trim()));
            }
        }
    }
    found
}

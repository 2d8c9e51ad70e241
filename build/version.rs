//! The version that `-V` prints: the package's, with the commit where git knows it.

use std::env;
use std::path::Path;
use std::process::Command;

/// What git prints, if there is git and it can tell.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_string()).filter(|text| !text.is_empty())
}

/// Passes `FISHMASK_VERSION` to the programs. Builds for development leave the commit out, as each commit
/// would compile everything anew.
pub fn pass() {
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // Of another project's folder git would tell another commit.
    let own = git(&["ls-files", "--error-unmatch", "build.rs"]).is_some();
    let commit = git(&["rev-parse", "--short", "HEAD"]).filter(|_| own && release);
    println!(
        "cargo::rustc-env=FISHMASK_VERSION={}",
        match &commit {
            Some(commit) => format!("{version} ({commit})"),
            None => version,
        }
    );
    if commit.is_some() {
        let name = git(&["symbolic-ref", "HEAD"]);
        for file in ["HEAD"].into_iter().chain(name.as_deref()) {
            let path = git(&["rev-parse", "--git-path", file]).filter(|path| Path::new(path).exists());
            path.iter().for_each(|path| println!("cargo::rerun-if-changed={path}"));
        }
    }
}

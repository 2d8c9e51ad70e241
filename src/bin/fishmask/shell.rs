//! Completions and man pages, made from the commands themselves.

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

/// `completions` and `man`.
pub fn commands() -> [Command; 2] {
    [
        Command::new("completions")
            .about("Print a shell's completions, for its startup file")
            .arg(Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell)))
            .after_help(
                "Examples:\n  fishmask completions bash > /etc/bash_completion.d/fishmask\n  \
                 fishmask completions fish > ~/.config/fish/completions/fishmask.fish",
            ),
        Command::new("man")
            .about("Print the man page, or write a page for each subcommand into a folder")
            .arg(Arg::new("folder").value_name("DIR").value_parser(value_parser!(PathBuf)))
            .after_help("Examples:\n  fishmask man | man -l -\n  fishmask man /usr/local/share/man/man1"),
    ]
}

/// Does what one of [`commands`] says, for the whole program.
pub fn run(name: &str, matches: &ArgMatches, mut program: Command) -> anyhow::Result<ExitCode> {
    let mut page = vec![];
    if name == "completions" {
        if let Some(shell) = matches.get_one::<Shell>("shell") {
            clap_complete::generate(*shell, &mut program, "fishmask", &mut page);
        }
    } else if let Some(folder) = matches.get_one::<PathBuf>("folder") {
        let written = clap_mangen::generate_to(program, folder);
        written.with_context(|| format!("{}: cannot write the man pages", folder.display()))?;
    } else {
        clap_mangen::Man::new(program).render(&mut page)?;
    }
    // In one piece, which a reader that has seen enough may refuse.
    stdout().write_all(&page)?;
    Ok(ExitCode::SUCCESS)
}

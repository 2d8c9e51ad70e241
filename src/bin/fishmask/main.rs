//! fishmask: trains networks with fixed sparse masks, evaluates them, chooses masks and looks after
//! checkpoints.

mod checkpoint;
mod distributed;
mod evaluate;
mod finish;
mod images;
mod mask;
mod refusal;
mod resume;
mod shell;
mod source;
mod stop;
mod train;

use std::process::ExitCode;

use clap::Command;

/// The program with all its subcommands.
fn command() -> Command {
    Command::new("fishmask")
        .about("Train networks with fixed sparse masks, evaluate them, and look after their checkpoints")
        .version(env!("FISHMASK_VERSION"))
        .propagate_version(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(train::command("train"))
        .subcommand(evaluate::command())
        .subcommand(mask::command())
        .subcommand(checkpoint::command())
        .subcommands(shell::commands())
        .after_help(
            "Examples:\n  fishmask train --mask fisher --keep-ratio 0.02 --run-dir runs/masked\n  \
             fishmask evaluate runs/masked",
        )
}

fn main() -> ExitCode {
    let matches = command().get_matches();
    match matches.subcommand() {
        Some(("train", matches)) => train::run(matches),
        Some(("evaluate", matches)) => finish::finish(evaluate::run(matches)),
        Some(("mask", matches)) => finish::finish(mask::run(matches)),
        Some(("checkpoint", matches)) => finish::finish(checkpoint::run(matches)),
        Some((name, matches)) => finish::finish(shell::run(name, matches, command())),
        None => ExitCode::FAILURE,
    }
}

//! The command that goes on with a run.

use std::env;
use std::path::{Path, PathBuf};

/// The command line that this program was started by, made to go on with the run in `folder`, quoted for a
/// shell; of several processes with the `mpirun` that starts as many.
pub fn command(folder: &Path, ranks: Option<usize>) -> String {
    let arguments: Vec<String> =
        env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let arguments = resumed(&arguments, &folder.to_string_lossy());
    let line = shlex::try_join(arguments.iter().map(String::as_str)).unwrap_or_default();
    ranks.map_or(line.clone(), |ranks| format!("mpirun -n {ranks} {line}"))
}

/// The arguments that go on with the run in `folder`, of those that began it or went on with it.
fn resumed(arguments: &[String], folder: &str) -> Vec<String> {
    let is = |argument: &String, flag: &str| {
        argument == flag || argument.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='))
    };
    // Both do as they are what is to be done.
    if arguments.iter().any(|argument| is(argument, "--resume")) {
        return arguments.to_vec();
    }
    let (mut kept, mut rest) = (vec![], arguments.iter());
    while let Some(argument) = rest.next() {
        if is(argument, "--run-dir") {
            if argument == "--run-dir" {
                rest.next();
            }
            continue;
        }
        kept.push(argument.clone());
    }
    kept.extend(["--resume".to_string(), folder.to_string()]);
    kept
}

/// A path whose `~` stands for the user's home: a shell leaves it as it is in `--run-dir=~/runs`.
pub fn at_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_goes_on_with_the_run_and_can_be_pasted() {
        for (begun, resumed_by) in [
            (
                "train --lr 0.1 --run-dir 'my run' --data-dir /d",
                "train --lr 0.1 --data-dir /d --resume 'my run'",
            ),
            (
                "fishmask train --run-dir='my run' --set 'a=b c'",
                "fishmask train --set 'a=b c' --resume 'my run'",
            ),
            ("train", "train --resume 'my run'"),
            ("train --run-dir 'my run' --resume auto", "train --run-dir 'my run' --resume auto"),
            ("train --resume 'my run' --offline", "train --resume 'my run' --offline"),
        ] {
            let arguments = shlex::split(begun).unwrap();
            let line = resumed(&arguments, "my run");
            assert_eq!(shlex::try_join(line.iter().map(String::as_str)).unwrap(), resumed_by);
        }
    }

    #[test]
    fn a_tilde_at_the_beginning_is_home() {
        let home = env::home_dir().unwrap();
        assert_eq!(at_home(Path::new("~/runs/a")), home.join("runs/a"));
        for path in ["runs/~/a", "~other/a", "/a", "a"] {
            assert_eq!(at_home(Path::new(path)), Path::new(path));
        }
    }
}

//! How a program ends.

use std::io::Write;
use std::process::ExitCode;

/// Tells the user what should be known of the settings, a line each.
pub fn tell(notes: &[String]) {
    notes.iter().for_each(|note| eprintln!("{note}"));
}

/// Ends a program: its own code, or 1 and one line with what went wrong.
pub fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        let io =
            |cause: &(dyn std::error::Error + 'static)| Some(cause.downcast_ref::<std::io::Error>()?.kind());
        if error.chain().filter_map(io).any(|kind| kind == std::io::ErrorKind::BrokenPipe) {
            // The reader, `head` say, has seen enough: end as SIGPIPE would have it, in silence.
            return ExitCode::from(128 + 13);
        }
        let mut line = String::new();
        // A message often tells its cause as well; it is not told twice.
        for cause in error.chain().map(ToString::to_string) {
            if !line.contains(&cause) {
                line = if line.is_empty() { cause } else { format!("{line}: {cause}") };
            }
        }
        // In one piece, so that what others write to the same stream comes before or after it.
        let _ = std::io::stderr().write_all(format!("error: {line}\n").as_bytes());
        ExitCode::FAILURE
    })
}

//! What `config.json` says of each start of a run.

use crate::checkpoint::Origin;
use crate::data::Set;
use crate::device::host;
use crate::optim::TrainingBackend;
use crate::settings::{Session, now};

/// A session that begins now, in this process.
pub(super) fn begin<B: TrainingBackend>(backend: &B, set: &Set, origin: Origin) -> Session {
    // Only an argument with a zero byte cannot be quoted, and no system passes one.
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let command = shlex::try_join(arguments.iter().map(String::as_str)).unwrap_or_default();
    let device = match host::processor() {
        Some(model) => format!("{} on {model}", backend.device()),
        None => backend.device(),
    };
    Session {
        version: env!("FISHMASK_VERSION").into(),
        command,
        host: host(),
        device,
        threads: rayon::current_num_threads(),
        set: set.name.into(),
        origin,
        began: now(),
        ended: None,
    }
}

/// The machine's name.
pub(super) fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

//! One writer to a run at a time.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::Path;

use super::{Error, Problem};

/// The file in a run's folder that its writer locks.
pub const FILE: &str = ".lock";

/// The right to write to a run. The system takes it back when the program ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    file: File,
}

impl RunLock {
    /// Locks a run's folder, and leaves this process's number there for others to tell.
    ///
    /// Where the file system knows no locks, programs are not kept apart.
    ///
    /// # Errors
    /// When another process holds the lock, or the folder cannot be written to.
    pub fn take(run: &Path) -> Result<RunLock, Error> {
        let path = run.join(FILE);
        let open = File::options().create(true).append(true).open(&path);
        let mut file = open.map_err(Error::io(&path, "write it"))?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            return Err(Error::new(run, Problem::InUse { pid }));
        }
        // The number is for a message alone: a full disk is told where it matters.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(RunLock { file })
    }
}

impl Drop for RunLock {
    /// Unlocks the file rather than closing it alone: a child process that is being started at this moment
    /// has the open file too, until it runs its own program.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_writer_is_told_of_the_first() {
        let run = tempfile::tempdir().unwrap();
        let first = RunLock::take(run.path()).unwrap();
        let text = RunLock::take(run.path()).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(text.contains(&format!("another process is writing to this run (pid {pid})")), "{text}");
        drop(first);
        RunLock::take(run.path()).unwrap();
        let absent = run.path().join("absent");
        assert!(RunLock::take(&absent).unwrap_err().to_string().contains("absent"));
    }
}

//! What shows a run may fail, and the run goes on.

use std::io::{Write, stderr};

use crate::train::{Error, Event, Listener};

/// A listener that only shows what happens. When it fails, as the table does whose terminal is gone, one line
/// on the error stream says so, and it is told nothing more.
pub struct Shown<L> {
    listener: Option<L>,
}

impl<L: Listener> Shown<L> {
    /// Shows by this listener.
    pub fn new(listener: L) -> Self {
        Shown { listener: Some(listener) }
    }
}

impl<L: Listener> Listener for Shown<L> {
    fn hear(&mut self, event: &Event) -> Result<(), Error> {
        let heard = self.listener.as_mut().map_or(Ok(()), |listener| listener.hear(event));
        if let Err(error) = heard {
            self.listener = None;
            // The error stream may be gone as well.
            let _ = writeln!(stderr(), "{error}; the run goes on without it");
        }
        Ok(())
    }
}

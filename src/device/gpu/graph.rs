//! Work recorded by capturing the stream.

use std::rc::Rc;

use cudarc::driver::result;
use cudarc::driver::sys::{CUgraphExec, CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::context::Context;
use crate::device::driver::Error;

/// Recorded launches.
pub struct Graph {
    context: Rc<Context>,
    handle: CUgraphExec,
}

/// Begins to record launches.
pub fn begin(context: &Context) -> Result<(), Error> {
    context.not_recording("record")?;
    // A kernel's first launch may load its code, and buffers may come and go: relaxed allows both. What would
    // conflict is refused by `not_recording`.
    let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
    // SAFETY: the stream is kept by the context.
    let begin = || unsafe { result::stream::begin_capture(context.stream, mode) };
    context.bind().and_then(|()| begin()).map_err(|error| context.error("record", error))?;
    context.recording.set(true);
    Ok(())
}

impl Graph {
    /// Ends the recording. Whatever comes of it, the stream is free again.
    pub fn end(context: &Rc<Context>) -> Result<Graph, Error> {
        if !context.recording.get() {
            let reason = "none was begun".into();
            return Err(Error::Device { device: context.label.clone(), action: "end a recording", reason });
        }
        let failed = |error| context.error("record", error);
        let template = context.end_capture().map_err(failed)?;
        // SAFETY: the graph has just been captured.
        let handle = unsafe { result::graph::instantiate(template.0, CUgraphInstantiate_flags(0)) };
        Ok(Graph { context: context.clone(), handle: handle.map_err(failed)? })
    }

    /// Runs the launches.
    pub fn replay(&self) -> Result<(), Error> {
        let context = &self.context;
        context.not_recording("replay recorded work")?;
        // SAFETY: graph and stream are kept until dropped.
        let launch = || unsafe { result::graph::launch(self.handle, context.stream) };
        let launched = context.bind().and_then(|()| launch());
        launched.map_err(|error| context.error("replay recorded work", error))?;
        context.last.set(None);
        Ok(())
    }
}

impl Drop for Graph {
    /// Waits for the graph's work. Errors are passed over: after a fault every call fails.
    fn drop(&mut self) {
        self.context.settle();
        // SAFETY: made in `end`, and not running.
        let _ = unsafe { result::graph::exec_destroy(self.handle) };
    }
}

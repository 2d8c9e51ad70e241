//! The progress bar of the epoch that runs.

use std::fmt::Write;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressState, ProgressStyle};

use crate::train::{Error, Event, Listener};

/// A bar on the error stream with the epoch's images, images/s and time left. It must hear events before the table,
/// whose rows then begin on a clear line.
#[derive(Debug)]
pub struct Bar {
    target: fn() -> ProgressDrawTarget,
    epochs: u32,
    bar: Option<ProgressBar>,
}

impl Bar {
    /// A bar that draws only if the error stream is a terminal.
    pub fn stderr() -> Self {
        // indicatif draws nothing on what is not a terminal.
        Bar { target: ProgressDrawTarget::stderr, epochs: 0, bar: None }
    }

    fn begin(&self, epoch: u32, images: u64, done: u64) -> Option<ProgressBar> {
        let rate = |state: &ProgressState, out: &mut dyn Write| {
            // Only a broken line could come of an error here.
            let _ = write!(out, "{:.0} images/s", state.per_sec());
        };
        let template = format!(
            "epoch {epoch}/{} [{{wide_bar:.cyan/dim}}] {{pos}}/{{len}} images, {{rate}}, {{eta}} left",
            self.epochs
        );
        let style =
            ProgressStyle::with_template(&template).ok()?.with_key("rate", rate).progress_chars("=> ");
        let bar = ProgressBar::with_draw_target(Some(images), (self.target)()).with_style(style);
        let bar = bar.with_finish(ProgressFinish::AndClear).with_position(done);
        bar.reset_eta();
        Some(bar)
    }
}

impl Listener for Bar {
    fn hear(&mut self, event: &Event) -> Result<(), Error> {
        match *event {
            Event::Started { config, .. } => self.epochs = config.train.epochs,
            Event::Step { epoch, step, steps, batch } => {
                let images = |steps: u32| u64::from(steps) * batch as u64;
                if self.bar.is_none() {
                    self.bar = self.begin(epoch, images(steps), images(step));
                }
                if let Some(bar) = &self.bar {
                    bar.set_position(images(step));
                }
            }
            Event::Epoch(_) | Event::Ended { .. } => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
            }
            Event::Merge(_) | Event::Mask(_) | Event::Checkpoint(_) => {}
        }
        Ok(())
    }
}

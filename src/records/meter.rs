//! How far a long piece of work is.

use std::fmt;
use std::io::{Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Silence after which a line says that the work goes on, where there is no terminal for a bar.
const PULSE: Duration = Duration::from_secs(60);

/// Shows how far one piece of work after another is, on the error stream: by a bar on a terminal, elsewhere
/// by a line a minute.
pub struct Meter {
    target: fn() -> ProgressDrawTarget,
    out: Box<dyn Write>,
    pulse: Duration,
    /// When something was last shown where there is no terminal.
    shown: Instant,
    work: Option<Measured>,
}

/// A piece of work.
struct Measured {
    what: String,
    unit: &'static str,
    total: u64,
    /// What was done before it began here.
    before: u64,
    began: Instant,
    bar: ProgressBar,
}

impl Meter {
    /// A meter on the error stream.
    pub fn stderr() -> Self {
        // indicatif draws nothing on what is not a terminal.
        Meter::new(ProgressDrawTarget::stderr, Box::new(stderr()), PULSE)
    }

    /// A meter that writes a line to `out` after each `pulse`.
    pub fn lines(out: impl Write + 'static, pulse: Duration) -> Self {
        Meter::new(ProgressDrawTarget::hidden, Box::new(out), pulse)
    }

    fn new(target: fn() -> ProgressDrawTarget, out: Box<dyn Write>, pulse: Duration) -> Self {
        Meter { target, out, pulse, shown: Instant::now(), work: None }
    }

    /// Shows that `done` of `total` units of the work `what` are done. Other work than before begins anew.
    pub fn show(&mut self, what: &str, unit: &'static str, done: u64, total: u64) {
        if self.work.as_ref().is_none_or(|work| work.what != what || work.total != total) {
            self.clear();
            self.work = Some(Measured::begin(what.into(), unit, done, total, (self.target)()));
        }
        let Some(work) = &self.work else { return };
        work.bar.set_position(done);
        if work.bar.is_hidden() && self.shown.elapsed() >= self.pulse {
            // What shows may fail: the work goes on.
            let _ = writeln!(self.out, "{}", work.line(done));
            self.shown = Instant::now();
        }
    }

    /// Clears the bar away, for a line that is about to be shown.
    pub fn clear(&mut self) {
        if let Some(work) = self.work.take() {
            work.bar.finish_and_clear();
        }
    }

    /// Says that a line has been shown elsewhere, so that no other is needed for a while.
    pub fn rest(&mut self) {
        self.shown = Instant::now();
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Meter").field("pulse", &self.pulse).finish_non_exhaustive()
    }
}

impl Measured {
    fn begin(
        what: String,
        unit: &'static str,
        before: u64,
        total: u64,
        target: ProgressDrawTarget,
    ) -> Measured {
        let rate = move |state: &ProgressState, out: &mut dyn fmt::Write| {
            // An error here could only leave a broken line.
            let _ = write!(out, "{:.0} {unit}/s", state.per_sec());
        };
        let template =
            format!("{{msg}} [{{wide_bar:.cyan/dim}}] {{pos}}/{{len}} {unit}, {{rate}}, {{eta}} left");
        let bar = ProgressBar::with_draw_target(Some(total), target).with_message(what.clone());
        let bar = match ProgressStyle::with_template(&template) {
            Ok(style) => bar.with_style(style.with_key("rate", rate).progress_chars("=> ")),
            Err(_) => bar,
        };
        let bar = bar.with_position(before);
        bar.reset_eta();
        Measured { what, unit, total, before, began: Instant::now(), bar }
    }

    /// What there is to tell without a bar.
    fn line(&self, done: u64) -> String {
        let Measured { what, unit, total, before, began, .. } = self;
        let rate = done.saturating_sub(*before) as f64 / began.elapsed().as_secs_f64();
        let left = match rate > 0.0 {
            true => Duration::try_from_secs_f64(total.saturating_sub(done) as f64 / rate),
            false => return format!("{what}: {done}/{total} {unit}"),
        };
        let left = left.map_or("unknown time".into(), |left| HumanDuration(left).to_string());
        format!("{what}: {done}/{total} {unit}, {rate:.0} {unit}/s, {left} left")
    }
}

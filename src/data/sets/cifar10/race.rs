//! Fetching the data set from several sources, of which the first to give it wins.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::find::{find, packed};
use super::layout::Found;
use super::read::read;
use super::source::Source;
use crate::data::background::{TICK, check};
use crate::data::place::Place;
use crate::data::{Dataset, Error, Options, Patience, Progress};

/// The longest that sources which are no longer wanted may take to end. One that waits for its server is left
/// behind; it makes no file once the folder is closed.
const GRACE: Duration = Duration::from_millis(500);

/// Fetches the data set to the data folder, `place`.
///
/// The first source begins. The next one begins as well when the last one begun stays too slow, and in its
/// stead when that fails. The first to bring an archive that reads well wins; the others are stopped, and all
/// that they leave is removed. Where none wins, the beginning of the publisher's archive is kept for the next
/// time.
///
/// # Errors
/// [`Error::Unavailable`] when all have failed, [`Error::Interrupted`], and [`Error::Io`] for the folder.
pub(super) fn race(
    options: &Options,
    place: &Arc<Place>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Dataset, Error> {
    let sources = Source::all(options);
    let (sender, events) = mpsc::channel();
    let race = Race {
        options,
        place,
        sources: &sources,
        sender,
        waiting: (0..sources.len()).collect(),
        running: 0,
        last: None,
        reasons: vec![],
    };
    let outcome = race.run(&events, progress);
    place.close();
    let since = Instant::now();
    // Every source that still runs holds a sender.
    while since.elapsed() < GRACE && !matches!(events.recv_timeout(TICK), Err(RecvTimeoutError::Disconnected))
    {
    }
    let winner = outcome.as_ref().ok().map(|(_, found)| &found.path);
    for source in &sources {
        // The winner's archive stays where the data set could not be stored otherwise.
        if (winner != Some(&source.target) || is_stored(&options.data_dir))
            && let Err(error) = source.clean(winner.is_none())
        {
            progress(Progress::Note(error.to_string()));
        }
    }
    place.remove_if_empty();
    outcome.map(|(dataset, _)| dataset)
}

/// Whether the data set is in a folder as it is kept there.
fn is_stored(dir: &Path) -> bool {
    find(dir).is_ok_and(|found| found.is_some_and(|found| found.is_stored_form()))
}

/// What a source tells, by its number.
enum Event {
    Told(usize, Progress),
    Ended(usize, Result<(), Error>),
}

struct Race<'a> {
    options: &'a Options,
    place: &'a Arc<Place>,
    sources: &'a [Source],
    sender: Sender<Event>,
    /// Sources that have not begun.
    waiting: VecDeque<usize>,
    /// How many are on their way.
    running: usize,
    /// The source that began last, unless it has failed.
    last: Option<(usize, Pace)>,
    /// Why sources have failed.
    reasons: Vec<String>,
}

impl<'a> Race<'a> {
    fn run(
        mut self,
        events: &Receiver<Event>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Dataset, Found), Error> {
        self.begin_next()?;
        while self.running > 0 {
            check(&self.options.stop)?;
            match events.recv_timeout(TICK) {
                Ok(Event::Told(i, told)) => {
                    if let Some((_, pace)) = self.last.as_mut().filter(|(last, _)| *last == i) {
                        pace.hear(&told);
                    }
                    progress(told);
                }
                Ok(Event::Ended(i, outcome)) => {
                    self.running -= 1;
                    match outcome.and_then(|()| self.read(i, progress)) {
                        Ok(won) => return Ok(won),
                        Err(error @ (Error::Io { .. } | Error::Interrupted { .. })) => return Err(error),
                        Err(error) => self.failed(i, &error, progress)?,
                    }
                }
                Err(_) => {}
            }
            let slow =
                |(last, pace): &mut (usize, Pace)| pace.is_slow(&self.options.patience).then_some(*last);
            if let Some(last) = self.last.as_mut().and_then(slow)
                && let Some(next) = self.begin_next()?
            {
                let Patience { rate, time } = self.options.patience;
                let (rate, time) = (rate / 1e6, time.as_secs_f64());
                progress(Progress::Note(format!(
                    "{}: below {rate} MB/s for {time} s; trying {} as well",
                    self.sources[last].name(),
                    next.short_name()
                )));
            }
        }
        Err(Error::Unavailable { folder: self.options.data_dir.clone(), tried: self.reasons.join("; ") })
    }

    /// Reads what a source has brought, which is accepted if it is the data set.
    fn read(&self, i: usize, progress: &mut dyn FnMut(Progress)) -> Result<(Dataset, Found), Error> {
        let found = packed(&self.sources[i].target)?;
        Ok((read(&found, self.options, progress)?, found))
    }

    /// Notes why a source failed; the next one begins in its stead if it was the last.
    fn failed(&mut self, i: usize, error: &Error, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
        let source = &self.sources[i];
        source.clean(true)?;
        let mut reason = error.to_string();
        if !reason.contains(source.name()) {
            reason = format!("{}: {reason}", source.name());
        }
        if self.last.take_if(|(last, _)| *last == i).is_some()
            && let Some(next) = self.begin_next()?
        {
            progress(Progress::Note(format!("{reason}; trying {}", next.short_name())));
        }
        self.reasons.push(reason);
        Ok(())
    }

    /// Begins the next source, if there is one.
    fn begin_next(&mut self) -> Result<Option<&'a Source>, Error> {
        let Some(i) = self.waiting.pop_front() else { return Ok(None) };
        let (source, place, sender) = (self.sources[i].clone(), self.place.clone(), self.sender.clone());
        // Nobody hears what comes after the end.
        let fetch = move || {
            let outcome = source.fetch(&place, &mut |told| _ = sender.send(Event::Told(i, told)));
            _ = sender.send(Event::Ended(i, outcome));
        };
        thread::Builder::new().name("source".into()).spawn(fetch).map_err(Error::Thread)?;
        self.running += 1;
        self.last = Some((i, Pace::default()));
        Ok(self.sources.get(i))
    }
}

/// The pace of a source, over one stretch of time after another.
struct Pace {
    since: Instant,
    /// Bytes at the stretch's beginning: those that were here before do not count.
    from: Option<u64>,
    bytes: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { since: Instant::now(), from: None, bytes: 0 }
    }
}

impl Pace {
    fn hear(&mut self, told: &Progress) {
        match told {
            Progress::Downloading { bytes, .. } => {
                self.from.get_or_insert(*bytes);
                self.bytes = *bytes;
            }
            // Nothing arrives while what has arrived is looked at.
            _ => *self = Pace::default(),
        }
    }

    /// Whether a stretch as long as patience lasts has ended, and was too slow.
    fn is_slow(&mut self, patience: &Patience) -> bool {
        let seconds = self.since.elapsed().as_secs_f64();
        if seconds < patience.time.as_secs_f64() {
            return false;
        }
        let bytes = self.bytes.saturating_sub(self.from.unwrap_or(self.bytes));
        let slow = (bytes as f64) < patience.rate * seconds;
        if !slow {
            *self = Pace { from: Some(self.bytes), bytes: self.bytes, ..Pace::default() };
        }
        slow
    }
}

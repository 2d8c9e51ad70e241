//! A merge: a reduce-scatter and an all-gather, window by window.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use super::super::{Aggregate, Communicator, Error, add_changes, apply, segment, windows};
use super::Mpi;
use super::messages::Exchange;

const MERGING: &str = "merging";
/// Windows whose parts are on their way at a time, so that the network has work while one is added up and the
/// next is announced.
const AHEAD: usize = 3;

/// Merged parts of a window on their way.
struct Merged {
    window: Range<usize>,
    merged: Rc<Vec<f32>>,
    exchange: Exchange<f32>,
}

impl Mpi {
    /// Merges every rank's values into the base, in rank order.
    pub(super) fn merge_windows(
        &mut self,
        base: &mut [f32],
        how: Aggregate,
        values: &Rc<Vec<f32>>,
    ) -> Result<(), Error> {
        let (size, rank) = (self.size(), self.rank);
        let mut windows = windows(base.len());
        let mut ahead = VecDeque::new();
        let mut before = None;
        loop {
            while ahead.len() < AHEAD
                && let Some(window) = windows.next()
            {
                ahead.push_back((self.scatter(values, &window)?, window));
            }
            let Some((exchange, window)) = ahead.pop_front() else { break };
            let parts = self.wait(MERGING, exchange)?;

            let own = segment(&window, rank, size);
            let base_part = &mut base[own.clone()];
            let mut sum = self.spare.pop().unwrap_or_default();
            sum.clear();
            sum.resize(own.len(), 0.0);
            parts[..rank].iter().for_each(|part| add_changes(&mut sum, part, base_part));
            add_changes(&mut sum, &values[own], base_part);
            parts[rank..].iter().for_each(|part| add_changes(&mut sum, part, base_part));
            apply(base_part, &sum, how, size);
            self.spare.extend(parts);

            sum.copy_from_slice(base_part);
            let merged = self.spread(window, sum)?;
            if let Some(before) = before.replace(merged) {
                self.take(before, base)?;
            }
        }
        before.map_or(Ok(()), |last| self.take(last, base))
    }

    /// Sends each rank its part of a window, and receives this rank's part of all others.
    fn scatter(&mut self, values: &Rc<Vec<f32>>, window: &Range<usize>) -> Result<Exchange<f32>, Error> {
        let size = self.size();
        let own = segment(window, self.rank, size).len();
        let mut exchange = self.exchange()?;
        for other in self.others() {
            let spare = self.spare.pop().unwrap_or_default();
            self.receive_into(MERGING, &mut exchange, other, own, spare)?;
            self.send(MERGING, &mut exchange, other, values, segment(window, other, size))?;
        }
        Ok(exchange)
    }

    /// Sends this rank's merged part of a window to all, and receives theirs.
    fn spread(&mut self, window: Range<usize>, merged: Vec<f32>) -> Result<Merged, Error> {
        let (size, merged) = (self.size(), Rc::new(merged));
        let mut exchange = self.exchange()?;
        for other in self.others() {
            let length = segment(&window, other, size).len();
            let spare = self.spare.pop().unwrap_or_default();
            self.receive_into(MERGING, &mut exchange, other, length, spare)?;
            self.send(MERGING, &mut exchange, other, &merged, 0..merged.len())?;
        }
        Ok(Merged { window, merged, exchange })
    }

    /// Waits for the others' merged parts, and puts them into the base.
    fn take(&mut self, parts: Merged, base: &mut [f32]) -> Result<(), Error> {
        let Merged { window, merged, exchange } = parts;
        let segments = self.wait(MERGING, exchange)?;
        for (other, merged) in self.others().zip(&segments) {
            base[segment(&window, other, self.size())].copy_from_slice(merged);
        }
        self.spare.extend(segments);
        self.spare.extend(Rc::into_inner(merged));
        Ok(())
    }
}

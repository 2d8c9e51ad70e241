//! All workers in one process, one after the other on its device.

use std::ops::Range;
use std::time::Instant;

use super::{Aggregate, Communicator, Error, Traffic, WINDOW, add_changes, apply, expect_length, traffic};

/// The workers of one process.
#[derive(Debug)]
pub struct InProcess {
    size: usize,
    traffic: Traffic,
}

impl InProcess {
    /// So many workers.
    pub fn new(size: usize) -> InProcess {
        InProcess { size, traffic: Traffic::default() }
    }

    fn exchanged(&mut self, began: Instant, bytes: (u64, u64)) {
        self.traffic.exchanging += began.elapsed().as_secs_f64();
        self.traffic.add(bytes);
    }
}

impl Communicator for InProcess {
    fn size(&self) -> usize {
        self.size
    }

    fn local(&self) -> Range<usize> {
        0..self.size
    }

    fn name(&self, rank: usize) -> String {
        format!("worker {rank}")
    }

    fn merge(
        &mut self,
        base: &mut [f32],
        how: Aggregate,
        local: &mut dyn FnMut(usize) -> Result<Vec<f32>, Error>,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let mut sum = vec![0.0; base.len()];
        for rank in 0..self.size {
            let values = local(rank)?;
            expect_length(&values, base.len(), || self.name(rank))?;
            add_changes(&mut sum, &values, base);
        }
        apply(base, &sum, how, self.size);
        self.exchanged(began, traffic::merge(base.len(), 0, self.size));
        Ok(())
    }

    fn all_gather(
        &mut self,
        lengths: &[usize],
        local: &mut dyn FnMut(usize) -> Result<Vec<f32>, Error>,
        visit: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        let began = Instant::now();
        // All are read before the first is visited, as over MPI: a visit may change what `local` reads.
        let mut all = Vec::with_capacity(self.size);
        for (rank, &length) in lengths.iter().enumerate() {
            let values = local(rank)?;
            expect_length(&values, length, || self.name(rank))?;
            all.push(values);
        }
        all.iter().enumerate().for_each(|(rank, values)| visit(rank, values));
        self.exchanged(began, traffic::all_gather(lengths, 0));
        Ok(())
    }

    fn fetch(
        &mut self,
        rank: usize,
        length: usize,
        local: &mut dyn FnMut() -> Result<Vec<f32>, Error>,
        visit: &mut dyn FnMut(&[f32]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let values = local()?;
        expect_length(&values, length, || self.name(rank))?;
        values.chunks(WINDOW).try_for_each(visit)?;
        self.exchanged(began, traffic::fetch(length, rank, 0));
        Ok(())
    }

    fn give(
        &mut self,
        rank: usize,
        length: usize,
        root: &mut dyn FnMut() -> Result<Vec<f32>, Error>,
    ) -> Result<Option<Vec<f32>>, Error> {
        let began = Instant::now();
        let values = root()?;
        expect_length(&values, length, || self.name(0))?;
        let (received, sent) = traffic::fetch(length, rank, 0);
        self.exchanged(began, (sent, received));
        Ok(Some(values))
    }

    fn broadcast(&mut self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        self.traffic.add(traffic::broadcast(bytes.len(), 0, self.size));
        Ok(())
    }

    fn agree(&mut self, _what: &str, _value: &[u8], stop: Option<i32>) -> Result<Option<i32>, Error> {
        self.traffic.add(traffic::agree(self.size));
        Ok(stop)
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.barrier()
    }
}

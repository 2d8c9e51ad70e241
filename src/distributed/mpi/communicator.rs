//! A communicator's operations, as messages.

use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

use super::super::traffic::{AGREEMENT, HEADER};
use super::super::{Aggregate, Communicator, Error, Traffic, WINDOW, expect_length, windows};
use super::{Mpi, start};

const GATHERING: &str = "gathering what interleaved masks keep";
const FETCHING: &str = "fetching a worker's state";
const GIVING: &str = "giving a worker its state";
const BROADCASTING: &str = "broadcasting";
const AGREEING: &str = "waiting for every rank";

impl Communicator for Mpi {
    fn size(&self) -> usize {
        self.hosts.len()
    }

    fn local(&self) -> Range<usize> {
        self.rank..self.rank + 1
    }

    fn name(&self, rank: usize) -> String {
        match self.hosts.get(rank) {
            Some(host) => format!("rank {rank} on {host}"),
            None => format!("rank {rank}"),
        }
    }

    fn merge(
        &mut self,
        base: &mut [f32],
        how: Aggregate,
        local: &mut dyn FnMut(usize) -> Result<Vec<f32>, Error>,
    ) -> Result<(), Error> {
        self.timed(|mpi| {
            let values = local(mpi.rank)?;
            expect_length(&values, base.len(), || mpi.name(mpi.rank))?;
            mpi.merge_windows(base, how, &Rc::new(values))
        })
    }

    fn all_gather(
        &mut self,
        lengths: &[usize],
        local: &mut dyn FnMut(usize) -> Result<Vec<f32>, Error>,
        visit: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        self.timed(|mpi| {
            let rank = mpi.rank;
            let values = Rc::new(local(rank)?);
            expect_length(&values, lengths[rank], || mpi.name(rank))?;
            let mut exchange = mpi.exchange()?;
            for other in mpi.others() {
                let spare = mpi.spare.pop().unwrap_or_default();
                mpi.receive_into(GATHERING, &mut exchange, other, lengths[other], spare)?;
                mpi.send(GATHERING, &mut exchange, other, &values, 0..values.len())?;
            }
            let received = mpi.wait(GATHERING, exchange)?;
            received[..rank].iter().enumerate().for_each(|(rank, values)| visit(rank, values));
            visit(rank, &values);
            (rank + 1..).zip(&received[rank..]).for_each(|(rank, values)| visit(rank, values));
            mpi.spare.extend(received);
            Ok(())
        })
    }

    fn fetch(
        &mut self,
        rank: usize,
        length: usize,
        local: &mut dyn FnMut() -> Result<Vec<f32>, Error>,
        visit: &mut dyn FnMut(&[f32]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.timed(|mpi| {
            let mut exchange = mpi.exchange()?;
            if rank == mpi.rank {
                let values = Rc::new(local()?);
                expect_length(&values, length, || mpi.name(rank))?;
                if rank == 0 {
                    return values.chunks(WINDOW).try_for_each(visit);
                }
                mpi.send(FETCHING, &mut exchange, 0, &values, 0..length)?;
                mpi.wait(FETCHING, exchange)?;
            } else if mpi.rank == 0 {
                for window in windows(length) {
                    mpi.receive(FETCHING, &mut exchange, rank, window.len())?;
                    let received = mpi.wait(FETCHING, exchange)?;
                    received.iter().try_for_each(|values| visit(values))?;
                    exchange = mpi.exchange()?;
                }
            }
            Ok(())
        })
    }

    fn give(
        &mut self,
        rank: usize,
        length: usize,
        root: &mut dyn FnMut() -> Result<Vec<f32>, Error>,
    ) -> Result<Option<Vec<f32>>, Error> {
        self.timed(|mpi| {
            let mut exchange = mpi.exchange()?;
            if mpi.rank == 0 {
                let values = root()?;
                expect_length(&values, length, || mpi.name(0))?;
                if rank == 0 {
                    return Ok(Some(values));
                }
                mpi.send(GIVING, &mut exchange, rank, &Rc::new(values), 0..length)?;
                mpi.wait(GIVING, exchange)?;
                return Ok(None);
            }
            if rank != mpi.rank {
                return Ok(None);
            }
            mpi.receive(GIVING, &mut exchange, 0, length)?;
            Ok(mpi.wait(GIVING, exchange)?.pop())
        })
    }

    fn broadcast(&mut self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        self.timed(|mpi| {
            let mut exchange = mpi.exchange()?;
            if mpi.rank == 0 {
                let header = Rc::new((bytes.len() as u64).to_le_bytes().to_vec());
                let content = Rc::new(std::mem::take(bytes));
                for other in mpi.others() {
                    mpi.send(BROADCASTING, &mut exchange, other, &header, 0..HEADER)?;
                    mpi.send(BROADCASTING, &mut exchange, other, &content, 0..content.len())?;
                }
                mpi.wait(BROADCASTING, exchange)?;
                *bytes = Rc::unwrap_or_clone(content);
                return Ok(());
            }
            mpi.receive::<u8>(BROADCASTING, &mut exchange, 0, HEADER)?;
            let header = mpi.wait(BROADCASTING, exchange)?.concat();
            let length = header.iter().rev().fold(0, |length, &byte| length << 8 | usize::from(byte));
            let mut exchange = mpi.exchange()?;
            mpi.receive(BROADCASTING, &mut exchange, 0, length)?;
            *bytes = mpi.wait(BROADCASTING, exchange)?.concat();
            Ok(())
        })
    }

    fn agree(&mut self, what: &str, value: &[u8], stop: Option<i32>) -> Result<Option<i32>, Error> {
        let began = Instant::now();
        let mut hash = blake3::Hasher::new();
        // A process that is elsewhere in the program differs too.
        hash.update(&(what.len() as u64).to_le_bytes()).update(what.as_bytes()).update(value);
        let mut message = hash.finalize().as_bytes().to_vec();
        message.extend(stop.unwrap_or(0).to_le_bytes());
        let all = self.tell(AGREEING, message, AGREEMENT);
        self.traffic.waiting += began.elapsed().as_secs_f64();
        let all = all?;
        if let Some(other) = all.iter().position(|message| message[..32] != all[0][..32]) {
            return Err(self.differs(what.to_string(), other));
        }
        let signals = all.iter().filter_map(|message| <[u8; 4]>::try_from(&message[32..]).ok());
        Ok(signals.map(i32::from_le_bytes).find(|signal| *signal != 0))
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.barrier()?;
        if let Some(universe) = self.universe.take() {
            start::finish(universe, self.timeout);
        }
        Ok(())
    }
}

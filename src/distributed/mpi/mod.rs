//! One worker a process, on MPI.
//!
//! Merges are a reduce-scatter and an all-gather of our own: each rank adds up one part of the vector, in
//! rank order, so that the bits do not depend on MPI's choice of algorithm, and every rank sends and receives
//! about 2 (W - 1) / W vectors whatever W is. No call blocks once MPI has started: a rank that hangs is
//! noticed by all others after the timeout. Of those, the lowest rank reports at once, and the others only if
//! the job still lives after a moment ([`Error::grace`]).

mod communicator;
mod merge;
mod messages;
mod start;

use std::marker::PhantomData;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytemuck::Pod;
use mpi::environment::Universe;
use mpi::topology::{Communicator as _, SimpleCommunicator};

use super::{Communicator, Error, Traffic};
use messages::{Exchange, Failure, text};
pub use start::abort;

/// How long processes that need not report leave it to the one that must.
const GRACE: Duration = Duration::from_secs(2);
/// A message that is on its way within one machine comes in this time, and to yield may cost a time slice.
const SPIN: Duration = Duration::from_micros(100);
/// Until then the core is left only to those who need it, as other ranks may where cores are few; after that,
/// time is.
const AWAKE: Duration = Duration::from_millis(20);
/// Between looks, after that: little beside a network's delays, and leaves the core to others.
const NAP: Duration = Duration::from_micros(200);

/// This process as one of several that MPI has started.
pub struct Mpi {
    /// Until it is over.
    universe: Option<Universe>,
    world: SimpleCommunicator,
    rank: usize,
    local_rank: usize,
    hosts: Vec<String>,
    timeout: Duration,
    traffic: Traffic,
    /// Buffers for use again: new ones cost as much in page faults as an exchange in copying. A few windows,
    /// or what interleaved masks keep, which is at most one flat vector.
    spare: Vec<Vec<f32>>,
    /// MPI is called by the thread that started it alone.
    thread: PhantomData<*const ()>,
}

impl Mpi {
    /// Joins the job that `mpirun` has started. A process that does not answer for `timeout` is taken for
    /// dead.
    ///
    /// # Errors
    /// When there is no job, MPI is started already, a process does not answer, or one is of another version.
    pub fn start(timeout: Duration) -> Result<Mpi, Error> {
        Mpi::start_as(env!("CARGO_PKG_VERSION"), timeout)
    }

    /// Joins as [`Mpi::start`] does, as a program of this version would.
    ///
    /// # Errors
    /// As [`Mpi::start`].
    pub fn start_as(version: &str, timeout: Duration) -> Result<Mpi, Error> {
        let universe = start::start()?;
        let world = universe.world();
        messages::return_errors(&world);
        let (rank, local_rank) = (world.rank() as usize, start::local_rank(&world));
        let hosts = (0..world.size()).map(|_| "an unknown host".to_string()).collect();
        let (universe, traffic) = (Some(universe), Traffic::default());
        let mut mpi = Mpi {
            universe,
            world,
            rank,
            local_rank,
            hosts,
            timeout,
            traffic,
            spare: vec![],
            thread: PhantomData,
        };
        mpi.greet(version)?;
        mpi.traffic = Traffic::default();
        Ok(mpi)
    }

    /// Tells every process this one's host, and checks that all are of one version.
    fn greet(&mut self, version: &str) -> Result<(), Error> {
        let host = mpi::environment::processor_name().unwrap_or_else(|_| "an unnamed host".to_string());
        let all = self.tell("starting", start::greeting(version, &host), start::GREETING)?;
        let [versions, hosts] = [0, 1]
            .map(|part| all.iter().map(|bytes| start::greeted(bytes)[part].clone()).collect::<Vec<String>>());
        self.hosts = hosts;
        match versions.iter().position(|version| *version != versions[0]) {
            Some(other) => {
                let what = format!("the program's version ({}, not {})", versions[other], versions[0]);
                Err(self.differs(what, other))
            }
            None => Ok(()),
        }
    }

    /// This process's rank among those on its machine, by which it chooses its GPU.
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// Ranks but this one, ascending.
    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.rank;
        (0..self.hosts.len()).filter(move |rank| *rank != own)
    }

    fn exchange<T: Pod>(&self) -> Result<Exchange<T>, Error> {
        match self.universe {
            Some(_) => Ok(Exchange::new(&self.world)),
            None => Err(Error::Start { reason: "it has ended in this process".into() }),
        }
    }

    /// Waits until all messages are complete, and gives what was received.
    fn wait<T: Pod>(&self, doing: &'static str, mut exchange: Exchange<T>) -> Result<Vec<Vec<T>>, Error> {
        let mut since = Instant::now();
        while exchange.open() > 0 {
            if exchange.test().map_err(|failure| self.failed(doing, failure))? > 0 {
                since = Instant::now();
                continue;
            }
            let idle = since.elapsed();
            if idle > self.timeout {
                return Err(self.silent(doing, &exchange.pending()));
            }
            if idle > AWAKE {
                std::thread::sleep(NAP);
            } else if idle > SPIN {
                std::thread::yield_now();
            }
        }
        Ok(exchange.received())
    }

    fn silent(&self, doing: &'static str, pending: &[usize]) -> Error {
        let speaker = (0..self.size()).find(|rank| !pending.contains(rank));
        Error::Silent {
            ranks: pending.iter().map(|&rank| self.name(rank)).collect(),
            seconds: self.timeout.as_secs_f64(),
            doing,
            grace: if speaker == Some(self.rank) { Duration::ZERO } else { GRACE },
        }
    }

    fn differs(&self, what: String, other: usize) -> Error {
        let grace = if self.rank == 0 { Duration::ZERO } else { GRACE };
        Error::Differs { what, root: self.name(0), other: self.name(other), grace }
    }

    fn failed(&self, doing: &'static str, failure: Failure) -> Error {
        match failure {
            Failure::Short { peer, expected, found } => {
                Error::Length { worker: self.name(peer), expected, found }
            }
            // Most often a process has died, which the launcher notices, and reports better.
            Failure::Code { peer, code } => {
                Error::Mpi { doing, reason: format!("{} ({})", text(code), self.name(peer)), grace: GRACE }
            }
        }
    }

    /// Sends part of a vector and counts it.
    fn send<T: Pod>(
        &mut self,
        doing: &'static str,
        exchange: &mut Exchange<T>,
        to: usize,
        values: &Rc<Vec<T>>,
        range: Range<usize>,
    ) -> Result<(), Error> {
        self.traffic.sent += (range.len() * size_of::<T>()) as u64;
        exchange.send(to, values, range).map_err(|failure| self.failed(doing, failure))
    }

    /// Receives a vector and counts it.
    fn receive<T: Pod>(
        &mut self,
        doing: &'static str,
        exchange: &mut Exchange<T>,
        from: usize,
        length: usize,
    ) -> Result<(), Error> {
        self.receive_into(doing, exchange, from, length, vec![])
    }

    fn receive_into<T: Pod>(
        &mut self,
        doing: &'static str,
        exchange: &mut Exchange<T>,
        from: usize,
        length: usize,
        buffer: Vec<T>,
    ) -> Result<(), Error> {
        self.traffic.received += (length * size_of::<T>()) as u64;
        exchange.receive(from, length, buffer).map_err(|failure| self.failed(doing, failure))
    }

    /// Every rank's bytes, this one's included, all of one length.
    fn tell(&mut self, doing: &'static str, bytes: Vec<u8>, length: usize) -> Result<Vec<Vec<u8>>, Error> {
        let mut exchange = self.exchange()?;
        let bytes = Rc::new(bytes);
        for other in self.others() {
            self.receive(doing, &mut exchange, other, length)?;
            self.send(doing, &mut exchange, other, &bytes, 0..length)?;
        }
        let mut all = self.wait(doing, exchange)?;
        all.insert(self.rank, bytes.to_vec());
        Ok(all)
    }

    /// Runs an exchange and counts its time.
    fn timed<R>(&mut self, run: impl FnOnce(&mut Mpi) -> Result<R, Error>) -> Result<R, Error> {
        let began = Instant::now();
        let result = run(self);
        self.traffic.exchanging += began.elapsed().as_secs_f64();
        result
    }
}

impl Drop for Mpi {
    /// A process that has not [finished](Communicator::finish) has failed: leaving MPI would wait for the
    /// others, who wait for it. Its end without makes the launcher end the job.
    fn drop(&mut self) {
        std::mem::forget(self.universe.take());
    }
}

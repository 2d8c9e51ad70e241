//! Messages that do not block: the one place where MPI's C functions are called.
//!
//! The `mpi` crate's own requests drop error codes, and abort the process when their buffers go before they
//! complete, which is what happens when another process hangs. These own their buffers, and leak what is not
//! complete when dropped.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::rc::Rc;

use bytemuck::Pod;
use mpi::datatype::Equivalence;
use mpi::ffi::{self, MPI_Comm, MPI_Request, MPI_Status};
use mpi::raw::AsRaw;
use mpi::topology::SimpleCommunicator;

use crate::distributed::windows;

/// Why a message did not go or come.
#[derive(Debug)]
pub(super) enum Failure {
    /// MPI's error code, of a message to or from a rank.
    Code { peer: usize, code: c_int },
    /// The other process sent fewer values than were expected.
    Short { peer: usize, expected: usize, found: usize },
}

/// Makes MPI return errors instead of ending the process.
pub(super) fn return_errors(world: &SimpleCommunicator) {
    // SAFETY: the communicator lives, and the handler is one of MPI's own.
    unsafe { ffi::MPI_Comm_set_errhandler(world.as_raw(), ffi::RSMPI_ERRORS_RETURN) };
}

/// MPI's text for an error code.
pub(super) fn text(code: c_int) -> String {
    // Longer than MPI_MAX_ERROR_STRING of any MPI: 256, 512 or 1024.
    let mut bytes = [0_u8; 4096];
    let mut length = 0;
    // SAFETY: MPI writes at most MPI_MAX_ERROR_STRING bytes, for which there is room, and the length.
    let found = unsafe { ffi::MPI_Error_string(code, bytes.as_mut_ptr().cast::<c_char>(), &mut length) };
    match usize::try_from(length) {
        Ok(length) if found == 0 => String::from_utf8_lossy(&bytes[..length.min(bytes.len())]).into_owned(),
        _ => format!("error {code}"),
    }
}

/// What MPI reads from or writes to.
enum Buffer<T> {
    Sent { _values: Rc<Vec<T>> },
    Received(Vec<T>),
}

struct Message {
    peer: usize,
    /// Elements expected, of a message that is received.
    length: Option<usize>,
}

/// Messages that are on their way together.
pub(super) struct Exchange<T> {
    world: MPI_Comm,
    /// One a message; MPI nulls those that are complete.
    requests: Vec<MPI_Request>,
    messages: Vec<Message>,
    buffers: Vec<Buffer<T>>,
    open: usize,
    /// Of `test`.
    indices: Vec<c_int>,
    statuses: Vec<MaybeUninit<MPI_Status>>,
}

impl<T: Pod> Exchange<T> {
    pub(super) fn new(world: &SimpleCommunicator) -> Exchange<T> {
        let world = world.as_raw();
        let (requests, messages, buffers) = (vec![], vec![], vec![]);
        Exchange { world, requests, messages, buffers, open: 0, indices: vec![], statuses: vec![] }
    }

    /// Sends part of a vector, in messages of at most a window. Nothing is sent when it is empty.
    pub(super) fn send(
        &mut self,
        to: usize,
        values: &Rc<Vec<T>>,
        range: Range<usize>,
    ) -> Result<(), Failure> {
        let part = &values[range];
        self.buffers.push(Buffer::Sent { _values: Rc::clone(values) });
        for window in windows(part.len()) {
            let bytes: &[u8] = bytemuck::cast_slice(&part[window]);
            // SAFETY: the buffer is held by `self.buffers`, unchanged, until the request is complete, or for
            // ever.
            self.post(to, None, |world, byte, request| unsafe {
                ffi::MPI_Isend(
                    bytes.as_ptr().cast(),
                    bytes.len() as c_int,
                    byte,
                    to as c_int,
                    0,
                    world,
                    request,
                )
            })?;
        }
        Ok(())
    }

    /// Receives a vector that was sent as a whole, into one whose content does not matter. They are given by
    /// [`Exchange::received`] in the order of these calls.
    pub(super) fn receive(&mut self, from: usize, length: usize, mut values: Vec<T>) -> Result<(), Failure> {
        values.resize(length, T::zeroed());
        let start = values.as_mut_ptr();
        self.buffers.push(Buffer::Received(values));
        for window in windows(length) {
            let bytes = window.len() * size_of::<T>();
            // SAFETY: the window lies within the vector, which `self.buffers` holds, untouched, until the
            // request is complete, or for ever; any bytes make values of `T`.
            self.post(from, Some(window.len()), |world, byte, request| unsafe {
                let start = start.add(window.start).cast();
                ffi::MPI_Irecv(start, bytes as c_int, byte, from as c_int, 0, world, request)
            })?;
        }
        Ok(())
    }

    fn post(
        &mut self,
        peer: usize,
        length: Option<usize>,
        call: impl FnOnce(MPI_Comm, ffi::MPI_Datatype, *mut MPI_Request) -> c_int,
    ) -> Result<(), Failure> {
        let mut request = MaybeUninit::uninit();
        match call(self.world, u8::equivalent_datatype().as_raw(), request.as_mut_ptr()) {
            0 => {
                // SAFETY: MPI has set it, for it returned no error.
                self.requests.push(unsafe { request.assume_init() });
                self.messages.push(Message { peer, length });
                self.open += 1;
                Ok(())
            }
            code => Err(Failure::Code { peer, code }),
        }
    }

    /// Messages that are not complete.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Gives MPI a turn, and says how many messages it completed.
    pub(super) fn test(&mut self) -> Result<usize, Failure> {
        let many = self.requests.len();
        self.indices.resize(many, 0);
        self.statuses.resize(many, MaybeUninit::uninit());
        let mut done = 0;
        // SAFETY: requests, indices and statuses have room for `many` each, and requests are active or null.
        let code = unsafe {
            ffi::MPI_Testsome(
                many as c_int,
                self.requests.as_mut_ptr(),
                &mut done,
                self.indices.as_mut_ptr(),
                self.statuses.as_mut_ptr().cast(),
            )
        };
        let in_status = code == ffi::MPI_ERR_IN_STATUS as c_int;
        if code != 0 && !in_status {
            let peer = self.pending().first().copied().unwrap_or_default();
            return Err(Failure::Code { peer, code });
        }
        // Negative when no request was active.
        let done = usize::try_from(done).unwrap_or(0);
        for (&index, status) in self.indices.iter().zip(&self.statuses).take(done) {
            let Message { peer, length } = self.messages[index as usize];
            // SAFETY: MPI has set as many statuses as it completed messages.
            let status = unsafe { status.assume_init_ref() };
            if in_status && status.MPI_ERROR != 0 {
                return Err(Failure::Code { peer, code: status.MPI_ERROR });
            }
            let Some(expected) = length else { continue };
            let mut bytes = 0;
            // SAFETY: the status is that of a message received as bytes.
            unsafe { ffi::MPI_Get_count(status, u8::equivalent_datatype().as_raw(), &mut bytes) };
            let found = usize::try_from(bytes).unwrap_or(0) / size_of::<T>();
            if found != expected {
                return Err(Failure::Short { peer, expected, found });
            }
        }
        self.open -= done;
        Ok(done)
    }

    /// Ranks whose messages are not complete, ascending.
    pub(super) fn pending(&self) -> Vec<usize> {
        // SAFETY: a constant of MPI.
        let null = unsafe { ffi::RSMPI_REQUEST_NULL };
        let open = self.messages.iter().zip(&self.requests).filter(|(_, request)| **request != null);
        let mut peers: Vec<usize> = open.map(|(message, _)| message.peer).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// The vectors received. To be called when no message is open.
    pub(super) fn received(mut self) -> Vec<Vec<T>> {
        debug_assert_eq!(self.open, 0);
        let whole = if self.open == 0 { std::mem::take(&mut self.buffers) } else { vec![] };
        let received = whole.into_iter().filter_map(|buffer| match buffer {
            Buffer::Received(values) => Some(values),
            Buffer::Sent { .. } => None,
        });
        received.collect()
    }
}

impl<T> Drop for Exchange<T> {
    fn drop(&mut self) {
        if self.open > 0 {
            // MPI may still read and write them, and a send that a hanging process took up cannot be called
            // back.
            std::mem::forget(std::mem::take(&mut self.buffers));
        }
    }
}

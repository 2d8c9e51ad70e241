//! The CPU: f32, all cores through rayon.
//!
//! Buffers are plain vectors. How work is divided never depends on the number of threads, so neither do the
//! bits.

pub mod matmul;
pub mod scratch;
pub mod simd;

use std::any::Any;
use std::convert::Infallible;
use std::ops::Range;

use super::buffers::{Buffers, Scratch};
use super::error::Error;
use super::host;
use super::watch::{Fault, Place};

/// The CPU with the memory of its operations.
#[derive(Default)]
pub struct Cpu {
    /// Scratch that operations share.
    pub(crate) scratch: scratch::Memory,
    /// The optimiser's step, of which the watch tells.
    pub(crate) step: usize,
    fault: Option<Fault>,
    states: Vec<Box<dyn Any + Send>>,
}

impl Cpu {
    /// The CPU with no scratch yet; see [`Buffers::reserve`].
    pub fn new() -> Self {
        Self::default()
    }

    /// What operations keep from one call to the next, one value of each type; its default when it is first
    /// used.
    pub(crate) fn state<T: Any + Default + Send>(&mut self) -> &mut T {
        let known = self.states.iter().position(|state| state.is::<T>());
        let at = known.unwrap_or_else(|| {
            self.states.push(Box::new(T::default()));
            self.states.len() - 1
        });
        self.states[at].downcast_mut().unwrap_or_else(|| unreachable!("it has just been found to be a T"))
    }

    /// Remembers the first place where not all values are finite.
    pub(crate) fn watch(&mut self, finite: bool, place: Place) {
        if !finite && self.fault.is_none() {
            self.fault = Some(Fault { step: self.step as u32, place });
        }
    }

    /// Forgets that place.
    pub(crate) fn forget_fault(&mut self) {
        self.fault = None;
    }
}

impl Buffers for Cpu {
    type Tensor = Vec<f32>;
    type Vector = Vec<f32>;
    type Sums = Vec<f64>;
    type Bytes = Vec<u8>;
    type Indices = Vec<u32>;
    type Recording = Infallible;

    const ACTIVATION: usize = 4;
    const WEIGHT: usize = 4;
    const QUEUES: bool = false;

    fn device(&self) -> String {
        match rayon::current_num_threads() {
            1 => "cpu, 1 thread".into(),
            threads => format!("cpu, {threads} threads"),
        }
    }

    fn free_bytes(&self) -> Result<usize, Error> {
        Ok(host::available_bytes())
    }

    fn tensor(&self, elements: usize) -> Result<Vec<f32>, Error> {
        Ok(vec![0.0; elements])
    }

    fn vector(&self, values: &[f32]) -> Result<Vec<f32>, Error> {
        Ok(values.to_vec())
    }

    fn upload_weights(&self, values: &[f32]) -> Result<Vec<f32>, Error> {
        self.vector(values)
    }

    fn sums(&self, elements: usize) -> Result<Vec<f64>, Error> {
        Ok(vec![0.0; elements])
    }

    fn bytes(&self, elements: usize) -> Result<Vec<u8>, Error> {
        Ok(vec![0; elements])
    }

    fn indices(&self, indices: &[u32]) -> Result<Vec<u32>, Error> {
        Ok(indices.to_vec())
    }

    fn read(&self, vector: &Vec<f32>) -> Result<Vec<f32>, Error> {
        Ok(vector.clone())
    }

    fn read_range(&self, vector: &Vec<f32>, range: Range<usize>) -> Result<Vec<f32>, Error> {
        Ok(vector[range].to_vec())
    }

    fn write(&self, values: &[f32], vector: &mut Vec<f32>) -> Result<(), Error> {
        vector.copy_from_slice(values);
        Ok(())
    }

    fn read_tensor(&self, tensor: &Vec<f32>, elements: usize) -> Result<Vec<f32>, Error> {
        Ok(tensor[..elements].to_vec())
    }

    fn write_tensor(&self, values: &[f32], tensor: &mut Vec<f32>) -> Result<(), Error> {
        tensor[..values.len()].copy_from_slice(values);
        Ok(())
    }

    fn write_bytes(&self, values: &[u8], bytes: &mut Vec<u8>) -> Result<(), Error> {
        bytes[..values.len()].copy_from_slice(values);
        Ok(())
    }

    fn reserve(&mut self, scratch: Scratch) -> Result<(), Error> {
        self.scratch.grow(scratch.shared, scratch.local);
        Ok(())
    }

    fn scratch_bytes(scratch: Scratch) -> usize {
        scratch.shared + rayon::current_num_threads() * scratch.local
    }

    fn record(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn recorded(&mut self) -> Result<Option<Infallible>, Error> {
        Ok(None)
    }

    fn replay(&mut self, recording: &Infallible) -> Result<(), Error> {
        match *recording {}
    }

    fn fault(&self) -> Result<Option<Fault>, Error> {
        Ok(self.fault)
    }
}

//! Gather, scatter and clear on the CPU.

use rayon::prelude::*;

use super::GatherOps;
use crate::device::{Cpu, Error};

impl GatherOps for Cpu {
    fn gather(&self, indices: &Vec<u32>, vector: &Vec<f32>) -> Result<Vec<f32>, Error> {
        Ok(indices.par_iter().map(|&index| vector[index as usize]).collect())
    }

    fn scatter(&self, indices: &Vec<u32>, values: &[f32], vector: &mut Vec<f32>) -> Result<(), Error> {
        assert!(values.len() == indices.len(), "one value an index");
        indices.iter().zip(values).for_each(|(&index, &value)| vector[index as usize] = value);
        Ok(())
    }

    fn clear(&mut self, vector: &mut Vec<f32>) -> Result<(), Error> {
        vector.fill(0.0);
        Ok(())
    }
}

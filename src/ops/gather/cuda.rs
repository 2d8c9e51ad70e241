//! Gather, scatter and clear on devices that run kernels.

use super::GatherOps;
use super::args::{CLEAR, ClearArgs, GATHER, GatherArgs, SCATTER, ScatterArgs};
use crate::device::driver::{Driver, Launch};
use crate::device::{Array, Cuda, Error, Vector};

impl<D: Driver> GatherOps for Cuda<D> {
    fn gather(&self, indices: &Array<D, u32>, vector: &Vector<D>) -> Result<Vec<f32>, Error> {
        let n = indices.len();
        let mut values = Array::new(&self.driver, n)?;
        let args = GatherArgs {
            vector: vector.values.pointer(),
            indices: indices.pointer(),
            values: values.pointer_mut(),
            n: n as u32,
        };
        self.driver.launch(&GATHER, launch(n), args)?;
        Ok(values.read(&self.driver, n)?)
    }

    fn scatter(&self, indices: &Array<D, u32>, values: &[f32], vector: &mut Vector<D>) -> Result<(), Error> {
        assert!(values.len() == indices.len(), "one value an index");
        let values = Array::of(&self.driver, values)?;
        let args = ScatterArgs {
            vector: vector.values.pointer_mut(),
            halves: vector.halves.as_mut().map_or(std::ptr::null_mut(), Array::pointer_mut),
            indices: indices.pointer(),
            values: values.pointer(),
            n: indices.len() as u32,
        };
        self.driver.launch(&SCATTER, launch(indices.len()), args)?;
        // The values go when this returns.
        Ok(self.driver.synchronize()?)
    }

    fn clear(&mut self, vector: &mut Vector<D>) -> Result<(), Error> {
        let n = vector.values.len();
        let halves = vector.halves.as_mut().map_or(std::ptr::null_mut(), Array::pointer_mut);
        let args = ClearArgs { values: vector.values.pointer_mut(), halves, n: n as u64 };
        // Up to 16 values a thread of a small vector, which are enough blocks for any device.
        let blocks = n.div_ceil(16 * 256).clamp(1, 4096);
        Ok(self.driver.launch(&CLEAR, Launch::new(blocks as u32, 256), args)?)
    }
}

fn launch(n: usize) -> Launch {
    Launch::new(n.div_ceil(256).max(1) as u32, 256)
}

//! Values at some indices of the flat vector, between device and host.

use super::args::gather::{GATHER, GatherArgs, SCATTER, ScatterArgs};
use super::{Array, Cuda, Vector};
use crate::backend::Error;
use crate::driver::{Driver, Launch};

impl<D: Driver> Cuda<D> {
    pub(super) fn gather_values(
        &self,
        indices: &Array<D, u32>,
        vector: &Vector<D>,
    ) -> Result<Vec<f32>, Error> {
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

    pub(super) fn scatter_values(
        &self,
        indices: &Array<D, u32>,
        values: &[f32],
        vector: &mut Vector<D>,
    ) -> Result<(), Error> {
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
}

fn launch(n: usize) -> Launch {
    Launch::new(n.div_ceil(256).max(1) as u32, 256)
}

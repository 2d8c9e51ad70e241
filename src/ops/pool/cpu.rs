//! Global average pooling on the CPU. Max pooling is part of the fused batch norm, in `ops::norm`.

use rayon::prelude::*;

use super::{AveragePool, PoolOps};
use crate::device::{Cpu, Error};

impl PoolOps for Cpu {
    fn average_pool_forward(
        &mut self,
        pool: &AveragePool,
        x: &Vec<f32>,
        y: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let share = 1.0 / (pool.h * pool.w) as f32;
        let images = x.par_chunks_exact(pool.h * pool.w * pool.c);
        y[..pool.n * pool.c].par_chunks_exact_mut(pool.c).zip(images).for_each(|(y, x)| {
            y.fill(0.0);
            for pixel in x.chunks_exact(pool.c) {
                y.iter_mut().zip(pixel).for_each(|(y, x)| *y += x);
            }
            y.iter_mut().for_each(|y| *y *= share);
        });
        Ok(())
    }

    fn average_pool_backward(
        &mut self,
        pool: &AveragePool,
        dy: &Vec<f32>,
        dx: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let share = 1.0 / (pool.h * pool.w) as f32;
        let image = pool.h * pool.w * pool.c;
        let rows = dy.par_chunks_exact(pool.c);
        dx[..pool.n * image].par_chunks_exact_mut(image).zip(rows).for_each(|(dx, dy)| {
            for pixel in dx.chunks_exact_mut(pool.c) {
                pixel.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy * share);
            }
        });
        Ok(())
    }
}

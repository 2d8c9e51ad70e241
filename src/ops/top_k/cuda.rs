//! The k largest of a flat vector, on devices that run kernels.

use super::TopKOps;
use super::args::{
    NARROW, TILE, TILE_THREADS, TOP_K_BEGIN, TOP_K_CHOOSE, TOP_K_COUNT, TOP_K_HISTOGRAM, TOP_K_PLACE,
    TOP_K_WRITE, TopKArgs, WIDE,
};
use crate::device::driver::{Driver, Launch};
use crate::device::{Array, Cuda, Error, Vector};

/// Most scores: each must have an index, and a tile's end too.
const MOST: usize = 1 << 31;

/// What [`Cuda::top_k_by`] needs beside its buffers: about 0.8% of the scores' bytes.
pub struct TopKScratch<D: Driver> {
    threshold: Array<D, u32>,
    histograms: Array<D, u32>,
    counts: Array<D, u32>,
    places: Array<D, u32>,
    tiles: usize,
}

impl<D: Driver> TopKScratch<D> {
    /// Scratch for up to `n` scores.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(driver: &D, n: usize) -> Result<Self, Error> {
        let tiles = n.div_ceil(TILE as usize);
        Ok(TopKScratch {
            threshold: Array::new(driver, 2)?,
            histograms: Array::new(driver, (2 * WIDE + NARROW) as usize)?,
            counts: Array::new(driver, (NARROW as usize + 1) * tiles)?,
            places: Array::new(driver, 3 * tiles)?,
            tiles,
        })
    }
}

/// Buffers of [`Cuda::top_k_by`].
pub struct TopK<'a, D: Driver> {
    /// Scores, at least `n`.
    pub scores: &'a Array<D, f32>,
    /// The result, ascending, at least `k`: overwritten.
    pub indices: &'a mut Array<D, u32>,
    /// Scratch for at least `n` scores.
    pub scratch: &'a mut TopKScratch<D>,
}

impl<D: Driver> TopKOps for Cuda<D> {
    fn top_k(&mut self, scores: &Vector<D>, n: usize, k: usize) -> Result<Vec<u32>, Error> {
        let mut scratch = TopKScratch::new(&self.driver, n)?;
        let mut indices = Array::new(&self.driver, k)?;
        self.top_k_by(n, k, TopK { scores: &scores.values, indices: &mut indices, scratch: &mut scratch })?;
        Ok(indices.read(&self.driver, k)?)
    }
}

impl<D: Driver> Cuda<D> {
    /// [`TopKOps::top_k`] with buffers on the device. Scores are ordered as [`f32::total_cmp`] has it: -0
    /// below 0, NaN above all.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// If a buffer is too short, `k` exceeds `n`, or `n` 2^31.
    pub fn top_k_by(&mut self, n: usize, k: usize, b: TopK<D>) -> Result<(), Error> {
        let TopK { scores, indices, scratch } = b;
        assert!(
            k <= n && n <= scores.len() && n <= MOST && k <= indices.len(),
            "the {k} largest of {n} scores"
        );
        let tiles = n.div_ceil(TILE as usize);
        assert!(tiles <= scratch.tiles, "scratch for {} tiles of scores, not {tiles}", scratch.tiles);
        if k == 0 {
            return Ok(());
        }
        let args = TopKArgs {
            scores: scores.pointer(),
            indices: indices.pointer_mut(),
            threshold: scratch.threshold.pointer_mut(),
            histograms: scratch.histograms.pointer_mut(),
            counts: scratch.counts.pointer_mut(),
            places: scratch.places.pointer_mut(),
            n: n as u32,
            k: k as u32,
            tiles: tiles as u32,
            digit: 0,
        };
        let (one, each) = (Launch::new(1, 1024), Launch::new(args.tiles, TILE_THREADS));
        // As many blocks as a device of any kind runs at once, each with a histogram of 32 KB.
        let wide = Launch::new(args.tiles.min(3 * self.driver.properties().processors), TILE_THREADS);
        self.driver.launch(&TOP_K_BEGIN, one, args)?;
        for digit in [0, 1] {
            let args = TopKArgs { digit, ..args };
            self.driver.launch(&TOP_K_HISTOGRAM, wide, args)?;
            self.driver.launch(&TOP_K_CHOOSE, one, args)?;
        }
        self.driver.launch(&TOP_K_COUNT, each, args)?;
        self.driver.launch(&TOP_K_PLACE, one, args)?;
        Ok(self.driver.launch(&TOP_K_WRITE, each, args)?)
    }
}

//! Which kernel a pass of a convolution runs, in which tiles, and how often wgrad's sum is split.
//!
//! All of it follows from the shape alone, never from the device: the same shape gives the same bits
//! everywhere. The constants are those of an H100 or H200.

use crate::ops::conv::Conv;

/// Multiprocessors of an H100 or H200.
pub(super) const PROCESSORS: usize = 132;
/// Pixels of y a step of wgrad's sum takes.
pub(super) const STEP: usize = 32;

/// How a pass is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// One thread an element; any geometry.
    Analytic,
    /// Tensor cores, with operands read element by element; all but dgrad, of any C and K.
    Gather,
    /// Tensor cores, with operands read 8 channels at a time.
    Tensor(Tile),
}

/// Rows and columns of the matrix product that a block computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tile {
    /// 256 x 128: all passes.
    T256x128,
    /// 128 x 128: all passes.
    T128x128,
    /// 256 x 64: fprop, dgrad.
    T256x64,
    /// 64 x 64: fprop, dgrad, scores.
    T64x64,
    /// 64 x 128: wgrad.
    T64x128,
}

/// A pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// y from x.
    Fprop,
    /// dx from dy.
    Dgrad,
    /// The filter's gradient.
    Wgrad,
    /// The filter's scores.
    Score,
}

impl Tile {
    /// Rows.
    pub const fn rows(self) -> usize {
        match self {
            Tile::T256x128 | Tile::T256x64 => 256,
            Tile::T128x128 => 128,
            Tile::T64x64 | Tile::T64x128 => 64,
        }
    }

    /// Columns.
    pub const fn columns(self) -> usize {
        match self {
            Tile::T256x128 | Tile::T128x128 | Tile::T64x128 => 128,
            Tile::T256x64 | Tile::T64x64 => 64,
        }
    }

    /// Threads of a block: a warp computes 64 x 64, or less of the small tiles, which have four warps too.
    pub const fn threads(self) -> u32 {
        match self {
            Tile::T256x128 => 256,
            _ => 128,
        }
    }

    /// Blocks that a processor holds.
    const fn residents(self) -> usize {
        match self {
            Tile::T256x128 => 1,
            _ => 2,
        }
    }

    /// Bytes of the four stages of both operands, in which the result is laid out afterwards.
    pub const fn shared(self) -> u32 {
        (4 * STEP * (self.rows() + self.columns()) * 2) as u32
    }
}

impl Pass {
    /// Everything that can do this pass, given where in the flat vector the filter begins.
    pub fn algorithms(self, conv: &Conv, filter: usize) -> Vec<Algorithm> {
        let mut all = vec![Algorithm::Analytic];
        // Which taps a pixel has is kept in 32 bits.
        if conv.r > 5 {
            return all;
        }
        if self != Pass::Dgrad {
            all.push(Algorithm::Gather);
        }
        // 16 bytes at a time: whole and aligned in x, dy and, where it is read, the filter.
        let fits = match self {
            Pass::Fprop => conv.c.is_multiple_of(8) && filter.is_multiple_of(8),
            Pass::Dgrad => conv.c.is_multiple_of(8) && conv.k.is_multiple_of(8) && filter.is_multiple_of(8),
            Pass::Wgrad | Pass::Score => conv.c.is_multiple_of(8) && conv.k.is_multiple_of(8),
        };
        let tiles = match self {
            Pass::Wgrad => [Tile::T256x128, Tile::T128x128, Tile::T64x128].as_slice(),
            Pass::Score => &[Tile::T64x64],
            _ => &[Tile::T256x128, Tile::T128x128, Tile::T256x64, Tile::T64x64],
        };
        all.extend(tiles.iter().filter(|_| fits).map(|&tile| Algorithm::Tensor(tile)));
        all
    }

    /// The one to use. Large tiles read less for what they compute, so the largest that keep nine tenths of
    /// the processors busy; 64 columns where 128 would be half empty. The largest has a processor to itself,
    /// with nothing to hide its block's beginning and end: only for long sums.
    pub fn algorithm(self, conv: &Conv, filter: usize) -> Algorithm {
        let taps = conv.r * conv.r;
        let (rows, columns, steps) = match self {
            Pass::Fprop => (conv.n * conv.p() * conv.q(), conv.k, taps * conv.c / STEP),
            // A class of pixels meets about this share of the taps.
            Pass::Dgrad => (conv.n * conv.h * conv.w, conv.c, taps * conv.k / STEP / conv.stride.pow(2)),
            Pass::Wgrad | Pass::Score => (conv.k, taps * conv.c, 0),
        };
        let narrow = |length: usize, tile: usize| (1..=tile / 2).contains(&(length % tile));
        let wanted: &[Tile] = match self {
            Pass::Wgrad if rows <= 64 => &[Tile::T64x128],
            Pass::Wgrad if narrow(rows, 256) => &[Tile::T128x128],
            Pass::Wgrad => &[Tile::T256x128],
            Pass::Score => &[Tile::T64x64],
            _ if narrow(columns, 128) => &[Tile::T256x64, Tile::T64x64],
            _ if steps < 32 => &[Tile::T128x128, Tile::T64x64],
            _ => &[Tile::T256x128, Tile::T128x128, Tile::T64x64],
        };
        let busy = |tile: &&Tile| {
            rows.div_ceil(tile.rows()) * columns.div_ceil(tile.columns()) >= PROCESSORS * 9 / 10
        };
        let tile = wanted.iter().find(busy).or(wanted.last());
        let wanted = tile.map(|&tile| Algorithm::Tensor(tile)).into_iter().chain([Algorithm::Gather]);
        let able = self.algorithms(conv, filter);
        wanted.into_iter().find(|algorithm| able.contains(algorithm)).unwrap_or(Algorithm::Analytic)
    }
}

/// Rows and columns of the filter's gradient that a block computes.
pub(super) fn wgrad_tile(algorithm: Algorithm) -> (usize, usize) {
    match algorithm {
        Algorithm::Tensor(tile) => (tile.rows(), tile.columns()),
        _ => (64, 32),
    }
}

/// Blocks that compute one split of the filter's gradient.
pub(super) fn wgrad_blocks(algorithm: Algorithm, conv: &Conv) -> usize {
    let (rows, columns) = wgrad_tile(algorithm);
    conv.k.div_ceil(rows) * (conv.r * conv.r * conv.c).div_ceil(columns)
}

/// Blocks of wgrad that the device holds.
fn resident(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Tensor(tile) => PROCESSORS * tile.residents(),
        _ => PROCESSORS * 4,
    }
}

/// Most splits of a filter's gradient: with them the device is filled twice over.
fn most_splits(algorithm: Algorithm, conv: &Conv) -> usize {
    (2 * resident(algorithm) / wgrad_blocks(algorithm, conv)).max(1)
}

/// Steps of [`STEP`] pixels that a block of wgrad sums: those that are done soonest, a block's beginning and
/// end costing as much as 8 steps, and a step of all resident blocks as much as the traffic of 2 MB of
/// partial sums.
pub(super) fn wgrad_steps(algorithm: Algorithm, conv: &Conv) -> usize {
    let steps = (conv.n * conv.p() * conv.q()).div_ceil(STEP);
    let blocks = wgrad_blocks(algorithm, conv);
    // Written and read.
    let bytes = 8 * conv.k * conv.r * conv.r * conv.c;
    let cost = |&splits: &usize| {
        let waves = (blocks * splits).div_ceil(resident(algorithm));
        let partials = if splits > 1 { splits * bytes / 2_000_000 } else { 0 };
        waves * (steps.div_ceil(splits) + 8) + partials
    };
    let splits = (1..=most_splits(algorithm, conv).min(steps)).min_by_key(cost).unwrap_or(1);
    steps.div_ceil(splits)
}

/// Splits of so many steps each.
pub(super) fn wgrad_splits(conv: &Conv, steps: usize) -> usize {
    (conv.n * conv.p() * conv.q()).div_ceil(STEP).div_ceil(steps)
}

/// f32 values of scratch any algorithm of any pass needs, at this n or a smaller one.
pub(super) fn scratch(conv: &Conv) -> usize {
    let pixels = conv.n * conv.p() * conv.q();
    let sums = pixels.div_ceil(ROWS) * 2 * conv.k;
    let partials = |algorithm: Algorithm| {
        let splits = most_splits(algorithm, conv).min(pixels.div_ceil(STEP));
        if splits > 1 { splits * conv.k * conv.r * conv.r * conv.c } else { 0 }
    };
    let wgrad = partials(Pass::Wgrad.algorithm(conv, 0));
    sums.max(wgrad)
}

/// Fewest rows of y that a block of fprop sums by channel, and as many as one of the analytic kernel does.
pub(super) const ROWS: usize = 64;

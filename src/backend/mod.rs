//! Where the arithmetic happens.

pub mod cpu;

/// Geometry of one square convolution: x \[N,H,W,C\], filter \[K,R,R,C\], y \[N,P,Q,K\], no bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Images.
    pub n: usize,
    /// Input rows.
    pub h: usize,
    /// Input columns.
    pub w: usize,
    /// Input channels.
    pub c: usize,
    /// Output channels.
    pub k: usize,
    /// Filter rows and columns.
    pub r: usize,
    /// Step between outputs, in input pixels.
    pub stride: usize,
    /// Zero rows and columns around the input.
    pub pad: usize,
}

impl Conv {
    /// Output rows.
    pub fn p(&self) -> usize {
        (self.h + 2 * self.pad - self.r) / self.stride + 1
    }

    /// Output columns.
    pub fn q(&self) -> usize {
        (self.w + 2 * self.pad - self.r) / self.stride + 1
    }

    /// Floating-point operations of one direct fprop, dgrad or wgrad: two for each multiply-add.
    pub fn flops(&self) -> u64 {
        2 * (self.n * self.p() * self.q() * self.k) as u64 * (self.r * self.r * self.c) as u64
    }
}

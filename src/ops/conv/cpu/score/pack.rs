//! How x and dy of a convolution are packed for [`super`]: by panels of channels, image after image.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::ops::conv::Conv;

/// Input channels of a panel.
pub(super) const C: usize = 32;
/// Output channels of a panel.
pub(super) const K: usize = 8;
/// f32 of x and dy packed at a time, about: what lies in the last cache levels together.
const PACKED: usize = 1 << 19;
/// Most pairs of pixels that are listed, and most taps of a filter for that.
const PAIRS: usize = 256;
const TAPS: usize = 25;

/// A panel's channels of one pixel, on whole cache lines.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Inputs(pub [f32; C]);

/// A panel's channels of one pixel of dy.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(32))]
pub(super) struct Outputs(pub [f32; K]);

/// Pixels of x and dy that meet under each tap, one tap after another: for images so small that finding rows
/// of them would take longer than they do.
#[derive(Clone, Copy)]
pub(super) struct Pairs {
    pairs: [[u16; 2]; PAIRS],
    /// Where the pairs of each tap end.
    ends: [u16; TAPS],
}

impl Pairs {
    pub fn new(conv: &Conv) -> Option<Pairs> {
        let (q, taps) = (conv.q(), conv.r * conv.r);
        let outputs = conv.p() * q;
        if taps > TAPS || taps * outputs > PAIRS || conv.h * conv.w > usize::from(u16::MAX) {
            return None;
        }
        let mut all = Pairs { pairs: [[0; 2]; PAIRS], ends: [0; TAPS] };
        let mut count = 0;
        for tap in 0..taps {
            for output in 0..outputs {
                // Below 0 these wrap round to a number above every side.
                let row = (output / q * conv.stride + tap / conv.r).wrapping_sub(conv.pad);
                let column = (output % q * conv.stride + tap % conv.r).wrapping_sub(conv.pad);
                if row < conv.h && column < conv.w {
                    all.pairs[count] = [(row * conv.w + column) as u16, output as u16];
                    count += 1;
                }
            }
            all.ends[tap] = count as u16;
        }
        Some(all)
    }

    #[inline(always)]
    pub fn of(&self, tap: usize) -> &[[u16; 2]] {
        let start = if tap == 0 { 0 } else { self.ends[tap - 1] };
        &self.pairs[usize::from(start)..usize::from(self.ends[tap])]
    }
}

/// A convolution as it is packed.
#[derive(Clone, Copy)]
pub(super) struct PackedConv {
    pub conv: Conv,
    /// Whether what each tap reads is unrolled, so that there is but one tap.
    pub unrolled: bool,
    /// Pixels of an image's packed x.
    pub inputs: usize,
    /// Pixels of an image's packed dy.
    pub outputs: usize,
    /// Panels of 32 channels of the packed x.
    pub c_panels: usize,
    /// Panels of 8 channels of the packed dy.
    pub k_panels: usize,
    /// Taps of the packed filter.
    pub taps: usize,
    /// Images packed at a time.
    pub images: usize,
}

impl PackedConv {
    pub fn new(conv: &Conv) -> PackedConv {
        let (taps, outputs) = (conv.r * conv.r, conv.p() * conv.q());
        let (direct, unrolled) = (conv.c.div_ceil(C) * taps, (conv.c * taps).div_ceil(C));
        let k_panels = conv.k.div_ceil(K);
        // A panel takes K cycles a pixel, and some 100 to unroll.
        let gain = conv.k * (direct - unrolled) > 100 * unrolled;
        let is_unrolled = gain || (taps == 1 && conv.stride > 1);
        let (inputs, c_panels, taps) =
            if is_unrolled { (outputs, unrolled, 1) } else { (conv.h * conv.w, conv.c.div_ceil(C), taps) };
        let size = inputs * c_panels * C + outputs * k_panels * K;
        // The scores, which every pack of images goes over, are at most half as much.
        let images = (PACKED.max(2 * k_panels * c_panels * taps * K * C) / size).clamp(1, conv.n.max(1));
        PackedConv { conv: *conv, unrolled: is_unrolled, inputs, outputs, c_panels, k_panels, taps, images }
    }

    /// Elements of a scratch's three buffers.
    pub fn lengths(&self) -> [usize; 3] {
        [
            self.images * self.inputs * self.c_panels,
            self.images * self.outputs * self.k_panels,
            self.k_panels * self.c_panels * self.taps * K,
        ]
    }
}

/// x \[n,H,W,C\] to \[panels\]\[n\]\[pixels\], channels that are not there zero.
pub(super) fn pack_x(packed: &PackedConv, x: &[f32], to: &mut [Inputs]) {
    let conv = &packed.conv;
    let image = conv.h * conv.w * conv.c;
    let n = x.len() / image;
    to.par_chunks_mut(packed.inputs).enumerate().for_each(|(i, to)| {
        let (first, x) = (i / n * C, &x[i % n * image..][..image]);
        if packed.unrolled {
            unroll(conv, first, x, to);
            return;
        }
        let channels = C.min(conv.c - first);
        for (to, pixel) in to.iter_mut().zip(x.chunks_exact(conv.c)) {
            let pixel = &pixel[first..first + channels];
            match <&[f32; C]>::try_from(pixel) {
                Ok(pixel) => to.0 = *pixel,
                Err(_) => {
                    to.0 = [0.0; C];
                    to.0[..channels].copy_from_slice(pixel);
                }
            }
        }
    });
}

/// What output pixels read of an image \[H,W,C\]: columns `first..` of \[P Q, C R R\].
fn unroll(conv: &Conv, first: usize, x: &[f32], to: &mut [Inputs]) {
    let (q, taps) = (conv.q(), conv.r * conv.r);
    let columns = C.min(conv.c * taps - first);
    // (row, column, channel) that a column reads of the window.
    let mut places = [(0, 0, 0); C];
    for (i, place) in places.iter_mut().enumerate() {
        let (channel, tap) = ((first + i) / taps, (first + i) % taps);
        *place = (tap / conv.r, tap % conv.r, channel);
    }
    for (output, to) in to.iter_mut().enumerate() {
        let (top, left) = (output / q * conv.stride, output % q * conv.stride);
        to.0 = [0.0; C];
        if taps == 1 && conv.pad == 0 {
            let pixel = &x[(top * conv.w + left) * conv.c + first..][..columns];
            to.0[..columns].copy_from_slice(pixel);
            continue;
        }
        for (to, (row, column, channel)) in to.0.iter_mut().zip(&places[..columns]) {
            // Below 0 these wrap round to a number above every side.
            let (row, column) = ((top + row).wrapping_sub(conv.pad), (left + column).wrapping_sub(conv.pad));
            if row < conv.h && column < conv.w {
                *to = x[(row * conv.w + column) * conv.c + channel];
            }
        }
    }
}

/// dy \[n,P,Q,K\] to \[panels\]\[n\]\[pixels\], channels that are not there zero.
pub(super) fn pack_dy(packed: &PackedConv, dy: &[f32], to: &mut [Outputs]) {
    let k = packed.conv.k;
    let image = packed.outputs * k;
    let n = dy.len() / image;
    to.par_chunks_mut(packed.outputs).enumerate().for_each(|(i, to)| {
        let (first, dy) = (i / n * K, &dy[i % n * image..][..image]);
        let channels = K.min(k - first);
        for (to, pixel) in to.iter_mut().zip(dy.chunks_exact(k)) {
            let pixel = &pixel[first..first + channels];
            match <&[f32; K]>::try_from(pixel) {
                Ok(pixel) => to.0 = *pixel,
                Err(_) => {
                    to.0 = [0.0; K];
                    to.0[..channels].copy_from_slice(pixel);
                }
            }
        }
    });
}

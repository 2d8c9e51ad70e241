//! Normalisation and the training augmentation.

use super::dataset::{IMAGE, SIDE, Split};
use super::set::Pixels;
use crate::rng::{Purpose, Stream, scale};

/// Pixels added on each side by reflection before the crop.
const PAD: usize = 4;

/// Offsets a 32 x 32 crop of the padded image can have along an axis.
const CROPS: u32 = 2 * PAD as u32 + 1;

/// Height and width of the square that cutout blanks.
const CUT: usize = 8;

/// Offsets that square can have along an axis.
const CUTS: u32 = (SIDE - CUT) as u32 + 1;

/// What is done to one image in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Row of the padded image that the crop starts at, 0..=8; 4 is the image's own first row.
    pub dy: u32,
    /// Column of the padded image that the crop starts at, 0..=8.
    pub dx: u32,
    /// Whether left and right are exchanged, after the crop.
    pub flip: bool,
    /// First row that cutout blanks, 0..=24, after the flip.
    pub cut_y: u32,
    /// First column that cutout blanks, 0..=24.
    pub cut_x: u32,
}

impl Choice {
    /// The choice for image `index` of the data set in `epoch`, from the first Philox block of its stream:
    /// word 0 scaled to 81 crops (row by row), word 1 to 625 places of the cutout (row by row), word 2's top
    /// bit the flip.
    pub fn draw(seed: u64, epoch: u32, index: u32) -> Self {
        let mut stream = Stream::new(seed, Purpose::Augment, epoch, index);
        let crop = scale(stream.word(), CROPS * CROPS);
        let cut = scale(stream.word(), CUTS * CUTS);
        let flip = stream.word() >> 31 == 1;
        Choice { dy: crop / CROPS, dx: crop % CROPS, flip, cut_y: cut / CUTS, cut_x: cut % CUTS }
    }

    /// Pads, crops, flips, normalises and cuts `image` [32, 32, 3] to `out` [32, 32, 3].
    ///
    /// # Panics
    /// When a slice has another length, or an offset lies outside its range.
    pub fn apply(&self, pixels: &Pixels, image: &[u8], out: &mut [f32]) {
        assert!(image.len() == IMAGE && out.len() == IMAGE);
        assert!(self.dy.max(self.dx) < CROPS && self.cut_y.max(self.cut_x) < CUTS);
        // The source of each column, as an offset in its row.
        let columns: [usize; SIDE] = std::array::from_fn(|x| {
            let x = if self.flip { SIDE - 1 - x } else { x };
            3 * reflect(x + self.dx as usize)
        });
        for (y, row) in out.chunks_exact_mut(3 * SIDE).enumerate() {
            let source = &image[3 * SIDE * reflect(y + self.dy as usize)..][..3 * SIDE];
            for (pixel, &column) in row.chunks_exact_mut(3).zip(&columns) {
                for (c, value) in pixel.iter_mut().enumerate() {
                    *value = pixels.values[c][usize::from(source[column + c])];
                }
            }
        }
        let (y, x) = (self.cut_y as usize, self.cut_x as usize);
        for row in out.chunks_exact_mut(3 * SIDE).skip(y).take(CUT) {
            row[3 * x..3 * (x + CUT)].fill(0.0);
        }
    }
}

/// The row or column of the image that stands at `i` of the padded image, 0..40: the border is mirrored about
/// the outermost pixel, which is not repeated.
fn reflect(i: usize) -> usize {
    let i = i.abs_diff(PAD);
    if i < SIDE { i } else { 2 * (SIDE - 1) - i }
}

/// Augments image `index` of a split for `epoch`, normalised, to `out` [32, 32, 3].
///
/// # Panics
/// When `out` has another length, or the split has no such image.
pub fn augment(split: &Split, index: u32, seed: u64, epoch: u32, out: &mut [f32]) {
    let choice = Choice::draw(seed, epoch, index);
    choice.apply(&split.set.pixels, split.image(index as usize), out);
}

/// Normalises images [N, 32, 32, 3] to `out` [N, 32, 32, 3] without augmentation, as evaluation does.
///
/// # Panics
/// When the lengths differ or are no whole number of images.
pub fn normalise(pixels: &Pixels, images: &[u8], out: &mut [f32]) {
    assert!(images.len() == out.len() && images.len().is_multiple_of(IMAGE));
    for (pixel, out) in images.chunks_exact(3).zip(out.chunks_exact_mut(3)) {
        for c in 0..3 {
            out[c] = pixels.values[c][usize::from(pixel[c])];
        }
    }
}

//! A made-up data set for machines that cannot get CIFAR-10: ten shapes and textures in any colour.
//!
//! A picture's class is its drawing: 0 disc, 1 ring, 2 square, 3 cross, 4 triangle, 5 horizontal stripes, 6
//! vertical stripes, 7 diagonal stripes, 8 checkerboard, 9 dots. Place, size, both colours, shading and noise
//! are random and alike for all classes, so that the mean colour says nothing. All arithmetic is on integers.

use rayon::prelude::*;

use crate::data::set::{Pixels, Set};
use crate::data::{Dataset, IMAGE, SIDE, Split};
use crate::rng::{Purpose, Stream};

/// The made-up set, which is normalised as CIFAR-10 is.
pub static SET: Set = Set {
    name: "synthetic",
    remark: Some("made-up pictures, not CIFAR-10"),
    classes: &[
        "disc",
        "ring",
        "square",
        "cross",
        "triangle",
        "horizontal stripes",
        "vertical stripes",
        "diagonal stripes",
        "checkerboard",
        "dots",
    ],
    images: [50_000, 10_000],
    pixels: Pixels::new([125.31, 122.95, 113.87], [62.99, 62.09, 66.70]),
};

/// `train` and `test` pictures, classes in turn: the same bits for the same seed, whatever the number of
/// threads. The first n of a set are the set of n.
pub fn dataset(train: usize, test: usize, seed: u64) -> Dataset {
    Dataset { train: split(train, seed, 0), test: split(test, seed, 1) }
}

fn split(count: usize, seed: u64, part: u32) -> Split {
    let mut split = Split::zeroed(&SET, count);
    let pictures = split.images.par_chunks_exact_mut(IMAGE).zip(split.labels.par_iter_mut());
    pictures.enumerate().for_each(|(index, (image, label))| {
        *label = (index % SET.classes.len()) as u8;
        paint(*label, &mut Stream::new(seed, Purpose::Synthetic, part, index as u32), image);
    });
    split
}

/// Draws one picture of a class to `image` [32, 32, 3].
fn paint(class: u8, stream: &mut Stream, image: &mut [u8]) {
    let drawing = Drawing::draw(class, stream);
    // Each channel differs between figure and ground by 64..192 modulo 256, so that both colours are uniform,
    // and no class is brighter than another for covering more.
    let ground: [i32; 3] = std::array::from_fn(|_| stream.below(256) as i32);
    let figure = ground.map(|value| (value + 64 + stream.below(129) as i32) % 256);
    // Shading: brightness rises by up to 2 a pixel in a random direction, and is 0 in the middle.
    let (slope_x, slope_y) = (stream.below(33) as i32 - 16, stream.below(33) as i32 - 16);
    for (place, pixel) in image.chunks_exact_mut(3).enumerate() {
        let (x, y) = ((place % SIDE) as i32, (place / SIDE) as i32);
        let colour = if drawing.covers(x, y) { figure } else { ground };
        let shade = ((2 * x - 31) * slope_x + (2 * y - 31) * slope_y) / 16;
        let noise = stream.word();
        for (c, value) in pixel.iter_mut().enumerate() {
            // Ten bits a channel as the sum of two numbers of five: a triangle of -31..=31.
            let bits = noise >> (10 * c);
            let noise = (bits & 31) as i32 - (bits >> 5 & 31) as i32;
            *value = (colour[c] + shade + noise).clamp(0, 255) as u8;
        }
    }
}

/// A figure's geometry, in half pixels so that centres may lie between pixels.
struct Drawing {
    class: u8,
    /// Centre of a shape; phase of a texture.
    x: i32,
    y: i32,
    /// Radius of a shape, 7..=12 pixels.
    radius: i32,
    /// Period of a texture, 4..=9 pixels.
    period: i32,
    /// Whether a diagonal rises or falls, or a triangle points up or down.
    turned: bool,
}

impl Drawing {
    fn draw(class: u8, stream: &mut Stream) -> Self {
        let radius = 14 + stream.below(11) as i32;
        // The whole shape lies within the picture, but for a pixel at most.
        let mut centre = || radius + stream.below((64 - 2 * radius) as u32 + 1) as i32;
        let (x, y) = (centre(), centre());
        Drawing { class, x, y, radius, period: 8 + stream.below(11) as i32, turned: stream.word() >> 31 == 1 }
    }

    /// Whether the figure covers the pixel in column x and row y.
    fn covers(&self, x: i32, y: i32) -> bool {
        let (x, y) = (2 * x + 1 - self.x, 2 * y + 1 - self.y);
        let (r, period) = (self.radius, self.period);
        let first_half = |v: i32| 2 * v.rem_euclid(period) < period;
        match self.class {
            0 => x * x + y * y <= r * r,
            1 => (r * r / 3..=r * r).contains(&(x * x + y * y)),
            2 => x.abs().max(y.abs()) <= r * 7 / 8,
            3 => x.abs().max(y.abs()) <= r && 3 * x.abs().min(y.abs()) <= r,
            4 => {
                let down = if self.turned { -y } else { y };
                down <= r * 3 / 4 && 2 * x.abs() <= down + r
            }
            5 => first_half(y),
            6 => first_half(x),
            7 => first_half(if self.turned { x + y } else { x - y }),
            8 => first_half(x) != first_half(y),
            _ => {
                let from_centre = |v: i32| 2 * v.rem_euclid(period) - period;
                let (x, y) = (from_centre(x), from_centre(y));
                2 * (x * x + y * y) <= period * period
            }
        }
    }
}

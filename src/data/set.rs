//! What is known of a data set before its images are read.

use std::fmt;

/// A data set, apart from its images. All have images of [`SIDE`](super::SIDE) by [`SIDE`](super::SIDE)
/// pixels.
pub struct Set {
    /// The name that is shown with every accuracy, so that one set is not taken for another.
    pub name: &'static str,
    /// What a reader of results must know of it, if anything.
    pub remark: Option<&'static str>,
    /// The classes, by label.
    pub classes: &'static [&'static str],
    /// How many training and test images it has.
    pub images: [usize; 2],
    /// How its pixels are normalised.
    pub pixels: Pixels,
}

/// How pixels of red, green and blue become values of mean 0 and standard deviation 1.
pub struct Pixels {
    /// The training set's mean of each channel, on 0..255.
    pub mean: [f32; 3],
    /// `1 / std` of each channel, rounded once to f32.
    pub inverse_std: [f32; 3],
    /// `(v - mean) * inverse_std` for each channel and value v: a subtraction, then a multiplication, each
    /// rounded to f32. No fused form exists of that order, so every device gives these bits.
    pub values: [[f32; 256]; 3],
}

impl Pixels {
    /// Normalises by each channel's mean and standard deviation, on 0..255.
    pub const fn new(mean: [f32; 3], std: [f32; 3]) -> Pixels {
        let inverse_std = [1.0 / std[0], 1.0 / std[1], 1.0 / std[2]];
        let mut values = [[0.0; 256]; 3];
        let mut i = 0;
        while i < 3 * 256 {
            let (channel, value) = (i / 256, i % 256);
            values[channel][value] = (value as f32 - mean[channel]) * inverse_std[channel];
            i += 1;
        }
        Pixels { mean, inverse_std, values }
    }
}

impl PartialEq for Set {
    fn eq(&self, other: &Set) -> bool {
        self.name == other.name
    }
}

impl Eq for Set {}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name)
    }
}

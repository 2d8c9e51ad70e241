//! The only source of randomness: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2,
//! 3", SC 2011).
//!
//! A counter-based generator has no state to carry: word `j` of the stream for (seed, purpose, epoch, index)
//! is a pure function of those five numbers, so a picture is cropped the same way whatever the backend, the
//! number of threads or the order of work, and a resumed run needs nothing stored but its position.

/// What a stream is for. Streams of different purposes never share bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Initial weights; index is the canonical flat index of the weight.
    Init = 0,
    /// The permutation of the training images in an epoch.
    Shuffle = 1,
    /// Crop, flip and cutout of a training image in an epoch; index is the image's place in the data set.
    Augment = 2,
    /// Pixels of the synthetic data set.
    Synthetic = 3,
    /// Random masks; index is the canonical flat index of the weight.
    Mask = 4,
    /// Seeds of workers; index is the rank.
    Worker = 5,
    /// The permutation by which the training images are cut into workers' parts.
    Shard = 6,
}

/// Ten rounds of Philox4x32: four random words for a 128-bit counter and a 64-bit key.
pub const fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    let mut round = 0;
    while round < 10 {
        let a = 0xD251_1F53_u64 * counter[0] as u64;
        let b = 0xCD9E_8D57_u64 * counter[2] as u64;
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
        round += 1;
    }
    counter
}

/// The words of one (seed, purpose, epoch, index) stream, in order.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Stream {
    /// The stream's beginning. The counter is (block, index, epoch, purpose), the key the seed's two halves.
    pub fn new(seed: u64, purpose: Purpose, epoch: u32, index: u32) -> Self {
        Stream {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [0, index, epoch, purpose as u32],
            block: [0; 4],
            used: 4,
        }
    }

    /// The next 32 random bits.
    pub fn word(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// An integer in `0..bound`: the high half of word x bound. Its bias is below bound / 2^32.
    pub fn below(&mut self, bound: u32) -> u32 {
        scale(self.word(), bound)
    }

    /// A number in [0, 1), a multiple of 2^-24, so that f32 holds it exactly.
    pub fn uniform(&mut self) -> f32 {
        (self.word() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// A standard normal number by Box and Muller, in f64 (two words each).
    pub fn normal(&mut self) -> f64 {
        // 1 - u lies in (0, 1], so the logarithm is finite.
        let radius = (-2.0 * (1.0 - f64::from(self.uniform())).ln()).sqrt();
        radius * (std::f64::consts::TAU * f64::from(self.uniform())).cos()
    }
}

/// Maps a random word to `0..bound`.
pub const fn scale(word: u32, bound: u32) -> u32 {
    ((word as u64 * bound as u64) >> 32) as u32
}

/// A uniform permutation of `0..n` for an epoch (Fisher and Yates).
pub fn permutation(n: u32, seed: u64, purpose: Purpose, epoch: u32) -> Vec<u32> {
    let mut stream = Stream::new(seed, purpose, epoch, 0);
    let mut order: Vec<u32> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i as usize, stream.below(i + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (`kat_vectors`, philox4x32 10).
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([!0; 4], [!0; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let key = [0xa409_3822, 0x299f_31d0];
        assert_eq!(philox(counter, key), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn permutation_holds_each_index_once_and_differs_by_epoch() {
        let a = permutation(1000, 7, Purpose::Shuffle, 0);
        let mut sorted = a.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_ne!(a, permutation(1000, 7, Purpose::Shuffle, 1));
        assert_ne!(a, permutation(1000, 8, Purpose::Shuffle, 0));
        assert_eq!(a, permutation(1000, 7, Purpose::Shuffle, 0));
    }

    #[test]
    fn normal_has_unit_moments() {
        let mut stream = Stream::new(1, Purpose::Init, 0, 0);
        let x: Vec<f64> = (0..100_000).map(|_| stream.normal()).collect();
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64 - mean * mean;
        // Five standard errors: 5/sqrt(n) for the mean, 5*sqrt(2/n) for the variance.
        assert!(mean.abs() < 0.016 && (variance - 1.0).abs() < 0.023, "{mean} {variance}");
    }
}

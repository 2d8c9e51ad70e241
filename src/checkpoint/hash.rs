//! BLAKE3 of vectors and files.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::container::little_endian;

/// The first `N` bytes of a BLAKE3 hash; in files twice as many lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest<const N: usize>([u8; N]);

/// A whole BLAKE3 hash: 64 digits.
pub type Hash = Digest<32>;

/// The beginning of a BLAKE3 hash, 16 digits, where a short name tells two things apart.
pub type Digest8 = Digest<8>;

impl Hash {
    /// Of indices as little-endian bytes.
    pub fn of_indices(indices: &[u32]) -> Hash {
        let mut hasher = blake3::Hasher::new();
        feed(&mut hasher, &little_endian(indices));
        Hash::of(&hasher)
    }

    /// Of weights in canonical order, then running statistics, as little-endian bytes.
    pub fn of_model(canonical: &[f32], running: &[f32]) -> Hash {
        let mut hasher = blake3::Hasher::new();
        feed(&mut hasher, &little_endian(canonical));
        feed(&mut hasher, &little_endian(running));
        Hash::of(&hasher)
    }

    /// Of bytes.
    pub fn of_bytes(bytes: &[u8]) -> Hash {
        let mut hasher = blake3::Hasher::new();
        feed(&mut hasher, bytes);
        Hash::of(&hasher)
    }

    /// Of what a hasher has been fed.
    pub(super) fn of(hasher: &blake3::Hasher) -> Hash {
        Digest(*hasher.finalize().as_bytes())
    }

    /// The first 16 digits, as mask files are named.
    pub fn short(&self) -> Digest8 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        Digest(first)
    }
}

impl From<[u8; 32]> for Hash {
    fn from(bytes: [u8; 32]) -> Hash {
        Digest(bytes)
    }
}

impl<const N: usize> Default for Digest<N> {
    fn default() -> Self {
        Digest([0; N])
    }
}

/// Bytes from which on a second thread pays, as the crate advises.
pub(super) const PAYS: usize = 128 << 10;

/// Feeds a hasher, on all threads where that pays.
pub(super) fn feed(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    if bytes.len() < PAYS {
        hasher.update(bytes)
    } else {
        hasher.update_rayon(bytes)
    };
}

impl<const N: usize> fmt::Display for Digest<N> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const N: usize> fmt::Debug for Digest<N> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl<const N: usize> FromStr for Digest<N> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected {} lower-case hexadecimal digits", 2 * N);
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(wrong()),
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(wrong()) };
        let pairs: &[[u8; 2]; N] = pairs.try_into().map_err(|_| wrong())?;
        let mut bytes = [0; N];
        for (to, &[high, low]) in bytes.iter_mut().zip(pairs) {
            *to = digit(high)? << 4 | digit(low)?;
        }
        Ok(Digest(bytes))
    }
}

impl<const N: usize> Serialize for Digest<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Digest<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_blake3_of_little_endian_bytes() {
        // BLAKE3's own test vector of no input.
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(Hash::of_indices(&[]).to_string(), empty);
        assert_eq!(Hash::of_bytes(&[]).short().to_string(), "af1349b9f5f9a1a6");
        let bytes = blake3::hash(&[1, 0, 0, 0, 0, 2, 0, 0]);
        assert_eq!(Hash::of_indices(&[1, 512]).to_string(), bytes.to_hex().as_str());
        let values: Vec<f32> = (0..40_000).map(|i| i as f32).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let hash = blake3::hash(&bytes).to_hex();
        assert_eq!(Hash::of_model(&values[..30_001], &values[30_001..]).to_string(), hash.as_str());
    }

    #[test]
    fn only_64_lower_case_digits_are_a_hash() {
        let text = Hash::of_indices(&[7]).to_string();
        assert_eq!(text.parse(), Ok(Hash::of_indices(&[7])));
        for bad in [&text[1..], &text[..62], &text.to_uppercase(), &text.replace('a', "g"), ""] {
            assert!(bad.parse::<Hash>().is_err() || bad == text, "{bad}");
        }
        assert_eq!(text[..16].parse(), Ok(Hash::of_indices(&[7]).short()));
        assert_eq!(text.parse::<Digest8>(), Err("expected 16 lower-case hexadecimal digits".into()));
    }
}

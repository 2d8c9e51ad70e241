//! Images in memory.

use super::set::Set;

/// Height and width of an image, in pixels.
pub const SIDE: usize = 32;

/// Bytes of an image: 32 x 32 pixels of red, green and blue.
pub const IMAGE: usize = SIDE * SIDE * 3;

/// Images with their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The data set that they are of.
    pub set: &'static Set,
    /// Pixels, [N, 32, 32, 3] (NHWC), 0..255.
    pub images: Vec<u8>,
    /// Classes, `[N]`, each a place in the set's list.
    pub labels: Vec<u8>,
}

impl Split {
    /// A split of `count` black images of class 0, to be written over.
    pub(crate) fn zeroed(set: &'static Set, count: usize) -> Self {
        Split { set, images: vec![0; count * IMAGE], labels: vec![0; count] }
    }

    /// The number of images, N.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Image `i`, [32, 32, 3].
    ///
    /// # Panics
    /// When `i` is not below [`len`](Self::len), as a slice does.
    pub fn image(&self, i: usize) -> &[u8] {
        &self.images[i * IMAGE..][..IMAGE]
    }

    /// The images at these places, in their order.
    ///
    /// # Panics
    /// When a place is not below [`len`](Self::len).
    pub fn select(&self, places: &[u32]) -> Self {
        let mut images = Vec::with_capacity(places.len() * IMAGE);
        places.iter().for_each(|&place| images.extend_from_slice(self.image(place as usize)));
        Split {
            set: self.set,
            images,
            labels: places.iter().map(|&place| self.labels[place as usize]).collect(),
        }
    }

    /// BLAKE3 of name, images and labels, by which masks say which images they were made of.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.set.name.as_bytes());
        self.feed(&mut hasher);
        *hasher.finalize().as_bytes()
    }

    /// Feeds a hasher the number of images, their pixels and their labels.
    fn feed(&self, hasher: &mut blake3::Hasher) {
        hasher.update(&self.len().to_le_bytes()).update_rayon(&self.images).update(&self.labels);
    }

    /// The first `count` images; all of them when there are no more than that.
    pub fn truncated(mut self, count: usize) -> Self {
        self.labels.truncate(count);
        self.images.truncate(self.labels.len() * IMAGE);
        self.images.shrink_to_fit();
        self
    }
}

/// Training and test images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Images to train on.
    pub train: Split,
    /// Images to evaluate on.
    pub test: Split,
}

impl Dataset {
    /// The data set that they are of.
    pub fn set(&self) -> &'static Set {
        self.train.set
    }

    /// BLAKE3 of name, images and labels, by which processes know that they have the same.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.set().name.as_bytes());
        self.train.feed(&mut hasher);
        self.test.feed(&mut hasher);
        *hasher.finalize().as_bytes()
    }
}

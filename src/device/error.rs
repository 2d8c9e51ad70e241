//! What goes wrong on a device.

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The training data could not be read ahead.
    #[error(transparent)]
    Data(#[from] crate::data::Error),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] super::driver::Error),
    /// A training split gives whole batches only.
    #[error("this split was prepared for batches of {expected} images, and {found} were asked for")]
    Batch {
        /// The batch it was prepared for.
        expected: usize,
        /// The batch asked for.
        found: usize,
    },
    /// Images beyond the end of a split were asked for.
    #[error("image {last} was asked of a split of {images}")]
    Images {
        /// The last of the batch, from 1.
        last: usize,
        /// Images in the split.
        images: usize,
    },
    /// A sample's gradient is infinite or not a number.
    #[error(
        "the score of weight {index} is not finite: the weights, or a sample's gradient, are too large; \
         score weights that train well, or with --fisher-power absolute"
    )]
    Score {
        /// The weight's canonical index.
        index: u32,
    },
    /// A layer has more activations than a device's kernels count.
    #[error(
        "a layer has {values} activations, and the kernels count {most} at most: choose a smaller \
         --batch-size or --width"
    )]
    Activations {
        /// Activations of the layer.
        values: usize,
        /// The most that the kernels count.
        most: usize,
    },
    /// An epoch has more steps than a device keeps learning rates for.
    #[error("an epoch has at most {most} steps, not {steps}")]
    Steps {
        /// Steps of the epoch.
        steps: usize,
        /// The most that the device keeps rates for.
        most: usize,
    },
}

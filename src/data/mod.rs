//! CIFAR-10: readers, download, synthetic set, augmentation.

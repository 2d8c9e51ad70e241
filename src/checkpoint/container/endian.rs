//! Values as little-endian bytes.

use std::borrow::Cow;

/// The f32 values of a tensor.
pub fn values(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value))
}

/// The bytes of values in little-endian order: on most machines the values as they lie.
pub fn little_endian<T: bytemuck::NoUninit>(values: &[T]) -> Cow<'_, [u8]> {
    let bytes: &[u8] = bytemuck::cast_slice(values);
    if cfg!(target_endian = "little") {
        return Cow::Borrowed(bytes);
    }
    Cow::Owned(bytes.chunks(size_of::<T>()).flat_map(|value| value.iter().rev().copied()).collect())
}

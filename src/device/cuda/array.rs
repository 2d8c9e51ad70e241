//! Typed pieces of device memory.

use std::marker::PhantomData;
use std::ops::Range;

use bytemuck::Pod;
use half::f16;

use crate::device::driver::{Driver, Error};

/// `len` values of T on a device, freed when dropped.
pub struct Array<D: Driver, T> {
    buffer: D::Buffer,
    address: u64,
    len: usize,
    element: PhantomData<T>,
}

impl<D: Driver, T: Pod> Array<D, T> {
    /// Values, not initialised to anything in particular.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(driver: &D, len: usize) -> Result<Self, Error> {
        let buffer = driver.allocate(len * size_of::<T>())?;
        let address = driver.address(&buffer);
        Ok(Array { buffer, address, len, element: PhantomData })
    }

    /// All bits zero.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn zeroed(driver: &D, len: usize) -> Result<Self, Error> {
        let mut array = Self::new(driver, len)?;
        driver.clear(&mut array.buffer)?;
        Ok(array)
    }

    /// The values given.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn of(driver: &D, values: &[T]) -> Result<Self, Error> {
        let mut array = Self::new(driver, values.len())?;
        array.write(driver, values)?;
        Ok(array)
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Replaces the first values.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// If there are more than the array has.
    pub fn write(&mut self, driver: &D, values: &[T]) -> Result<(), Error> {
        assert!(values.len() <= self.len, "{} values written to an array of {}", values.len(), self.len);
        driver.upload(bytemuck::cast_slice(values), &mut self.buffer, 0)
    }

    /// The first `count` values.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn read(&self, driver: &D, count: usize) -> Result<Vec<T>, Error> {
        self.read_range(driver, 0..count)
    }

    /// The values of a range.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// If the range does not lie inside.
    pub fn read_range(&self, driver: &D, range: Range<usize>) -> Result<Vec<T>, Error> {
        self.check(&range);
        let mut values = vec![T::zeroed(); range.len()];
        driver.download(&self.buffer, range.start * size_of::<T>(), bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    }

    /// Where it begins on the device, for kernels that read it.
    pub fn pointer(&self) -> *const T {
        self.address as *const T
    }

    /// Where it begins, for kernels that write it.
    pub fn pointer_mut(&mut self) -> *mut T {
        self.address as *mut T
    }

    /// Where `range` begins, for kernels that read it.
    ///
    /// # Panics
    /// If the range does not lie inside.
    pub fn slice(&self, range: &Range<usize>) -> *const T {
        self.check(range);
        self.pointer().wrapping_add(range.start)
    }

    /// Where `range` begins, for kernels that write it.
    ///
    /// # Panics
    /// If the range does not lie inside.
    pub fn slice_mut(&mut self, range: &Range<usize>) -> *mut T {
        self.check(range);
        self.pointer_mut().wrapping_add(range.start)
    }

    fn check(&self, range: &Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of an array of {}", self.len);
    }
}

/// A vector of f32 and, for weights, the same rounded to f16, which the tensor cores read.
pub struct Vector<D: Driver> {
    /// \[n\].
    pub values: Array<D, f32>,
    /// \[n\], kept in step by whatever writes the values.
    pub halves: Option<Array<D, f16>>,
}

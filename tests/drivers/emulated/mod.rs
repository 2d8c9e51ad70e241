//! The emulated device runs kernels as a GPU would, and its checked build reports what a GPU would only
//! corrupt. The kernels are those of `kernels/testing`, made for these tests.
#![cfg(fishmask_emulated)]

mod checked;
mod launches;
mod primitives;

use bytemuck::Pod;
use fishmask::device::driver::{Driver, Error, Launch};
use fishmask::device::emulated::args::{TestArgs, testing};
use fishmask::device::emulated::{Buffer, Emulated};

/// A device and a buffer for each argument of a testing kernel.
struct Rig {
    device: Emulated,
    floats: Buffer,
    halves: Buffer,
    words: Buffer,
    longs: Buffer,
}

impl Rig {
    /// With room for so many of each; nobody has written them.
    fn new(device: Emulated, floats: usize, halves: usize, words: usize, longs: usize) -> Self {
        let room = |bytes| device.allocate(bytes).unwrap();
        let (floats, halves) = (room(4 * floats), room(2 * halves));
        let (words, longs) = (room(4 * words), room(8 * longs));
        Rig { device, floats, halves, words, longs }
    }

    fn args(&self, n: u32) -> TestArgs {
        let address = |buffer| self.device.address(buffer);
        TestArgs {
            floats: address(&self.floats) as *mut f32,
            halves: address(&self.halves) as *mut half::f16,
            words: address(&self.words) as *mut u32,
            longs: address(&self.longs) as *mut u64,
            n,
        }
    }

    fn run(&self, kernel: &'static str, launch: Launch, n: u32) -> Result<(), Error> {
        self.device.launch(&testing(kernel), launch, self.args(n))
    }

    fn get<T: Pod>(&self, buffer: &Buffer) -> Vec<T> {
        let mut values = vec![T::zeroed(); buffer.bytes() / size_of::<T>()];
        self.device.download(buffer, 0, bytemuck::cast_slice_mut(&mut values)).unwrap();
        values
    }
}

fn upload<T: Pod>(device: &Emulated, values: &[T], to: &mut Buffer) {
    device.upload(bytemuck::cast_slice(values), to, 0).unwrap();
}

/// Both builds, which must give the same bits.
fn both() -> [Emulated; 2] {
    [Emulated::new(), Emulated::checked()]
}

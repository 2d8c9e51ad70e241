//! Values at some indices, out of a vector and into it.

use crate::support::device::{Probe, on_cuda_devices, on_every_device};
use crate::support::normals;
use fishmask::device::driver::Driver;
use fishmask::device::{Buffers, Cuda};
use fishmask::ops::GatherOps;
use half::f16;

/// (length, indices): none, one, all, around a block.
fn cases() -> Vec<(usize, Vec<u32>)> {
    let every = |length: usize, step: usize| (length, (0..length as u32).step_by(step).collect());
    vec![(5, vec![]), (5, vec![4]), every(7, 1), every(256, 1), every(257, 1), every(40_003, 37)]
}

fn there_and_back<B: Probe>(mut backend: B) {
    for (length, indices) in cases() {
        let mut values = normals(&[length], 1).f32s();
        let mut vector = backend.upload_weights(&values).unwrap();
        let on_device = backend.indices(&indices).unwrap();
        let expected: Vec<f32> = indices.iter().map(|&i| values[i as usize]).collect();
        assert_eq!(backend.gather(&on_device, &vector).unwrap(), expected);

        let new = normals(&[indices.len()], 2).f32s();
        backend.scatter(&on_device, &new, &mut vector).unwrap();
        indices.iter().zip(&new).for_each(|(&i, &v)| values[i as usize] = v);
        assert_eq!(backend.read(&vector).unwrap(), values, "{} of {length}", indices.len());

        let all = normals(&[length], 3).f32s();
        backend.write(&all, &mut vector).unwrap();
        assert_eq!(backend.read(&vector).unwrap(), all);
        let mut plain = backend.vector(&values).unwrap();
        backend.scatter(&on_device, &new, &mut plain).unwrap();
        backend.clear(&mut plain).unwrap();
        assert_eq!(backend.read(&plain).unwrap(), vec![0.0; length]);
    }
}

/// What the tensor cores read is kept in step.
fn halves_follow<D: Driver>(backend: Cuda<D>) {
    for (length, indices) in cases() {
        let mut vector = backend.upload_weights(&normals(&[length], 1).f32s()).unwrap();
        let check = |vector: &fishmask::device::Vector<D>| {
            let halves = vector.halves.as_ref().unwrap().read(backend.driver(), length).unwrap();
            let values = backend.read(vector).unwrap();
            assert!(halves.iter().zip(values).all(|(h, v)| *h == f16::from_f32(v)));
        };
        let on_device = backend.indices(&indices).unwrap();
        backend.scatter(&on_device, &normals(&[indices.len()], 2).f32s(), &mut vector).unwrap();
        check(&vector);
        backend.write(&normals(&[length], 3).f32s(), &mut vector).unwrap();
        check(&vector);
    }
}

on_every_device!(there_and_back);
on_cuda_devices!(halves_follow);

//! Each function of `device.cuh` against values made by hand, in the fast and in the checked build.

use std::array::from_fn;

use fishmask::device::driver::{Driver, Launch};
use half::f16;

use super::{Rig, both, upload};

#[test]
fn exchanges_of_a_warp_emulated() {
    for device in both() {
        let n = 96;
        let rig = Rig::new(device, n, 1, 6 * n, n);
        rig.run("test_exchanges", Launch::new(1, n as u32), 0).unwrap();
        let words: Vec<u32> = rig.get(&rig.words);
        let (largest, longs): (Vec<f32>, Vec<u64>) = (rig.get(&rig.floats), rig.get(&rig.longs));
        for i in 0..n {
            let (warp, lane) = (i / 32 * 32, i % 32);
            let found: [u32; 6] = from_fn(|exchange| words[exchange * n + i]);
            let up = if lane < 4 { lane } else { lane - 4 };
            let down = if lane + 7 < 32 { lane + 7 } else { lane };
            let votes = (0..32).filter(|lane| (warp + lane) % 3 == 0).map(|lane| 1 << lane).sum();
            let sum = (0..32).map(|lane| 100 + warp + lane).sum::<usize>() as u32;
            let shown = [5, lane ^ 3, up, down].map(|lane| (100 + warp + lane) as u32);
            let [first, second, third, fourth] = shown;
            assert_eq!(found, [first, second, third, fourth, votes, sum], "thread {i}");
            assert_eq!(longs[i], (100 + warp as u64 + 31) << 32);
            assert!(if warp == 0 { largest[i].is_nan() } else { largest[i] == 6.0 });
        }
    }
}

#[test]
fn float_sums_have_the_order_of_shuffles_emulated() {
    // Values of very different sizes: another order would round otherwise.
    let values: Vec<f32> = (0..64).map(|i| 1.0e6_f32.powf((i * 7 % 64) as f32 / 32.0 - 1.0)).collect();
    for device in both() {
        let mut rig = Rig::new(device, 64, 1, 64, 1);
        upload(&rig.device, &values, &mut rig.floats);
        rig.run("test_float_sums", Launch::new(1, 64), 0).unwrap();
        let (found, shuffled): (Vec<u32>, Vec<u32>) = (rig.get(&rig.floats), rig.get(&rig.words));
        let mut sums = values.clone();
        for half in [16, 8, 4, 2, 1] {
            sums = (0..64).map(|i| sums[i] + sums[i ^ half]).collect();
        }
        let expected: Vec<u32> = sums.iter().map(|sum| sum.to_bits()).collect();
        assert_eq!(found, expected);
        assert_eq!(shuffled, expected);
    }
}

#[test]
fn blocks_know_their_place_in_grids_of_any_shape_emulated() {
    for device in both() {
        let mut rig = Rig::new(device, 1, 1, 24 * 1024, 24);
        for (grid, block) in [([5, 1, 1], 32), ([3, 2, 1], 1024), ([4, 3, 2], 96), ([1, 1, 7], 256)] {
            rig.device.clear(&mut rig.words).unwrap();
            rig.run("test_places", Launch { grid, block, shared: 4 * block }, 0).unwrap();
            let (words, grids): (Vec<u32>, Vec<u64>) = (rig.get(&rig.words), rig.get(&rig.longs));
            let blocks = grid.iter().product::<u32>();
            for i in 0..blocks * block {
                let (place, thread) = (i / block, i % block);
                let [x, y, z] = [place % grid[0], place / grid[0] % grid[1], place / grid[0] / grid[1]];
                let expected = x + 16 * y + 256 * z + 4096 * (block - 1 - thread);
                assert_eq!(words[i as usize], expected, "block {place}, thread {thread} of {grid:?}");
            }
            let [x, y, z] = grid.map(u64::from);
            assert!(grids[..blocks as usize].iter().all(|&g| g == x + 16 * y + 256 * z));
        }
    }
}

#[test]
fn atomics_see_every_thread_emulated() {
    for device in both() {
        let mut rig = Rig::new(device, 1, 1, 1, 1);
        rig.device.clear(&mut rig.words).unwrap();
        upload(&rig.device, &[u64::MAX], &mut rig.longs);
        rig.run("test_atomics", Launch::new(9, 64), 0).unwrap();
        assert_eq!(rig.get::<u32>(&rig.words), [(0..9 * 64).sum::<u32>()]);
        assert_eq!(rig.get::<u64>(&rig.longs), [(1000 - 575) << 33]);
    }
}

/// PTX ISA, ldmatrix: lane 4 g + t gets halves 2 t and 2 t + 1 of row g of each matrix; with `.trans`, of
/// column g.
#[test]
fn matrices_are_loaded_as_fragments_emulated() {
    let halves: Vec<u16> = (0..256).map(|i| 3 * i + 1).collect();
    for device in both() {
        let mut rig = Rig::new(device, 1, 256, 256, 1);
        upload(&rig.device, &halves, &mut rig.halves);
        rig.run("test_load_matrices", Launch::new(1, 32), 0).unwrap();
        let words: Vec<u32> = rig.get(&rig.words);
        for (matrix, lane) in (0..128).map(|i| (i / 32, i % 32)) {
            let (g, t) = (lane / 4, lane % 4);
            let at = |row: usize, column: usize| u32::from(halves[64 * matrix + 8 * row + column]);
            assert_eq!(words[32 * matrix + lane], at(g, 2 * t) | at(g, 2 * t + 1) << 16);
            assert_eq!(words[128 + 32 * matrix + lane], at(2 * t, g) | at(2 * t + 1, g) << 16);
        }
    }
}

/// Fragments by the tables of the PTX ISA for mma.m16n8k16, packed and unpacked in the kernel. Small
/// integers: exact.
#[test]
fn products_of_a_warp_emulated() {
    let a: Vec<i32> = (0..512).map(|i| i * 37 % 23 - 11).collect();
    let b: Vec<i32> = (0..384).map(|i| i * 53 % 19 - 9).collect();
    let halves: Vec<f16> = a.iter().chain(&b).map(|&value| f16::from_f32(value as f32)).collect();
    for device in both() {
        let mut rig = Rig::new(device, 768, 896, 1, 1);
        upload(&rig.device, &halves, &mut rig.halves);
        for times in [1, 3] {
            rig.run("test_product", Launch::new(1, 96), times as u32).unwrap();
            let found: Vec<f32> = rig.get(&rig.floats);
            for (row, column) in (0..768).map(|i| (i / 24, i % 24)) {
                let product: i32 = (0..16).map(|k| a[16 * row + k] * b[24 * k + column]).sum();
                assert_eq!(found[24 * row + column], (times * product) as f32, "row {row}, column {column}");
            }
        }
    }
}

/// Every finite half, infinity, a NaN: 1 x half + 0 sums back to it.
#[test]
fn halves_widen_and_round_emulated() {
    let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    // Every half, the middles between neighbours and their neighbours, and a spread of all floats.
    let middles = (0..0x7c00).flat_map(|bits| {
        let [low, high] = [bits, bits + 1].map(|b| f16::from_bits(b).to_f32());
        let middle = if bits == 0x7bff { 65520.0 } else { 0.5 * (low + high) };
        [middle.next_down(), middle, middle.next_up(), -middle]
    });
    let spread = (0..1 << 16).map(|i: u32| f32::from_bits(i.wrapping_mul(0x9E37_79B9)));
    let floats: Vec<f32> = middles.chain(spread).collect();
    let n = floats.len();
    let padded: Vec<f16> = halves.iter().copied().cycle().take(n).collect();
    for device in both() {
        let mut rig = Rig::new(device, n, n, 1, 1);
        upload(&rig.device, &padded, &mut rig.halves);
        upload(&rig.device, &floats, &mut rig.floats);
        rig.run("test_halves", Launch::new(1, 256), n as u32).unwrap();
        let (widened, rounded): (Vec<f32>, Vec<f16>) = (rig.get(&rig.floats), rig.get(&rig.halves));
        for i in 0..n {
            let (wide, exact) = (widened[i], padded[i].to_f32());
            assert!(wide.to_bits() == exact.to_bits() || wide.is_nan() && exact.is_nan(), "{:?}", padded[i]);
            let (half, nearest) = (rounded[i], f16::from_f32(floats[i]));
            let same = half.to_bits() == nearest.to_bits() || half.is_nan() && nearest.is_nan();
            assert!(same, "{} to {half}, not {nearest}", floats[i]);
        }
    }
}

#[test]
fn vectors_of_16_bytes_emulated() {
    for device in both() {
        let mut rig = Rig::new(device, 256, 512, 1, 1);
        let values: Vec<f32> = (0..512).map(|i| i as f32).collect();
        let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
        upload(&rig.device, &values[..256], &mut rig.floats);
        upload(&rig.device, &halves, &mut rig.halves);
        rig.run("test_vectors", Launch::new(1, 64), 0).unwrap();
        assert!(rig.get::<f32>(&rig.floats).iter().zip(&values).all(|(found, v)| *found == v + 1.0));
        assert!(rig.get::<f16>(&rig.halves).iter().zip(&values).all(|(found, v)| found.to_f32() == v + 1.0));
    }
}

#[test]
fn asynchronous_copies_arrive_with_their_group_emulated() {
    for device in both() {
        let n = 4 * 64;
        let mut rig = Rig::new(device, 1, 1, 3 * n, 1);
        let words: Vec<u32> = (0..3 * n as u32).collect();
        upload(&rig.device, &words, &mut rig.words);
        let launch = Launch { grid: [1; 3], block: 64, shared: 12 * n as u32 };
        rig.run("test_copies", launch, 0).unwrap();
        let found: Vec<u32> = rig.get(&rig.words);
        assert!((0..n).all(|i| found[i] == words[i] + 1));
        assert!((n..2 * n).all(|i| found[i] == words[i] + 2));
        assert_eq!(found[2 * n..], words[2 * n..]);
    }
}

//! Each mistake that the checked build knows, and beside it the same kernel without the mistake.

use fishmask::device::driver::{Driver, Error, Launch};
use fishmask::device::emulated::Emulated;

use super::{Rig, both, upload};

/// 128 words and 64 of the others, all written.
fn rig(device: Emulated) -> Rig {
    let mut rig = Rig::new(device, 64, 64, 128, 64);
    let Rig { device, floats, halves, words, longs } = &mut rig;
    [floats, halves, words, longs].into_iter().for_each(|buffer| device.clear(buffer).unwrap());
    rig
}

/// The reason for which a launch was stopped.
fn reason(outcome: Result<(), Error>) -> String {
    match outcome {
        Err(Error::Launch { reason, .. }) => reason,
        other => panic!("not stopped: {other:?}"),
    }
}

/// Runs a kernel with a mistake and looks for what the reason must say.
fn stopped(kernel: &'static str, blocks: u32, threads: u32, n: u32, says: &[&str]) {
    let found = reason(rig(Emulated::checked()).run(kernel, shaped(blocks, threads), n));
    assert!(says.iter().all(|part| found.contains(part)), "{kernel}({n}): {found}");
}

/// Runs a kernel that the checked build has nothing to say about.
fn passes(kernel: &'static str, blocks: u32, threads: u32, n: u32) {
    rig(Emulated::checked()).run(kernel, shaped(blocks, threads), n).unwrap();
}

fn shaped(blocks: u32, threads: u32) -> Launch {
    Launch { grid: [blocks, 1, 1], block: threads, shared: 16 * threads }
}

#[test]
fn an_access_outside_every_buffer_is_reported() {
    let place = "block [0, 0, 0], thread 3: ";
    let beyond =
        "4 bytes outside every buffer, at byte 512 of the buffer of 512 bytes at byte 16 of the arguments";
    stopped("test_reads_beyond", 1, 32, 128, &[place, "reads", beyond]);
    stopped("test_writes_beyond", 1, 32, 128, &[place, "writes", beyond]);
    stopped(
        "test_writes_before",
        1,
        32,
        0,
        &["writes 4 bytes outside", "at byte -4 of the buffer of 512 bytes"],
    );
    passes("test_reads_beyond", 1, 32, 127);
    passes("test_writes_beyond", 1, 32, 127);
}

#[test]
fn an_access_to_no_address_at_all_is_reported() {
    let rig = rig(Emulated::checked());
    let args = fishmask::device::emulated::args::TestArgs { words: std::ptr::null_mut(), ..rig.args(0) };
    let kernel = fishmask::device::emulated::args::testing("test_writes_nowhere");
    let found = reason(rig.device.launch(&kernel, Launch::new(1, 32), args));
    assert!(found.contains("thread 0: writes 4 bytes outside every buffer, at address 0x0"), "{found}");
}

#[test]
fn an_access_to_a_freed_buffer_is_reported() {
    let mut rig = rig(Emulated::checked());
    let args = rig.args(0);
    rig.words = rig.device.allocate(512).unwrap();
    let kernel = fishmask::device::emulated::args::testing("test_writes_nowhere");
    let found = reason(rig.device.launch(&kernel, Launch::new(1, 32), args));
    assert!(found.contains("writes 4 bytes outside every buffer, at byte 0 of the freed buffer"), "{found}");
    rig.run("test_writes_nowhere", Launch::new(1, 32), 0).unwrap();
}

#[test]
fn an_access_outside_shared_memory_is_reported() {
    let dynamic = "writes 1 bytes outside shared memory, at byte 512 of 512 bytes of dynamic shared memory";
    stopped("test_beyond_dynamic_shared", 1, 32, 512, &["thread 0", dynamic]);
    passes("test_beyond_dynamic_shared", 1, 32, 511);
    let array = "writes 1 bytes outside shared memory, at byte 16 of static shared array 0 of 16 bytes";
    stopped("test_beyond_static_shared", 1, 32, 16, &["thread 0", array]);
}

#[test]
fn a_misaligned_access_is_reported() {
    for device in both() {
        let found = reason(rig(device).run("test_misaligned", Launch::new(1, 32), 4));
        assert!(found.contains("thread 1: a misaligned access of 16 bytes"), "{found}");
    }
    passes("test_misaligned", 1, 32, 8);
    stopped("test_misaligned_word", 1, 32, 2, &["thread 1", "writes 4 bytes, at byte 2 of", "misaligned"]);
    passes("test_misaligned_word", 1, 32, 4);
}

#[test]
fn a_read_of_memory_nobody_wrote_is_reported() {
    let mut rig = Rig::new(Emulated::checked(), 1, 1, 64, 64);
    let unwritten = "reads 4 bytes, at byte 124 of the buffer of 256 bytes at byte 16 of the arguments, \
        which nobody wrote";
    upload(&rig.device, &[1_u8; 124], &mut rig.words);
    let found = reason(rig.run("test_copies_words", Launch::new(1, 32), 0));
    assert!(found.contains(&format!("thread 31: {unwritten}")), "{found}");
    rig.device.upload(&[1_u8; 4], &mut rig.words, 124).unwrap();
    rig.run("test_copies_words", Launch::new(1, 32), 0).unwrap();

    let mut rig = Rig::new(Emulated::checked(), 1, 1, 64, 64);
    let found = reason(rig.run("test_adds_to_words", Launch::new(1, 32), 0));
    assert!(found.contains("changes 4 bytes, at byte 0 of") && found.contains("nobody wrote"), "{found}");
    // What a kernel wrote is written.
    rig.run("test_writes_nowhere", Launch::new(1, 32), 0).unwrap();
    rig.run("test_copies_words", Launch::new(1, 32), 0).unwrap();
    rig.device.clear(&mut rig.words).unwrap();
    rig.run("test_adds_to_words", Launch::new(1, 32), 0).unwrap();
}

#[test]
fn shared_memory_starts_unwritten_in_every_block() {
    let says =
        ["thread 31", "reads 4 bytes, at byte 128 of static shared array 0 of 132 bytes, which nobody wrote"];
    stopped("test_reads_shared", 1, 32, 1, &says);
    passes("test_reads_shared", 1, 32, 0);
}

#[test]
fn a_barrier_not_reached_by_all_is_reported() {
    for device in both() {
        let rig = rig(device);
        let run = |kernel, n| reason(rig.run(kernel, Launch::new(1, 64), n));
        let found = run("test_misses_block_barrier", 40);
        assert!(found.contains("thread 0 waits for its block, thread 40 has ended"), "{found}");
        let found = run("test_misses_warp_barrier", 40);
        assert!(found.contains("thread 32 waits for its warp, thread 40 waits for its block"), "{found}");
        let found = run("test_misses_shuffle", 7);
        assert!(
            found.contains("thread 0 is at a shuffle") && found.contains("thread 7 has ended"),
            "{found}"
        );
        rig.run("test_misses_block_barrier", Launch::new(1, 64), 64).unwrap();
        rig.run("test_misses_shuffle", Launch::new(1, 64), 64).unwrap();
    }
}

#[test]
fn two_threads_at_one_address_without_a_barrier_are_reported() {
    // Barriers: 0 none, 1 a shuffle, which orders nothing, 2 the warp's, 3 the block's.
    for barrier in [0, 1] {
        let says = [
            "thread 1: reads 4 bytes, at byte 0 of static shared array 0",
            "which thread 0 wrote too, without a barrier between them",
        ];
        stopped("test_races_in_shared", 1, 64, barrier, &says);
        let says = ["of the buffer of 512 bytes", "without a barrier between them"];
        stopped("test_races_in_memory", 1, 64, barrier, &says);
    }
    for barrier in [2, 3] {
        passes("test_races_in_shared", 1, 64, barrier);
        passes("test_races_in_memory", 1, 64, barrier);
    }
    for barrier in [0, 1, 2] {
        stopped(
            "test_races_across_warps",
            1,
            64,
            barrier,
            &["which thread", "without a barrier between them"],
        );
        stopped(
            "test_overwrites",
            1,
            64,
            barrier,
            &["thread 40: writes 4 bytes", "reads too, without a barrier"],
        );
    }
    passes("test_races_across_warps", 1, 64, 3);
    passes("test_overwrites", 1, 64, 3);
    stopped("test_all_write", 1, 64, 0, &["thread 1: writes 4 bytes", "which thread 0 wrote too"]);
    passes("test_all_write", 1, 64, 1);
}

#[test]
fn neighbouring_bytes_and_atomics_are_no_race() {
    passes("test_neighbours", 1, 64, 0);
    passes("test_adds_and_reads", 1, 64, 64);
    stopped(
        "test_adds_and_reads",
        1,
        64,
        9,
        &["thread", "at byte 0 of the buffer", "without a barrier between them"],
    );
}

#[test]
fn two_blocks_at_one_address_are_reported() {
    let says = ["at byte 0 of the buffer of 512 bytes", "which another block of the launch wrote too"];
    stopped("test_blocks_write", 4, 32, 0, &says);
    passes("test_blocks_write", 4, 32, 1);
    stopped("test_blocks_read", 4, 32, 1, &["another block of the launch"]);
    passes("test_blocks_read", 4, 32, 0);
    passes("test_blocks_add", 8, 32, 0);
    // The next launch is ordered after this one.
    let rig = rig(Emulated::checked());
    (0..3).for_each(|_| rig.run("test_blocks_write", Launch::new(1, 32), 0).unwrap());
}

#[test]
fn a_copy_read_before_its_wait_is_reported() {
    let says = "reads 4 bytes, at byte 0 of 512 bytes of dynamic shared memory, where an asynchronous copy \
        has not been waited for";
    stopped("test_reads_a_copy", 1, 32, 0, &["thread 0", says]);
    passes("test_reads_a_copy", 1, 32, 1);
    stopped("test_reads_anothers_copy", 1, 32, 0, &["dynamic shared memory"]);
    stopped("test_reads_anothers_copy", 1, 32, 1, &["without a barrier between them"]);
    passes("test_reads_anothers_copy", 1, 32, 2);
}

#[test]
fn a_stack_overflow_is_reported() {
    passes("test_recurses", 1, 32, 3);
    stopped("test_recurses", 1, 32, 40, &["thread 0: a thread needs more than 32768 bytes of stack"]);
}

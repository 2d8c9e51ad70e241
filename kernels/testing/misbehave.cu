// Kernels that make one mistake each, or none, as n says; the checked build must report it.
#include "device.cuh"

#include "args/emulated.h"

// words (n): reads and writes one beyond.
KERNEL(test_reads_beyond, TestArgs, 32) {
    if (thread_index() == 3) args.longs[0] = args.words[args.n];
}
KERNEL(test_writes_beyond, TestArgs, 32) {
    if (thread_index() == 3) args.words[args.n] = 1;
}
KERNEL(test_writes_before, TestArgs, 32) {
    if (thread_index() == 3) args.words[-1] = 1;
}
KERNEL(test_writes_nowhere, TestArgs, 32) { args.words[thread_index()] = 1; }
// 16 bytes of dynamic shared memory, of static shared memory.
KERNEL(test_beyond_dynamic_shared, TestArgs, 32) {
    if (thread_index() == 0) dynamic_shared()[args.n] = 1;
}
KERNEL(test_beyond_static_shared, TestArgs, 32) {
    SHARED(uint8_t, bytes, 16);
    SHARED(uint8_t, others, 16);
    others[0] = 0;
    if (thread_index() == 0) bytes[args.n] = 1;
}
KERNEL(test_misaligned, TestArgs, 32) {
    if (thread_index() == 1) args.longs[0] = half_bits(load_half8(args.halves + args.n).v[0]);
}
KERNEL(test_misaligned_word, TestArgs, 32) {
    unsigned char* byte = reinterpret_cast<unsigned char*>(args.words) + args.n;
    if (thread_index() == 1) *reinterpret_cast<uint32_t*>(byte) = 1;
}

// Reads what nobody wrote, of a buffer, of shared memory.
KERNEL(test_copies_words, TestArgs, 32) {
    args.longs[thread_index()] = args.words[thread_index()];
}
KERNEL(test_reads_shared, TestArgs, 32) {
    SHARED(uint32_t, words, 33);
    words[thread_index()] = thread_index();
    block_sync();
    args.words[thread_index()] = words[thread_index() + args.n];
}
KERNEL(test_adds_to_words, TestArgs, 32) { atomic_add(&args.words[0], 1); }

// Barriers that thread n alone misses.
KERNEL(test_misses_block_barrier, TestArgs, 64) {
    if (thread_index() != args.n) block_sync();
}
KERNEL(test_misses_warp_barrier, TestArgs, 64) {
    if (thread_index() == args.n) {
        block_sync();
    } else {
        warp_sync();
    }
    block_sync();
}
KERNEL(test_misses_shuffle, TestArgs, 64) {
    uint32_t value = thread_index();
    if (thread_index() != args.n) value = warp_shuffle_xor(value, 1);
    args.words[thread_index()] = value;
}

// One thread's write and its neighbour's read, with the barrier that n says: 0 none, 1 a shuffle, 2 the
// warp's, 3 the block's.
DEVICE void barrier(uint32_t n) {
    if (n == 1) warp_shuffle(n, 0);
    if (n == 2) warp_sync();
    if (n == 3) block_sync();
}
KERNEL(test_races_in_shared, TestArgs, 64) {
    SHARED(uint32_t, words, 64);
    words[thread_index()] = 1;
    barrier(args.n);
    const uint32_t i = thread_index();
    args.words[i] = words[i / 2 * 2];
}
KERNEL(test_races_across_warps, TestArgs, 64) {
    SHARED(uint32_t, words, 64);
    words[thread_index()] = 1;
    barrier(args.n);
    args.words[thread_index()] = words[thread_index() % 32];
}
KERNEL(test_races_in_memory, TestArgs, 64) {
    args.words[thread_index()] = 1;
    barrier(args.n);
    args.longs[thread_index()] = args.words[thread_index() ^ 1];
}
// Everyone reads word 0, then, beyond the barrier, thread 40 overwrites it.
KERNEL(test_overwrites, TestArgs, 64) {
    const uint32_t word = args.words[0];
    barrier(args.n);
    if (thread_index() == 40) args.words[0] = 7;
    args.longs[thread_index()] = word;
}
// Everyone writes the same.
KERNEL(test_all_write, TestArgs, 64) { args.words[args.n * thread_index()] = 5; }
// Bytes and halves of one word by different threads are no race.
KERNEL(test_neighbours, TestArgs, 64) {
    SHARED(uint8_t, bytes, 64);
    bytes[thread_index()] = 1;
    args.halves[thread_index()] = to_half(2.0f);
    bytes[thread_index()] += 1;
    block_sync();
    args.words[thread_index()] = bytes[63 - thread_index()];
}
// Everyone adds; thread n also reads plainly.
KERNEL(test_adds_and_reads, TestArgs, 64) {
    atomic_add(&args.words[0], 1);
    if (thread_index() == args.n) args.longs[0] = args.words[0];
}

// Blocks that write the same word (n = 0), or each its own.
KERNEL(test_blocks_write, TestArgs, 32) {
    if (thread_index() == 0) args.words[args.n * block_x()] = 1;
}
// Blocks that read what their neighbour writes.
KERNEL(test_blocks_read, TestArgs, 32) {
    if (thread_index() == 0) {
        args.words[block_x()] = 1;
        args.longs[block_x()] = args.words[(block_x() + args.n) % grid_x()];
    }
}
KERNEL(test_blocks_add, TestArgs, 32) { atomic_add(&args.words[0], 1); }

// Reads an asynchronous copy after n = 0: nothing, 1: its wait.
KERNEL(test_reads_a_copy, TestArgs, 32) {
    uint32_t* shared = reinterpret_cast<uint32_t*>(dynamic_shared());
    const uint32_t i = 4 * thread_index();
    copy_async_16(shared + i, args.words + i, true);
    copy_async_commit();
    if (args.n == 1) copy_async_wait<0>();
    args.words[i] = shared[i];
    copy_async_wait<0>();
}
// Reads the neighbour's copy after its wait, without a barrier (n = 0), with one.
KERNEL(test_reads_anothers_copy, TestArgs, 32) {
    uint32_t* shared = reinterpret_cast<uint32_t*>(dynamic_shared());
    const uint32_t i = 4 * thread_index();
    copy_async_16(shared + i, args.words + i, true);
    copy_async_commit();
    copy_async_wait<0>();
    barrier(args.n);
    args.longs[thread_index()] = shared[i ^ 4];
}

// Frames that no stack holds are refused when the kernels are compiled; this one recurses.
static uint32_t deeper(uint32_t n, const uint32_t* words) {
    volatile uint32_t frame[256];
    for (uint32_t i = 0; i < 256; i++) frame[i] = words[i % 32] + n;
    return n == 0 ? frame[3] : deeper(n - 1, words) + frame[n % 256];
}
KERNEL(test_recurses, TestArgs, 32) { args.longs[thread_index()] = deeper(args.n, args.words); }

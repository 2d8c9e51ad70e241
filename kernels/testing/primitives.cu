// Kernels that show what each function of device.cuh does; tests/drivers/emulated compares with values made
// by hand.
#include "device.cuh"

#include "args/emulated.h"

// words (24, n): what each thread gets from each exchange of the values 100 + its index.
KERNEL(test_exchanges, TestArgs, 1024) {
    const uint32_t i = thread_index(), n = block_threads(), value = 100 + i;
    args.words[i] = warp_shuffle(value, 5);
    args.words[n + i] = warp_shuffle_xor(value, 3);
    args.words[2 * n + i] = warp_shuffle_up(value, 4);
    args.words[3 * n + i] = warp_shuffle_down(value, 7);
    args.words[4 * n + i] = warp_ballot(i % 3 == 0);
    args.words[5 * n + i] = warp_sum(value);
    args.floats[i] =
        warp_max(i % 32 == 9 && i < 32 ? float_from_bits(0x7fc00000) : static_cast<float>(i % 7));
    args.longs[i] = warp_shuffle(static_cast<uint64_t>(value) << 32, 31);
}

// floats (threads): the sum of each warp of floats, by the order that warp_sum promises.
KERNEL(test_float_sums, TestArgs, 1024) {
    const float value = args.floats[thread_index()];
    float shuffled = value;
    for (uint32_t mask = 16; mask > 0; mask /= 2) shuffled += warp_shuffle_xor(shuffled, mask);
    args.floats[thread_index()] = warp_sum(value);
    args.words[thread_index()] = float_bits(shuffled);
}

// words (blocks, threads): each block's indices, turned around through both kinds of shared memory.
KERNEL(test_places, TestArgs, 1024) {
    SHARED(uint32_t, forth, 1024);
    uint32_t* back = reinterpret_cast<uint32_t*>(dynamic_shared());
    const uint32_t i = thread_index(), last = block_threads() - 1;
    const uint32_t block = block_x() + grid_x() * (block_y() + grid_y() * block_z());
    forth[i] = block_x() + 16 * block_y() + 256 * block_z() + 4096 * i;
    block_sync();
    back[i] = forth[last - i];
    block_sync();
    args.words[block * block_threads() + i] = back[i];
    if (i == 0) args.longs[block] = grid_x() + 16 * grid_y() + 256 * grid_z();
}

// words (1), longs (1): a sum and a minimum over all threads of the grid.
KERNEL(test_atomics, TestArgs, 1024) {
    const uint32_t i = block_x() * block_threads() + thread_index();
    atomic_add(&args.words[0], i);
    atomic_min_u64(&args.longs[0], static_cast<uint64_t>(1000 - i) << 33);
}

// words (8, 32): four 8x8 matrices of the halves (32, 8), straight and transposed.
KERNEL(test_load_matrices, TestArgs, 32) {
    SHARED(f16, rows, 256);
    const uint32_t lane = thread_index();
    store_half8(rows + 8 * lane, load_half8(args.halves + 8 * lane));
    block_sync();
    uint32_t straight[4], transposed[4];
    load_matrix_x4(straight, rows + 8 * lane);
    load_matrix_x4_transposed(transposed, rows + 8 * lane);
    for (uint32_t i = 0; i < 4; i++) {
        args.words[32 * i + lane] = straight[i];
        args.words[128 + 32 * i + lane] = transposed[i];
    }
}

// floats (32, 24) = A (32, 16) B (16, 24), both row-major in halves, A first; n times.
KERNEL(test_product, TestArgs, 128) {
    const uint32_t lane = thread_index() % 32, g = lane / 4, t = lane % 4;
    const f16 *left = args.halves, *right = args.halves + 512;
    uint32_t a[2][4], b[3][2];
    for (uint32_t m = 0; m < 2; m++) {
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t row = 16 * m + g + 8 * (i % 2), k = 2 * t + 8 * (i / 2);
            a[m][i] = half_bits(left[16 * row + k]) | static_cast<uint32_t>(half_bits(left[16 * row + k + 1]))
                                                          << 16;
        }
    }
    for (uint32_t n = 0; n < 3; n++) {
        for (uint32_t i = 0; i < 2; i++) {
            const uint32_t k = 2 * t + 8 * i, column = 8 * n + g;
            b[n][i] = half_bits(right[24 * k + column]) |
                      static_cast<uint32_t>(half_bits(right[24 * (k + 1) + column])) << 16;
        }
    }
    float d[2][3][4] = {};
    for (uint32_t i = 0; i < args.n; i++) warp_mma(d, a, b);
    if (thread_index() < 32) {
        for (uint32_t m = 0; m < 2; m++) {
            for (uint32_t n = 0; n < 3; n++) {
                for (uint32_t i = 0; i < 4; i++) {
                    const uint32_t row = 16 * m + g + 8 * (i / 2), column = 8 * n + 2 * t + i % 2;
                    args.floats[24 * row + column] = d[m][n][i];
                }
            }
        }
    }
}

// words (3, 4 threads): 16 bytes a thread in each of three groups, the last of them zeros instead; each is
// read when its group has been waited for.
KERNEL(test_copies, TestArgs, 1024) {
    uint32_t* shared = reinterpret_cast<uint32_t*>(dynamic_shared());
    const uint32_t i = 4 * thread_index(), n = 4 * block_threads();
    for (uint32_t group = 0; group < 3; group++) {
        copy_async_16(shared + group * n + i, args.words + group * n + i, group < 2);
        copy_async_commit();
    }
    copy_async_wait<2>();
    for (uint32_t j = 0; j < 4; j++) args.words[i + j] = shared[i + j] + 1;
    copy_async_wait<0>();
    for (uint32_t j = 0; j < 4; j++) args.words[n + i + j] = shared[n + i + j] + shared[2 * n + i + j] + 2;
}

// floats (n): halves (n) widened; halves: floats rounded first.
KERNEL(test_halves, TestArgs, 256) {
    for (uint32_t i = thread_index(); i < args.n; i += block_threads()) {
        const float value = args.floats[i];
        args.floats[i] = to_float(args.halves[i]);
        args.halves[i] = to_half(value);
    }
}

// halves (8 threads), floats (4 threads): each plus one, 16 bytes at a time.
KERNEL(test_vectors, TestArgs, 256) {
    Half8 halves = load_half8(args.halves + 8 * thread_index());
    Float4 floats = load_float4(args.floats + 4 * thread_index());
    for (f16& value : halves.v) value = to_half(to_float(value) + 1.0f);
    for (float& value : floats.v) value += 1.0f;
    store_half8(args.halves + 8 * thread_index(), halves);
    store_float4(args.floats + 4 * thread_index(), floats);
}

// For timing: n products of 64 x 32 by a warp, n shuffles, n barriers, n elements.
KERNEL(test_many_products, TestArgs, 1024) {
    float d[4][4][4] = {};
    uint32_t a[4][4], b[4][2];
    for (uint32_t i = 0; i < 16; i++) a[i / 4][i % 4] = 0x3c003c00u;
    for (uint32_t i = 0; i < 8; i++) b[i / 2][i % 2] = 0x3c003c00u;
    for (uint32_t i = 0; i < args.n; i++) warp_mma(d, a, b);
    args.floats[block_x() * block_threads() + thread_index()] = d[3][2][1];
}
KERNEL(test_many_shuffles, TestArgs, 1024) {
    uint32_t value = thread_index();
    for (uint32_t i = 0; i < args.n; i++) value += warp_shuffle_xor(value, 1);
    args.words[block_x() * block_threads() + thread_index()] = value;
}
KERNEL(test_many_barriers, TestArgs, 1024) {
    for (uint32_t i = 0; i < args.n; i++) block_sync();
    args.words[block_x() * block_threads() + thread_index()] = args.n;
}
KERNEL(test_many_elements, TestArgs, 256) {
    const uint32_t stride = grid_x() * block_threads();
    for (uint32_t i = block_x() * block_threads() + thread_index(); i < args.n; i += stride) {
        args.floats[i] += static_cast<float>(args.words[i]);
    }
}

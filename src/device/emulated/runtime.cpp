// What the emulated kernels share, never instrumented: the running thread, and the matrix instruction.
#include "emulated.cuh"

// thread.rs and hooks.rs.
extern "C" {
void fishmask_wait_for_block(EmulatedThread* thread);
void fishmask_wait_for_warp(EmulatedThread* thread);
void fishmask_wait_for_exchange(EmulatedThread* thread);
void* fishmask_shared_array(EmulatedThread* thread, const void* key, size_t bytes);
[[noreturn]] void fishmask_stop(EmulatedThread* thread, const char* message);
void fishmask_check_atomic(const void* at, size_t bytes);
void fishmask_check_copy_begins(const void* to, const void* from);
void fishmask_check_copy_ends(const void* to);

thread_local EmulatedThread* fishmask_thread = nullptr;
extern const uint64_t fishmask_thread_bytes;
const uint64_t fishmask_thread_bytes = sizeof(EmulatedThread);

void fishmask_set_thread(EmulatedThread* thread) { fishmask_thread = thread; }
void fishmask_block_sync() { fishmask_wait_for_block(fishmask_thread); }
void fishmask_warp_sync() { fishmask_wait_for_warp(fishmask_thread); }
void fishmask_exchange() { fishmask_wait_for_exchange(fishmask_thread); }
void* fishmask_static_shared(const void* key, size_t bytes) {
    return fishmask_shared_array(fishmask_thread, key, bytes);
}
void fishmask_fault(const char* message) { fishmask_stop(fishmask_thread, message); }

uint32_t fishmask_thread_index() { return thread_index(); }
uint32_t fishmask_block_threads() { return block_threads(); }
uint32_t fishmask_block_index(uint32_t axis) { return fishmask_thread->block[axis]; }
uint32_t fishmask_grid(uint32_t axis) { return fishmask_thread->grid[axis]; }
unsigned char* fishmask_dynamic_shared() { return dynamic_shared(); }

const unsigned char* fishmask_show(const void* value, size_t bytes) {
    EmulatedThread* self = fishmask_thread;
    unsigned char* turn = self->exchange + 1024 * self->turn;
    self->turn ^= 1;
    memcpy(turn + 32 * (self->thread % 32), value, bytes);
    fishmask_exchange();
    return turn;
}

uint32_t fishmask_atomic_add(uint32_t* to, uint32_t value) {
    fishmask_check_atomic(to, sizeof(*to));
    return atomic_add(to, value);
}
uint64_t fishmask_atomic_min_u64(uint64_t* to, uint64_t value) {
    fishmask_check_atomic(to, sizeof(*to));
    return atomic_min_u64(to, value);
}

// Copies are kept back until their group is waited for, so that a missing wait shows.
void fishmask_copy_async(void* to, const void* from, bool valid) {
    EmulatedThread* self = fishmask_thread;
    if (self->copies == 64) fishmask_fault("more than 64 asynchronous copies under way in one thread");
    aligned_16(to);
    if (valid) aligned_16(from);
    if (self->checked) fishmask_check_copy_begins(to, valid ? from : nullptr);
    auto& copy = self->copy[self->copies++];
    copy.to = to;
    copy.from = from;
    copy.group = self->groups;
    copy.valid = valid;
}
void fishmask_copy_commit() { fishmask_thread->groups++; }
void fishmask_copy_wait(uint32_t pending) {
    EmulatedThread* self = fishmask_thread;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < self->copies; i++) {
        const auto copy = self->copy[i];
        if (copy.group + pending >= self->groups) {
            self->copy[kept++] = copy;
            continue;
        }
        if (self->checked) fishmask_check_copy_ends(copy.to);
        if (copy.valid) {
            memcpy(copy.to, copy.from, 16);
        } else {
            memset(copy.to, 0, 16);
        }
    }
    self->copies = kept;
}
}

#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
// Chosen when the program is loaded; each version gives the same bits.
#define FOR_EACH_CPU __attribute__((target_clones("default", "avx2", "avx512f"), optimize("O3")))
#else
#define FOR_EACH_CPU
#endif
#define INLINED inline __attribute__((always_inline))

namespace {

constexpr uint32_t MOST_M = 8, MOST_N = 16;

// Eight columns of f32: one instruction's row of D.
typedef float Row __attribute__((vector_size(32)));

// A warp's operands as plain matrices: A (16 m, 16), B (16, 8 n), C = A B (16 m, 8 n).
struct Tiles {
    alignas(64) uint16_t a_bits[16 * MOST_M * 16];
    alignas(64) uint16_t b_bits[16 * 8 * MOST_N];
    alignas(64) float a[16 * MOST_M * 16];
    alignas(64) Row b[16 * MOST_N];
    alignas(64) Row c[16 * MOST_M * MOST_N];
};
thread_local Tiles tiles;

// COLUMNS Rows of C from `first` on, each element summed in the order of k from 0. The product of two halves
// is exact in f32: a fused multiply-add would give the same bits.
template <uint32_t COLUMNS>
INLINED void multiply(Tiles& t, uint32_t rows, uint32_t stride, uint32_t first) {
    for (uint32_t row = 0; row < rows; row += 2) {
        Row upper[COLUMNS] = {}, lower[COLUMNS] = {};
        const float* left = t.a + 16 * row;
        for (uint32_t k = 0; k < 16; k++) {
            const Row* right = t.b + k * stride + first;
            for (uint32_t i = 0; i < COLUMNS; i++) {
                upper[i] += left[k] * right[i];
                lower[i] += left[16 + k] * right[i];
            }
        }
        for (uint32_t i = 0; i < COLUMNS; i++) {
            t.c[row * stride + first + i] = upper[i];
            t.c[(row + 1) * stride + first + i] = lower[i];
        }
    }
}

INLINED void multiply_tiles(Tiles& t, uint32_t m, uint32_t n) {
    float* b = reinterpret_cast<float*>(t.b);
    for (uint32_t i = 0; i < 256 * m; i++) t.a[i] = widen_half(t.a_bits[i]);
    for (uint32_t i = 0; i < 128 * n; i++) b[i] = widen_half(t.b_bits[i]);
    uint32_t done = 0;
    for (; done + 4 <= n; done += 4) multiply<4>(t, 16 * m, n, done);
    for (; done + 2 <= n; done += 2) multiply<2>(t, 16 * m, n, done);
    for (; done < n; done++) multiply<1>(t, 16 * m, n, done);
}

// From the lanes' fragments to plain matrices, and back. Lane 4 g + t holds, in pairs of columns 2 t and 2 t
// + 1 (rows, in B): of A rows g and g + 8, then the same 8 columns on; of B column g, then 8 rows on; of D
// rows g and g + 8.
INLINED void gather(Tiles& tile, const EmulatedProduct& own, uint32_t lane, uint32_t m, uint32_t n) {
    const uint32_t g = lane / 4, t = lane % 4;
    const uint32_t* a = own.a;
    for (uint32_t i = 0; i < m; i++, a += 4) {
        uint16_t* at = tile.a_bits + 256 * i + 16 * g + 2 * t;
        memcpy(at, a, 4);
        memcpy(at + 128, a + 1, 4);
        memcpy(at + 8, a + 2, 4);
        memcpy(at + 136, a + 3, 4);
    }
    const uint32_t row = 8 * n;
    const uint32_t* b = own.b;
    uint16_t* at = tile.b_bits + 2 * t * row + g;
    for (uint32_t j = 0; j < n; j++, b += 2, at += 8) {
        at[0] = static_cast<uint16_t>(b[0]);
        at[row] = static_cast<uint16_t>(b[0] >> 16);
        at[8 * row] = static_cast<uint16_t>(b[1]);
        at[9 * row] = static_cast<uint16_t>(b[1] >> 16);
    }
}
INLINED void scatter(const Tiles& tile, const EmulatedProduct& own, uint32_t lane, uint32_t m, uint32_t n) {
    const uint32_t g = lane / 4, t = lane % 4, row = 8 * n;
    float* d = own.d;
    for (uint32_t i = 0; i < m; i++) {
        const float* from = reinterpret_cast<const float*>(tile.c) + (16 * i + g) * row + 2 * t;
        for (uint32_t j = 0; j < n; j++, d += 4, from += 8) {
            const float sums[4] = {from[0], from[1], from[8 * row], from[8 * row + 1]};
            for (uint32_t k = 0; k < 4; k++) d[k] += sums[k];
        }
    }
}

FOR_EACH_CPU void multiply_lanes(Tiles& tile, const EmulatedProduct* lanes, uint32_t m, uint32_t n) {
    for (uint32_t lane = 0; lane < 32; lane++) gather(tile, lanes[lane], lane, m, n);
    multiply_tiles(tile, m, n);
    for (uint32_t lane = 0; lane < 32; lane++) scatter(tile, lanes[lane], lane, m, n);
}

}  // namespace

extern "C" void fishmask_warp_mma(const unsigned char* shown) {
    EmulatedProduct lanes[32];
    for (uint32_t lane = 0; lane < 32; lane++) {
        memcpy(&lanes[lane], shown + 32 * lane, sizeof(EmulatedProduct));
        if (lanes[lane].m != lanes[0].m || lanes[lane].n != lanes[0].n) {
            fishmask_fault("lanes of a warp in different matrix products");
        }
    }
    multiply_lanes(tiles, lanes, lanes[0].m, lanes[0].n);
}

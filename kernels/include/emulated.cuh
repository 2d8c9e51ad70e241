// device.cuh for the host's C++ compiler; src/device/emulated resumes one coroutine for each CUDA thread.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

// What a CUDA thread knows of itself; src/device/emulated/thread.rs has the same fields.
struct EmulatedThread {
    // The scheduler's.
    void* yielder;
    void* block_state;
    // Dynamic shared memory of the block.
    unsigned char* shared;
    // What the warp's lanes show each other: two turns of 32 lanes of 32 bytes.
    unsigned char* exchange;
    uint32_t thread;
    uint32_t threads;
    uint32_t block[3];
    uint32_t grid[3];
    // Whether the checked build runs.
    uint32_t checked;
    // Which of the exchange's two turns is next.
    uint32_t turn;
    // Copies begun and not yet done, and groups closed.
    uint32_t copies;
    uint32_t groups;
    struct {
        void* to;
        const void* from;
        uint32_t group;
        bool valid;
    } copy[64];
};

// A lane's share of D[m][n] += A[m] B[n]; see warp_mma.
struct EmulatedProduct {
    float* d;
    const uint32_t* a;
    const uint32_t* b;
    uint32_t m, n;
};

// runtime.cpp; never instrumented.
extern "C" {
extern thread_local EmulatedThread* fishmask_thread;
void fishmask_block_sync();
void fishmask_warp_sync();
// Waits for the warp's lanes at a shuffle or the like. It orders no accesses.
void fishmask_exchange();
// The block's static shared array that `key` stands for.
void* fishmask_static_shared(const void* key, size_t bytes);
// Stops the launch with this message.
[[noreturn]] void fishmask_fault(const char* message);
// The products of a warp's 32 `EmulatedProduct`s, one each 32 bytes.
void fishmask_warp_mma(const unsigned char* shown);
void fishmask_copy_async(void* to, const void* from, bool valid);
void fishmask_copy_commit();
void fishmask_copy_wait(uint32_t pending);
}

#ifdef FISHMASK_CHECKED
// Calls in place of accesses, so that only accesses to the kernel's own memory are instrumented.
extern "C" {
[[gnu::const]] uint32_t fishmask_thread_index();
[[gnu::const]] uint32_t fishmask_block_threads();
[[gnu::const]] uint32_t fishmask_block_index(uint32_t axis);
[[gnu::const]] uint32_t fishmask_grid(uint32_t axis);
[[gnu::const]] unsigned char* fishmask_dynamic_shared();
const unsigned char* fishmask_show(const void* value, size_t bytes);
uint32_t fishmask_atomic_add(uint32_t* to, uint32_t value);
uint64_t fishmask_atomic_min_u64(uint64_t* to, uint64_t value);
}
#endif

#define DEVICE inline
#define KERNEL(name, Arguments, THREADS)                                          \
    static void name(const Arguments& args);                                      \
    extern "C" void FISHMASK_ENTRY(name)(const void* args) {                      \
        name(*static_cast<const Arguments*>(args));                               \
    }                                                                             \
    extern "C" const uint32_t FISHMASK_ENTRY(name##_limits)[2] = {(THREADS), sizeof(Arguments)}; \
    static void name(const Arguments& args)
#define FISHMASK_JOIN2(a, b) a##b
#define FISHMASK_JOIN(a, b) FISHMASK_JOIN2(a, b)
// FISHMASK_PREFIX differs between the fast and the checked build.
#define FISHMASK_ENTRY(name) FISHMASK_JOIN(FISHMASK_PREFIX, name)
#define UNROLL
#define ROLLED
#define SHARED(type, name, count)       \
    static const char name##_key = 0;   \
    type* const name = static_cast<type*>(fishmask_static_shared(&name##_key, sizeof(type) * (count)))

namespace {

inline uint16_t round_to_half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    const uint32_t sign = bits >> 16 & 0x8000;
    const uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return sign | 0x7fff;
    // Half of the step above 65504 rounds to infinity.
    if (magnitude >= 0x477ff000) return sign | 0x7c00;
    if (magnitude < 0x38800000) {
        // Denormal: adding 0.5 rounds at 2^-24.
        float scaled;
        memcpy(&scaled, &magnitude, 4);
        scaled += 0.5f;
        uint32_t rounded;
        memcpy(&rounded, &scaled, 4);
        return sign | (rounded - 0x3f000000);
    }
    return sign | ((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13);
}

// Without a branch, so that loops over it become vector instructions.
inline __attribute__((always_inline)) float widen_half(uint16_t half) {
    const uint32_t magnitude = half & 0x7fff;
    // The exponent's bias is 112 more, and infinity's exponent 224 more.
    const uint32_t normal = (magnitude << 13) + (112u << 23) + (magnitude + 0x400) / 0x8000 * (112u << 23);
    // A denormal is the mantissa on top of 2^-14, less 2^-14.
    const uint32_t raised = (magnitude << 13) + (113u << 23);
    float value;
    memcpy(&value, &raised, 4);
    value -= 0x1p-14f;
    uint32_t bits;
    memcpy(&bits, &value, 4);
    // All ones for a denormal.
    const uint32_t denormal = 0u - ((magnitude - 0x400) >> 31);
    bits = (bits & denormal) | (normal & ~denormal) | static_cast<uint32_t>(half & 0x8000) << 16;
    memcpy(&value, &bits, 4);
    return value;
}

}  // namespace

struct f16 {
    uint16_t bits;
};

namespace {

#ifdef FISHMASK_CHECKED
DEVICE uint32_t thread_index() { return fishmask_thread_index(); }
DEVICE uint32_t block_threads() { return fishmask_block_threads(); }
DEVICE uint32_t block_x() { return fishmask_block_index(0); }
DEVICE uint32_t block_y() { return fishmask_block_index(1); }
DEVICE uint32_t block_z() { return fishmask_block_index(2); }
DEVICE uint32_t grid_x() { return fishmask_grid(0); }
DEVICE uint32_t grid_y() { return fishmask_grid(1); }
DEVICE uint32_t grid_z() { return fishmask_grid(2); }
DEVICE unsigned char* dynamic_shared() { return fishmask_dynamic_shared(); }
#else
DEVICE uint32_t thread_index() { return fishmask_thread->thread; }
DEVICE uint32_t block_threads() { return fishmask_thread->threads; }
DEVICE uint32_t block_x() { return fishmask_thread->block[0]; }
DEVICE uint32_t block_y() { return fishmask_thread->block[1]; }
DEVICE uint32_t block_z() { return fishmask_thread->block[2]; }
DEVICE uint32_t grid_x() { return fishmask_thread->grid[0]; }
DEVICE uint32_t grid_y() { return fishmask_thread->grid[1]; }
DEVICE uint32_t grid_z() { return fishmask_thread->grid[2]; }
DEVICE unsigned char* dynamic_shared() { return fishmask_thread->shared; }
#endif
DEVICE void block_sync() { fishmask_block_sync(); }
DEVICE void warp_sync() { fishmask_warp_sync(); }

// Shows `value` to the warp and returns where lane 0's is; lane i's is 32 i bytes on. Turns alternate, so
// that a lane may write its next value while others still read this one.
template <typename T>
DEVICE const unsigned char* warp_show(const T& value) {
    static_assert(sizeof(T) <= 32, "a lane shows at most 32 bytes");
#ifdef FISHMASK_CHECKED
    return fishmask_show(&value, sizeof(T));
#else
    EmulatedThread* self = fishmask_thread;
    unsigned char* turn = self->exchange + 1024 * self->turn;
    self->turn ^= 1;
    memcpy(turn + 32 * (self->thread % 32), &value, sizeof(T));
    fishmask_exchange();
    return turn;
#endif
}
template <typename T>
DEVICE T shown_by(const unsigned char* turn, uint32_t lane) {
    T value;
    memcpy(&value, turn + 32 * lane, sizeof(T));
    return value;
}
template <typename T>
DEVICE T warp_shuffle(T value, uint32_t lane) { return shown_by<T>(warp_show(value), lane % 32); }
template <typename T>
DEVICE T warp_shuffle_xor(T value, uint32_t mask) {
    return shown_by<T>(warp_show(value), (thread_index() % 32) ^ mask);
}
template <typename T>
DEVICE T warp_shuffle_up(T value, uint32_t by) {
    const uint32_t lane = thread_index() % 32;
    return shown_by<T>(warp_show(value), lane >= by ? lane - by : lane);
}
template <typename T>
DEVICE T warp_shuffle_down(T value, uint32_t by) {
    const uint32_t lane = thread_index() % 32;
    return shown_by<T>(warp_show(value), lane + by < 32 ? lane + by : lane);
}
DEVICE uint32_t warp_ballot(bool vote) {
    const unsigned char* turn = warp_show<uint32_t>(vote);
    uint32_t votes = 0;
    for (uint32_t lane = 0; lane < 32; lane++) votes |= shown_by<uint32_t>(turn, lane) << lane;
    return votes;
}

// One exchange, and the same order as five shuffles.
template <typename T>
DEVICE T warp_sum(T value) {
    const unsigned char* shown = warp_show(value);
    T sums[32];
    for (uint32_t lane = 0; lane < 32; lane++) sums[lane] = shown_by<T>(shown, lane);
    for (uint32_t half = 16; half > 0; half /= 2) {
        for (uint32_t lane = 0; lane < half; lane++) sums[lane] += sums[lane + half];
    }
    return sums[0];
}
DEVICE float warp_max(float value) {
    const unsigned char* shown = warp_show(value);
    float largest = shown_by<float>(shown, 0);
    for (uint32_t lane = 1; lane < 32; lane++) {
        const float other = shown_by<float>(shown, lane);
        largest = largest > other || largest != largest ? largest : other;
    }
    return largest;
}

#ifdef FISHMASK_CHECKED
DEVICE uint32_t atomic_add(uint32_t* to, uint32_t value) { return fishmask_atomic_add(to, value); }
DEVICE uint64_t atomic_min_u64(uint64_t* to, uint64_t value) { return fishmask_atomic_min_u64(to, value); }
#else
DEVICE uint32_t atomic_add(uint32_t* to, uint32_t value) {
    return __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}
DEVICE uint64_t atomic_min_u64(uint64_t* to, uint64_t value) {
    uint64_t found = __atomic_load_n(to, __ATOMIC_RELAXED);
    while (value < found &&
           !__atomic_compare_exchange_n(to, &found, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return found;
}
#endif

struct alignas(16) Half8 {
    f16 v[8];
};
struct alignas(16) Float4 {
    float v[4];
};
DEVICE void aligned_16(const void* at) {
    if (reinterpret_cast<uintptr_t>(at) % 16 != 0) fishmask_fault("a misaligned access of 16 bytes");
}
template <typename Vector>
DEVICE Vector load_16(const void* from) {
    static_assert(sizeof(Vector) == 16, "one access of 16 bytes");
    aligned_16(from);
    Vector vector;
    memcpy(&vector, from, 16);
    return vector;
}
template <typename Vector>
DEVICE void store_16(void* to, const Vector& vector) {
    static_assert(sizeof(Vector) == 16, "one access of 16 bytes");
    aligned_16(to);
    memcpy(to, &vector, 16);
}
DEVICE Half8 load_half8(const f16* from) { return load_16<Half8>(from); }
DEVICE void store_half8(f16* to, const Half8& value) { store_16(to, value); }
DEVICE Float4 load_float4(const float* from) { return load_16<Float4>(from); }
DEVICE void store_float4(float* to, const Float4& value) { store_16(to, value); }

DEVICE float to_float(f16 value) { return widen_half(value.bits); }
DEVICE f16 to_half(float value) { return f16{round_to_half(value)}; }
DEVICE uint16_t half_bits(f16 value) { return value.bits; }
DEVICE f16 half_from_bits(uint16_t bits) { return f16{bits}; }
DEVICE void unpack_halves(uint32_t word, float& first, float& second) {
    first = widen_half(static_cast<uint16_t>(word));
    second = widen_half(static_cast<uint16_t>(word >> 16));
}
DEVICE uint32_t pack_halves(float first, float second) {
    return round_to_half(first) | static_cast<uint32_t>(round_to_half(second)) << 16;
}
DEVICE float multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE float multiply(float a, float b) { return a * b; }
DEVICE float add(float a, float b) { return a + b; }
DEVICE float exponential(float x) { return __builtin_expf(x); }
DEVICE float logarithm(float x) { return __builtin_logf(x); }
DEVICE float square_root(float x) { return __builtin_sqrtf(x); }
DEVICE float reciprocal_sqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
DEVICE uint32_t float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}
DEVICE float float_from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
DEVICE uint32_t multiply_high(uint32_t a, uint32_t b) { return static_cast<uint64_t>(a) * b >> 32; }
DEVICE uint32_t population(uint32_t x) { return __builtin_popcount(x); }
DEVICE bool is_nan(float x) { return x != x; }
DEVICE float magnitude(float x) { return __builtin_fabsf(x); }
DEVICE float larger_or_nan(float a, float b) {
    // Of two zeros the positive one.
    if (a == b) return float_from_bits(float_bits(a) & float_bits(b));
    return a > b || is_nan(a) ? a : b;
}
DEVICE bool is_finite(double x) { return x - x == 0; }
DEVICE double multiply_add(double a, double b, double c) { return __builtin_fma(a, b, c); }
DEVICE double reciprocal_sqrt(double x) { return 1 / __builtin_sqrt(x); }

template <int M, int N>
DEVICE void warp_mma(float (&d)[M][N][4], const uint32_t (&a)[M][4], const uint32_t (&b)[N][2]) {
    static_assert(M <= 8 && N <= 16, "larger than the emulation's tiles");
    // Lane 0 is the first to go on, and computes for all of them while they still wait.
    const EmulatedProduct mine = {&d[0][0][0], &a[0][0], &b[0][0], M, N};
    const unsigned char* shown = warp_show(mine);
    if (thread_index() % 32 == 0) fishmask_warp_mma(shown);
    // Whatever the compiler knew of D has changed.
    asm volatile("" : : "r"(&d[0][0][0]) : "memory");
}

// Each lane reads the row whose address it gives, and takes its halves of the rows that others show.
DEVICE void load_matrices(uint32_t (&r)[4], const f16* row, bool transposed) {
    const unsigned char* shown = warp_show(load_half8(row));
    const uint32_t lane = thread_index() % 32, g = lane / 4, t = lane % 4;
    for (uint32_t matrix = 0; matrix < 4; matrix++) {
        const unsigned char* rows = shown + 32 * 8 * matrix;
        if (transposed) {
            uint16_t low, high;
            memcpy(&low, rows + 32 * (2 * t) + 2 * g, 2);
            memcpy(&high, rows + 32 * (2 * t + 1) + 2 * g, 2);
            r[matrix] = low | static_cast<uint32_t>(high) << 16;
        } else {
            memcpy(&r[matrix], rows + 32 * g + 4 * t, 4);
        }
    }
}
DEVICE void load_matrix_x4(uint32_t (&r)[4], const f16* row) { load_matrices(r, row, false); }
DEVICE void load_matrix_x4_transposed(uint32_t (&r)[4], const f16* row) { load_matrices(r, row, true); }

DEVICE void copy_async_16(void* to, const void* from, bool valid) { fishmask_copy_async(to, from, valid); }
DEVICE void copy_async_16_cached(void* to, const void* from, bool valid) { copy_async_16(to, from, valid); }
DEVICE void copy_async_commit() { fishmask_copy_commit(); }
template <int PENDING>
DEVICE void copy_async_wait() {
    fishmask_copy_wait(PENDING);
}

}  // namespace

// The device as kernels see it: the only file with intrinsics or inline PTX.
//
// The same .cu files are compiled by nvcc for a GPU and, with FISHMASK_EMULATED, by the host's C++ compiler
// for src/device/emulated, where every CUDA thread is a coroutine. Everything is in an unnamed namespace,
// because the host compiles each kernel twice (fast and checked) into one program.
//
// Blocks are one-dimensional, a multiple of 32 threads. A kernel is written
//
//     KERNEL(name, Arguments, THREADS) { ... args.x ... }
//
// with one plain struct of arguments, which an args.rs under src defines for both sides.
#pragma once

#ifdef FISHMASK_EMULATED
#include "emulated.cuh"
#else
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>

using f16 = __half;

#define DEVICE __device__ __forceinline__
#define KERNEL(name, Arguments, THREADS) \
    extern "C" __global__ void __launch_bounds__(THREADS) name(const __grid_constant__ Arguments args)
// A shared array of a block, at function scope.
#define SHARED(type, name, count) __shared__ type name[count]
// Before a loop whose bounds are constants: its counter indexes registers.
#define UNROLL _Pragma("unroll")
// Before a loop whose copies would cost too many registers.
#define ROLLED _Pragma("unroll 1")

namespace {

DEVICE uint32_t thread_index() { return threadIdx.x; }
DEVICE uint32_t block_threads() { return blockDim.x; }
DEVICE uint32_t block_x() { return blockIdx.x; }
DEVICE uint32_t block_y() { return blockIdx.y; }
DEVICE uint32_t block_z() { return blockIdx.z; }
DEVICE uint32_t grid_x() { return gridDim.x; }
DEVICE uint32_t grid_y() { return gridDim.y; }
DEVICE uint32_t grid_z() { return gridDim.z; }

// The launch's dynamic shared memory, 128-byte aligned.
DEVICE unsigned char* dynamic_shared() {
    extern __shared__ __align__(128) unsigned char fishmask_dynamic_shared[];
    return fishmask_dynamic_shared;
}

// Waits for all threads of the block; orders their accesses to shared and global memory.
DEVICE void block_sync() { __syncthreads(); }
// Does the same within a warp.
DEVICE void warp_sync() { __syncwarp(); }

// All 32 lanes take part in each of these.
template <typename T>
DEVICE T warp_shuffle(T value, uint32_t lane) { return __shfl_sync(0xffffffffu, value, lane); }
template <typename T>
DEVICE T warp_shuffle_xor(T value, uint32_t mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
template <typename T>
DEVICE T warp_shuffle_up(T value, uint32_t by) { return __shfl_up_sync(0xffffffffu, value, by); }
template <typename T>
DEVICE T warp_shuffle_down(T value, uint32_t by) { return __shfl_down_sync(0xffffffffu, value, by); }
DEVICE uint32_t warp_ballot(bool vote) { return __ballot_sync(0xffffffffu, vote); }
// The sum over the warp, for every lane: by halves, lane i with i ^ 16 first, then i ^ 8 and so on.
template <typename T>
DEVICE T warp_sum(T value) {
#pragma unroll
    for (uint32_t mask = 16; mask > 0; mask /= 2) value += warp_shuffle_xor(value, mask);
    return value;
}
// The largest of the warp, for every lane. A NaN outlasts every number.
DEVICE float warp_max(float value) {
#pragma unroll
    for (uint32_t mask = 16; mask > 0; mask /= 2) {
        const float other = warp_shuffle_xor(value, mask);
        value = value > other || value != value ? value : other;
    }
    return value;
}

// Integers only: they give the same sum in any order. Returns the value before.
DEVICE uint32_t atomic_add(uint32_t* to, uint32_t value) { return atomicAdd(to, value); }
DEVICE uint64_t atomic_min_u64(uint64_t* to, uint64_t value) {
    return atomicMin(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
}

// 16 bytes in one access, 16-byte aligned.
struct alignas(16) Half8 {
    f16 v[8];
};
struct alignas(16) Float4 {
    float v[4];
};
template <typename Vector>
DEVICE Vector load_16(const void* from) {
    static_assert(sizeof(Vector) == 16, "one access of 16 bytes");
    const uint4 bits = *static_cast<const uint4*>(from);
    Vector vector;
    memcpy(&vector, &bits, 16);
    return vector;
}
template <typename Vector>
DEVICE void store_16(void* to, const Vector& vector) {
    static_assert(sizeof(Vector) == 16, "one access of 16 bytes");
    uint4 bits;
    memcpy(&bits, &vector, 16);
    // An assignment becomes four stores of 4 bytes wherever the compiler loses the alignment on the way.
    asm volatile("st.v4.b32 [%0], {%1, %2, %3, %4};\n" ::"l"(to), "r"(bits.x), "r"(bits.y), "r"(bits.z),
                 "r"(bits.w)
                 : "memory");
}
DEVICE Half8 load_half8(const f16* from) { return load_16<Half8>(from); }
DEVICE void store_half8(f16* to, const Half8& value) { store_16(to, value); }
DEVICE Float4 load_float4(const float* from) { return load_16<Float4>(from); }
DEVICE void store_float4(float* to, const Float4& value) { store_16(to, value); }

DEVICE float to_float(f16 value) { return __half2float(value); }
// Rounds to the nearest, ties to even.
DEVICE f16 to_half(float value) { return __float2half_rn(value); }
DEVICE uint16_t half_bits(f16 value) { return __half_as_ushort(value); }
DEVICE f16 half_from_bits(uint16_t bits) { return __ushort_as_half(bits); }
// Two halves of a word, the first in its low bits: one instruction each way.
DEVICE void unpack_halves(uint32_t word, float& first, float& second) {
    __half2 pair;
    memcpy(&pair, &word, 4);
    const float2 values = __half22float2(pair);
    first = values.x;
    second = values.y;
}
DEVICE uint32_t pack_halves(float first, float second) {
    const __half2 pair = __floats2half2_rn(first, second);
    uint32_t word;
    memcpy(&word, &pair, 4);
    return word;
}
DEVICE float multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }
// A product and a sum that the compiler must not contract.
DEVICE float multiply(float a, float b) { return __fmul_rn(a, b); }
DEVICE float add(float a, float b) { return __fadd_rn(a, b); }
DEVICE float exponential(float x) { return expf(x); }
DEVICE float logarithm(float x) { return logf(x); }
DEVICE float square_root(float x) { return sqrtf(x); }
DEVICE float reciprocal_sqrt(float x) { return 1.0f / sqrtf(x); }
DEVICE uint32_t float_bits(float x) { return __float_as_uint(x); }
DEVICE float float_from_bits(uint32_t x) { return __uint_as_float(x); }
DEVICE uint32_t multiply_high(uint32_t a, uint32_t b) { return __umulhi(a, b); }
DEVICE uint32_t population(uint32_t x) { return __popc(x); }
DEVICE bool is_nan(float x) { return x != x; }
DEVICE float magnitude(float x) { return fabsf(x); }
// The larger of two numbers; NaN if either is NaN.
DEVICE float larger_or_nan(float a, float b) {
    float larger;
    asm("max.NaN.f32 %0, %1, %2;\n" : "=f"(larger) : "f"(a), "f"(b));
    return larger;
}
DEVICE bool is_finite(double x) { return x - x == 0; }
DEVICE double multiply_add(double a, double b, double c) { return __fma_rn(a, b, c); }
DEVICE double reciprocal_sqrt(double x) { return 1 / sqrt(x); }

// D[m][n] += A[m] B[n] for one warp and each m < M, n < N: A 16x16 f16 row-major, B 16x8 f16 column-major, D
// 16x8 f32, in mma.sync's fragment layout (PTX ISA, "Matrix fragments for mma.m16n8k16"). The order of the 16
// sums of an instruction is the hardware's own; the emulation adds in the order of k, then to D.
template <int M, int N>
DEVICE void warp_mma(float (&d)[M][N][4], const uint32_t (&a)[M][4], const uint32_t (&b)[N][2]) {
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int n = 0; n < N; n++) {
            asm volatile(
                "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                : "+f"(d[m][n][0]), "+f"(d[m][n][1]), "+f"(d[m][n][2]), "+f"(d[m][n][3])
                : "r"(a[m][0]), "r"(a[m][1]), "r"(a[m][2]), "r"(a[m][3]), "r"(b[n][0]), "r"(b[n][1]));
        }
    }
}

// Four 8x8 f16 matrices from shared memory; lane i gives the address of row i % 8 of matrix i / 8, 16-byte
// aligned.
DEVICE void load_matrix_x4(uint32_t (&r)[4], const f16* row) {
    const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
}
// Does the same, with each matrix transposed.
DEVICE void load_matrix_x4_transposed(uint32_t (&r)[4], const f16* row) {
    const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
}

// Begins copying 16 bytes from global to shared memory, or zeros if not valid; both 16-byte aligned.
DEVICE void copy_async_16(void* to, const void* from, bool valid) {
    const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
    const uint32_t bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(address), "l"(from), "r"(bytes));
}
// Does the same through the L1 cache, for what the block reads again soon.
DEVICE void copy_async_16_cached(void* to, const void* from, bool valid) {
    const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
    const uint32_t bytes = valid ? 16 : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;\n" ::"r"(address), "l"(from), "r"(bytes));
}
// Closes a group of this thread's copies.
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;\n" ::); }
// Waits until at most PENDING of this thread's latest groups are under way. Other threads see them after a
// barrier.
template <int PENDING>
DEVICE void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(PENDING));
}

}  // namespace
#endif

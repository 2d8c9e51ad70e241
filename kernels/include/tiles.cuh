// Matrix products of a block on tensor cores: tiles of both operands in shared memory, four stages of them,
// filled ahead by asynchronous copies.
//
// A step of the reduction is 32 long. An operand's tile lies in shared memory as it does in global memory:
// along the reduction, [rows][32], or across it, [32][rows], which ldmatrix transposes. In both, 16-byte
// chunks of a line are permuted by the line's number, so that neither ldmatrix, which reads one chunk of
// eight lines at once, nor the copies meet a bank twice.
//
// What bounds a step on a GPU, and so which tile serves which shape, is predicted in benches/RESULTS.md.
#pragma once

#include "device.cuh"

namespace {

constexpr uint32_t STEP = 32;
constexpr uint32_t STAGES = 4;

// Where a 16-byte chunk lies, in halves, in a tile with lines of WIDTH halves.
template <uint32_t WIDTH>
DEVICE uint32_t place(uint32_t line, uint32_t chunk) {
    static_assert(WIDTH == 32 || WIDTH % 64 == 0, "a line is 64 bytes or a multiple of 128");
    return line * WIDTH + (chunk ^ (WIDTH == 32 ? line / 2 % 4 : line % 8)) * 8;
}

// ROWS x COLUMNS of a product, in warps of WARP_ROWS x WARP_COLUMNS; each operand along the reduction or
// across it.
template <uint32_t ROWS_, uint32_t COLUMNS_, uint32_t WARP_ROWS, uint32_t WARP_COLUMNS, bool A_ACROSS,
          bool B_ACROSS>
struct Tile {
    static constexpr uint32_t ROWS = ROWS_, COLUMNS = COLUMNS_;
    static constexpr uint32_t WARPS_DOWN = ROWS / WARP_ROWS, WARPS = WARPS_DOWN * (COLUMNS / WARP_COLUMNS);
    static constexpr uint32_t THREADS = 32 * WARPS;
    // Products of 16 x 8 that a warp computes.
    static constexpr int M = WARP_ROWS / 16, N = WARP_COLUMNS / 8;
    // Halves of a stage: A's tile, then B's.
    static constexpr uint32_t A = ROWS * STEP, STAGE = A + COLUMNS * STEP;

    using Product = float[M][N][4];
    // A warp's fragments for one 16-long half of a step.
    struct Fragments {
        uint32_t a[M][4];
        uint32_t b[N][2];
    };

    // The first row and column of the calling warp.
    static DEVICE uint32_t row() { return thread_index() / 32 % WARPS_DOWN * WARP_ROWS; }
    static DEVICE uint32_t column() { return thread_index() / 32 / WARPS_DOWN * WARP_COLUMNS; }

    static DEVICE void load(Fragments& to, const f16* stage, uint32_t half) {
        const uint32_t line = thread_index() % 8, low = thread_index() / 8 % 2,
                       high = thread_index() / 16 % 2;
        UNROLL
        for (uint32_t i = 0; i < M; i++) {
            // Matrices in the order of A's registers: rows 0-7, 8-15, both again 8 further along the
            // reduction.
            if (A_ACROSS) {
                const uint32_t chunk = row() / 8 + 2 * i + low;
                load_matrix_x4_transposed(to.a[i], stage + place<ROWS>(16 * half + 8 * high + line, chunk));
            } else {
                const uint32_t at = row() + 16 * i + 8 * low + line;
                load_matrix_x4(to.a[i], stage + place<STEP>(at, 2 * half + high));
            }
        }
        UNROLL
        for (uint32_t j = 0; j < N; j += 2) {
            // Columns 0-7 at both halves of the reduction, then columns 8-15.
            uint32_t four[4];
            if (B_ACROSS) {
                const uint32_t chunk = column() / 8 + j + high;
                load_matrix_x4_transposed(four,
                                          stage + A + place<COLUMNS>(16 * half + 8 * low + line, chunk));
            } else {
                const uint32_t at = column() + 8 * j + 8 * high + line;
                load_matrix_x4(four, stage + A + place<STEP>(at, 2 * half + low));
            }
            to.b[j][0] = four[0];
            to.b[j][1] = four[1];
            to.b[j + 1][0] = four[2];
            to.b[j + 1][1] = four[3];
        }
    }

    // d += A B over `steps` steps; fill(stage) fills one stage, with the next step each time it is called,
    // and leaves no part of it unwritten. Afterwards shared memory is free.
    template <typename Fill>
    static DEVICE void multiply(Product& d, f16* shared, uint32_t steps, Fill&& fill) {
        multiply(d, shared, steps, fill, [] {});
    }

    // The same, with after() called after each half of a step; it may change d.
    template <typename Fill, typename After>
    static DEVICE void multiply(Product& d, f16* shared, uint32_t steps, Fill&& fill, After&& after) {
        UNROLL
        for (uint32_t s = 0; s < STAGES - 1; s++) {
            if (s < steps) fill(shared + s * STAGE);
            copy_async_commit();
        }
        if (steps > 0) {
            copy_async_wait<STAGES - 2>();
            block_sync();
            Fragments first, second;
            load(first, shared, 0);
            const f16* stage = shared;
            for (uint32_t step = 0; step < steps; step++) {
                load(second, stage, 1);
                // This fills the stage that was read last in the step before; all threads have met at a
                // barrier since.
                if (step + STAGES - 1 < steps) fill(shared + (step + STAGES - 1) % STAGES * STAGE);
                copy_async_commit();
                warp_mma(d, first.a, first.b);
                after();
                copy_async_wait<STAGES - 2>();
                block_sync();
                // After the last step this reads the last stage again, and nobody uses it.
                if (step + 1 < steps) stage = shared + (step + 1) % STAGES * STAGE;
                load(first, stage, 0);
                warp_mma(d, second.a, second.b);
                after();
            }
        }
        block_sync();
    }

    static DEVICE void clear(Product& d) {
        UNROLL
        for (int i = 0; i < M; i++) {
            UNROLL
            for (int j = 0; j < N; j++) {
                UNROLL
                for (int e = 0; e < 4; e++) d[i][j][e] = 0;
            }
        }
    }

    // Calls f(row, column, two values of d at column and column + 1) for each pair this lane holds, in the
    // block's tile.
    template <typename F>
    static DEVICE void each_pair(Product& d, F&& f) {
        const uint32_t lane = thread_index() % 32;
        UNROLL
        for (int i = 0; i < M; i++) {
            UNROLL
            for (int j = 0; j < N; j++) {
                UNROLL
                for (int e = 0; e < 2; e++) {
                    f(row() + 16 * i + 8 * e + lane / 4, column() + 8 * j + 2 * (lane % 4), d[i][j][2 * e],
                      d[i][j][2 * e + 1]);
                }
            }
        }
    }

    // to [rows][columns] = d, as far as the tile that begins at (first_row, first_column) lies in it.
    static DEVICE void store(
        Product& d, float* to, uint32_t rows, uint32_t columns, uint32_t first_row, uint32_t first_column) {
        struct alignas(8) Pair {
            float left, right;
        };
        const bool pairs = columns % 2 == 0 && reinterpret_cast<uintptr_t>(to) % sizeof(Pair) == 0;
        each_pair(d, [&](uint32_t row, uint32_t column, float left, float right) {
            if (first_row + row >= rows) return;
            float* at = to + (first_row + row) * columns + first_column + column;
            if (pairs) {
                if (first_column + column < columns) *reinterpret_cast<Pair*>(at) = Pair{left, right};
            } else {
                if (first_column + column < columns) at[0] = left;
                if (first_column + column + 1 < columns) at[1] = right;
            }
        });
    }
};

}  // namespace

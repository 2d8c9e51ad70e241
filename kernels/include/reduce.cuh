// Sums over a block in an order that depends on its shape alone.
#pragma once

#include "device.cuh"

namespace {

// Sums each of COUNT values over the rows of a block whose thread `row * lanes + lane` holds those of (row,
// lane); row 0 has the sums. Halves the rows until one is left. All threads call it; those past the last row
// only wait. shared (COUNT, threads): not in use until the next barrier, and to be left alone until one
// after.
template <typename T, int COUNT>
DEVICE void sum_rows(T (&values)[COUNT], T* shared, uint32_t row, uint32_t rows, uint32_t lanes) {
    const uint32_t threads = block_threads(), self = thread_index();
    if (row < rows) {
        for (int i = 0; i < COUNT; i++) shared[i * threads + self] = values[i];
    }
    uint32_t half = 1;
    while (2 * half < rows) half *= 2;
    for (; half > 0; half /= 2) {
        block_sync();
        if (row < half && row + half < rows) {
            for (int i = 0; i < COUNT; i++) {
                values[i] += shared[i * threads + self + half * lanes];
                shared[i * threads + self] = values[i];
            }
        }
    }
}

}  // namespace

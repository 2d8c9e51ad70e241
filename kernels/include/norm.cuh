// Batch norm fused with ReLU, a second input, a ReLU on the sum and max pooling, and the way back:
//
//     z = scale x + shift,  scale = weight / sqrt(var + eps),  shift = bias - mean scale
//     y = pool(relu_sum(residual + relu(z)))
//
//     dz = dy through pool and ReLUs;  dbias = sum dz;  dweight = sum dz (x - mean) / sqrt(var + eps)
//     dx = scale (dz - mean(dz) - xhat mean(dz xhat)) = scale dz + slope x + offset
//
// with slope and offset 0 where statistics are constants, as running statistics are.
//
// x, residual, dx (N, H, W, C); y, dy, winners (N, P, Q, C); statistics (G, 2, C): mean, then 1/sqrt(var +
// eps). Images are normalised in G groups, each by its own statistics: one group of N for batch and running
// statistics, N of one for per-sample statistics. Activations are f16, all arithmetic f32; each result is
// rounded once.
//
// A thread stays with WIDTH channels, whose constants it keeps in registers, and steps through its block's
// pixels: a block is `rows` pixels by `lanes` threads. Blocks leave their sums in memory and a second kernel
// adds those, so the order depends on shapes alone.
//
// All of it is bound by memory. Bytes an element of x (what they cost on a GPU is predicted in
// benches/RESULTS.md):
//
//     forward                  read x, write y                                  4
//     forward, pool 2x2        read x, write y and winners                      2.75
//     sums                     read x, dy                                       4
//     sums, pool 2x2           read x, dy, winners                              2.75
//     input                    read x, dy, write dx                             6
//     input, pool 2x2          read x, dy, winners, write dx                    4.75
//     a residual               read in forward; its gradient written in backward: 2 more each
//     a ReLU on the sum        2 more
//
// The sums and the input's gradient are one after the other; between them norm_gradients reads at most 1024
// blocks' sums, 64 KB for each 8 channels, which is little more than a launch's time.
#pragma once

#include "device.cuh"
#include "halves.cuh"
#include "reduce.cuh"
#include "windows.cuh"

#include "args/norm.h"

namespace {

// Where a thread stands in its block's tile.
struct Spot {
    uint32_t row;
    uint32_t channel;
    // Whether it has pixels and channels.
    bool active;
    // The pixels of its block, counted within its group: from `first`, up to `end`.
    uint32_t first, end;
};

template <int WIDTH>
DEVICE Spot spot(const Tile& tile, uint32_t pixels, uint32_t c) {
    Spot at;
    at.row = thread_index() / tile.lanes;
    at.channel = (block_y() * tile.lanes + thread_index() % tile.lanes) * WIDTH;
    at.active = at.row < tile.rows && at.channel < c;
    const uint32_t start = block_x() * tile.chunk;
    at.first = start + at.row;
    at.end = pixels - start < tile.chunk ? pixels : start + tile.chunk;
    return at;
}

// Offset of a group's first element at `channel`.
DEVICE size_t group_start(uint32_t pixels, uint32_t c, uint32_t channel) {
    return static_cast<size_t>(block_z()) * pixels * c + channel;
}

DEVICE size_t element(uint32_t pixel, uint32_t c) { return static_cast<size_t>(pixel) * c; }

// The normalised value as one multiply-add. The backward pass repeats it bit for bit to see where a ReLU was
// open.
template <int WIDTH>
struct Affine {
    float scale[WIDTH], shift[WIDTH];
};

template <int WIDTH>
DEVICE Affine<WIDTH> load_affine(const float* weight, const float* bias, const float* statistics, uint32_t c,
                                 uint32_t channel) {
    const float* mean = statistics + static_cast<size_t>(block_z()) * 2 * c;
    Affine<WIDTH> affine;
    for (int i = 0; i < WIDTH; i++) {
        affine.scale[i] = multiply(weight[channel + i], mean[c + channel + i]);
        affine.shift[i] = add(bias[channel + i], -multiply(mean[channel + i], affine.scale[i]));
    }
    return affine;
}

template <int WIDTH>
DEVICE float normalised(const Affine<WIDTH>& affine, int i, float x) {
    return multiply_add(x, affine.scale[i], affine.shift[i]);
}

// Remembers the first step and place where something was not finite. They are integers, so their minimum does
// not depend on the order.
DEVICE void note_fault(uint64_t* fault, const uint32_t* step, uint32_t place) {
    atomic_min_u64(fault, static_cast<uint64_t>(*step) << 32 | place);
}

}  // namespace

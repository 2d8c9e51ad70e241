// Convolution wgrad on tensor cores, an implicit matrix product: rows are K, columns R S C, and the reduction
// runs over the pixels of y. dfilter (K,R,R,C) = sum over pixels of dy (N,P,Q,K) times x (N,H,W,C) as each
// tap sees it.
//
// The reduction is long and the result small, so it is split along the grid's y into shares of `steps` steps,
// each leaving its own partial dfilter; sum_rows adds them up in order. Both operands lie across the
// reduction.
#include "tiles.cuh"

#include "args/conv.h"

namespace {

// Loads dy, 8 of K at a time, into a tile of [32][T::ROWS]. K is a multiple of 8.
template <typename T>
struct Gradient {
    static constexpr uint32_t LINE = T::ROWS / 8, LINES = STEP * LINE / T::THREADS,
                              LINE_STEP = T::THREADS / LINE;
    const f16* from;
    uint32_t k;
    // Pixels from this thread's first line to the last pixel; 0 or less if the thread has no column.
    int32_t left;

    DEVICE Gradient(const ConvWgradArgs& args, uint32_t pixel, uint32_t pixels, uint32_t row)
        : k(args.shape.k) {
        const uint32_t first = pixel + thread_index() / LINE, column = row + thread_index() % LINE * 8;
        from = args.dy + static_cast<uint64_t>(first) * k + column;
        left = column < k ? static_cast<int32_t>(pixels - first) : 0;
    }

    DEVICE void fill(f16* stage) {
        const uint32_t line = thread_index() / LINE, chunk = thread_index() % LINE;
        UNROLL
        for (uint32_t i = 0; i < LINES; i++) {
            const bool valid = static_cast<int32_t>(i * LINE_STEP) < left;
            copy_async_16(stage + place<T::ROWS>(line + i * LINE_STEP, chunk), from + i * LINE_STEP * k,
                          valid);
        }
        from += STEP * k;
        left -= STEP;
    }
};

// Loads x, AT_ONCE channels at a time, as the columns' taps see it, into a tile of [32][T::COLUMNS].
template <typename T, uint32_t AT_ONCE>
struct Input {
    static constexpr uint32_t LINE = T::COLUMNS / AT_ONCE, LINES = STEP * LINE / T::THREADS,
                              LINE_STEP = T::THREADS / LINE;
    const f16* x;
    int32_t height, width;
    // For each of this thread's lines: where its pixel reads x, in pixels and in elements.
    int32_t h[LINES], w[LINES], offset[LINES];
    int32_t left;
    // `step_*`: how far 32 pixels of y move the reading of x. `next_*`: what a carry into the next row, or
    // the next image, takes back.
    int32_t step_h, step_w, step;
    int32_t end_h, end_w, rows, columns, stride, next_row, next_image;
    // Single elements cannot be copied asynchronously: the next step's are loaded here while this one's are
    // multiplied.
    f16 values[AT_ONCE == 1 ? LINES : 1];

    DEVICE Input(const ConvWgradArgs& args, uint32_t pixel, uint32_t pixels, uint32_t first_column) {
        const ConvShape& g = args.shape;
        x = args.x;
        height = g.h;
        width = g.w;
        const uint32_t column = first_column + thread_index() % LINE * AT_ONCE, line = thread_index() / LINE;
        const int32_t channels = g.c, tap = column / g.c, channel = column % g.c;
        const int32_t down = tap / static_cast<int32_t>(g.r) - static_cast<int32_t>(g.pad);
        const int32_t right = tap % static_cast<int32_t>(g.r) - static_cast<int32_t>(g.pad);
        left = column < g.r * g.r * g.c ? static_cast<int32_t>(pixels - pixel - line) : 0;
        UNROLL
        for (uint32_t i = 0; i < LINES; i++) {
            const uint32_t at = pixel + line + i * LINE_STEP;
            const int32_t n = at / g.q / g.p;
            h[i] = static_cast<int32_t>(at / g.q % g.p * g.stride) + down;
            w[i] = static_cast<int32_t>(at % g.q * g.stride) + right;
            offset[i] = ((n * height + h[i]) * width + w[i]) * channels + channel;
        }
        stride = g.stride;
        rows = g.p * g.stride;
        columns = g.q * g.stride;
        step_h = STEP / g.q % g.p * g.stride;
        step_w = STEP % g.q * g.stride;
        step = ((static_cast<int32_t>(STEP / g.q / g.p) * height + step_h) * width + step_w) * channels;
        end_h = rows + down;
        end_w = columns + right;
        next_row = (stride * width - columns) * channels;
        next_image = (height - rows) * width * channels;
        if (AT_ONCE == 1) read();
    }

    DEVICE bool valid(uint32_t i) const {
        const bool inside = static_cast<uint32_t>(h[i]) < static_cast<uint32_t>(height) &&
                            static_cast<uint32_t>(w[i]) < static_cast<uint32_t>(width);
        return inside && static_cast<int32_t>(i * LINE_STEP) < left;
    }

    DEVICE void read() {
        UNROLL
        for (uint32_t i = 0; i < LINES; i++) values[i] = valid(i) ? x[offset[i]] : to_half(0);
    }

    DEVICE void fill(f16* stage) {
        const uint32_t line = thread_index() / LINE, column = thread_index() % LINE;
        if (AT_ONCE == 8) {
            UNROLL
            for (uint32_t i = 0; i < LINES; i++) {
                copy_async_16_cached(stage + place<T::COLUMNS>(line + i * LINE_STEP, column), x + offset[i],
                                     valid(i));
            }
        } else {
            UNROLL
            for (uint32_t i = 0; i < LINES; i++) {
                stage[place<T::COLUMNS>(line + i * LINE_STEP, column / 8) + column % 8] = values[i];
            }
        }
        left -= STEP;
        UNROLL
        for (uint32_t i = 0; i < LINES; i++) {
            h[i] += step_h;
            w[i] += step_w;
            offset[i] += step;
            if (w[i] >= end_w) {
                w[i] -= columns;
                h[i] += stride;
                offset[i] += next_row;
            }
            if (h[i] >= end_h) {
                h[i] -= rows;
                offset[i] += next_image;
            }
        }
        if (AT_ONCE == 1) read();
    }
};

// Reads dy one element at a time, for any K. Eight loads come before their stores: the compiler must assume
// that a store changes what is loaded after it.
template <typename T>
DEVICE void fill_elements(f16* stage, const ConvWgradArgs& args, uint32_t pixel, uint32_t pixels,
                          uint32_t first_row) {
    constexpr uint32_t LINE_STEP = T::THREADS / T::ROWS;
    static_assert(STEP % (8 * LINE_STEP) == 0, "whole batches");
    const uint32_t line = thread_index() / T::ROWS, row = thread_index() % T::ROWS;
    ROLLED
    for (uint32_t first = line; first < STEP; first += 8 * LINE_STEP) {
        f16 values[8];
        UNROLL
        for (uint32_t i = 0; i < 8; i++) {
            const uint32_t at = pixel + first + i * LINE_STEP;
            const bool valid = at < pixels && first_row + row < args.shape.k;
            values[i] = valid ? args.dy[at * args.shape.k + first_row + row] : to_half(0);
        }
        UNROLL
        for (uint32_t i = 0; i < 8; i++)
            stage[place<T::ROWS>(first + i * LINE_STEP, row / 8) + row % 8] = values[i];
    }
}

template <typename T, uint32_t AT_ONCE>
DEVICE void wgrad(const ConvWgradArgs& args) {
    const ConvShape& g = args.shape;
    const uint32_t area = g.r * g.r * g.c, pixels = g.n * g.p * g.q;
    const uint32_t across = (area + T::COLUMNS - 1) / T::COLUMNS;
    const uint32_t first_row = block_x() / across * T::ROWS, first_column = block_x() % across * T::COLUMNS;
    const uint32_t first_step = block_y() * args.steps, all_steps = (pixels + STEP - 1) / STEP;
    const uint32_t steps = all_steps - first_step < args.steps ? all_steps - first_step : args.steps;
    uint32_t pixel = first_step * STEP;

    Gradient<T> gradient(args, pixel, pixels, first_row);
    Input<T, AT_ONCE> input(args, pixel, pixels, first_column);
    const bool whole = AT_ONCE == 8 || g.k % 8 == 0;
    typename T::Product d;
    T::clear(d);
    T::multiply(d, reinterpret_cast<f16*>(dynamic_shared()), steps, [&](f16* stage) {
        if (whole) {
            gradient.fill(stage);
        } else {
            fill_elements<T>(stage, args, pixel, pixels, first_row);
            pixel += STEP;
        }
        input.fill(stage + T::A);
    });
    float* to = args.dfilter + static_cast<uint64_t>(block_y()) * g.k * area;
    T::store(d, to, g.k, area, first_row, first_column);
}

}  // namespace

KERNEL(conv_wgrad_256x128, ConvWgradArgs, 256) { wgrad<Tile<256, 128, 64, 64, true, true>, 8>(args); }
KERNEL(conv_wgrad_128x128, ConvWgradArgs, 128) { wgrad<Tile<128, 128, 64, 64, true, true>, 8>(args); }
KERNEL(conv_wgrad_64x128, ConvWgradArgs, 128) { wgrad<Tile<64, 128, 32, 64, true, true>, 8>(args); }
KERNEL(conv_wgrad_gather, ConvWgradArgs, 128) { wgrad<Tile<64, 32, 32, 16, true, true>, 1>(args); }

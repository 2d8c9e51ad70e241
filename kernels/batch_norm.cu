// Batch norm fused with ReLU, a second input, a ReLU on the sum and max pooling, and the way back:
//
//     z = scale x + shift,  scale = weight / sqrt(var + eps),  shift = bias - mean scale
//     y = pool(relu_sum(residual + relu(z)))
//
//     dz = dy through pool and ReLUs;  dbias = sum dz;  dweight = sum dz (x - mean) / sqrt(var + eps)
//     dx = scale (dz - mean(dz) - xhat mean(dz xhat)) = scale dz + slope x + offset
//
// with slope and offset 0 where moments are constants, as running statistics are.
//
// x, residual, dx (N, H, W, C); y, dy, winners (N, P, Q, C); moments (G, 2, C): mean, then 1/sqrt(var + eps). Images are
// normalised in G groups, each by its own moments: one group of N for batch and running statistics, N of one for
// per-sample statistics. Activations are f16, all arithmetic f32; each result is rounded once.
//
// A thread stays with WIDTH channels, whose constants it keeps in registers, and steps through its block's pixels: a
// block is `rows` pixels by `lanes` threads. Blocks leave their sums in memory and a second kernel adds those, so the
// order depends on shapes alone.
//
// All of it is bound by memory. Bytes an element of x, and what that costs at the least for the largest tensor of
// resnet9, 512 images of 32x32x64 (67 MB), at 4.3 TB/s:
//
//     forward                  read x, write y                                  4        31 us
//     forward, pool 2x2        read x, write y and winners                      2.75     21 us
//     sums                     read x, dy                                       4        31 us
//     sums, pool 2x2           read x, dy, winners                              2.75     21 us
//     input                    read x, dy, write dx                             6        47 us
//     input, pool 2x2          read x, dy, winners, write dx                    4.75     37 us
//     a residual               read in forward; its gradient written in backward: 2 more each, 2 for a ReLU on the sum
//
// The sums and the input's gradient are one after the other; between them norm_gradients reads at most 1024 blocks' sums,
// 64 KB for each 8 channels, which is little more than a launch's time.
//
// At 1.7 GHz a multiprocessor of 132 gets 19 bytes a cycle, so at 1000 cycles' latency some 20 KB must be under way in
// it. 64 to 104 registers leave room for 512 to 1024 threads; with three or four accesses of 16 bytes each they have 32 KB
// and more. A window of 2x2 has 2816 bytes a warp, or 590 instructions at four a cycle: its forward pass takes 390.
#include "device.cuh"
#include "halves.cuh"
#include "reduce.cuh"
#include "windows.cuh"

#include "args/batch_norm.h"

namespace {

// Where a thread stands in its block's tile.
struct Spot {
    uint32_t row;
    uint32_t channel;
    // Has pixels and channels.
    bool active;
    // Its block's pixels, of its group.
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

// The normalised value as one multiply-add. The backward pass repeats it bit for bit to see where a ReLU was open.
template <int WIDTH>
struct Affine {
    float scale[WIDTH], shift[WIDTH];
};

template <int WIDTH>
DEVICE Affine<WIDTH> load_affine(const float* weight, const float* bias, const float* moments, uint32_t c,
                                 uint32_t channel) {
    const float* mean = moments + static_cast<size_t>(block_z()) * 2 * c;
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

// What the last ReLU and the pool are applied to: z, or residual + relu(z). A ReLU is a lower bound: 0, or -infinity for
// none. NaN stays NaN, so that a diverged run shows.
template <bool RESIDUAL, int WIDTH>
DEVICE void activate(const Affine<WIDTH>& affine, float floor, const Halves<WIDTH>& x,
                     const Halves<WIDTH>& residual, float (&values)[WIDTH]) {
    unpack(x, values);
    for (int i = 0; i < WIDTH; i++) values[i] = normalised(affine, i, values[i]);
    if (!RESIDUAL) return;
    float other[WIDTH];
    unpack(residual, other);
    for (int i = 0; i < WIDTH; i++) values[i] = add(other[i], larger_or_nan(values[i], floor));
}

template <int WIDTH, bool RESIDUAL>
DEVICE void forward(const NormForwardArgs& args) {
    const Spot at = spot<WIDTH>(args.tile, args.outputs, args.c);
    if (!at.active) return;
    const Affine<WIDTH> affine =
        load_affine<WIDTH>(args.weight, args.bias, args.moments, args.c, at.channel);
    const size_t start = group_start(args.outputs, args.c, at.channel);
    const uint32_t rows = args.tile.rows;
    for (uint32_t base = at.first; base < at.end; base += FORWARD_BATCH * rows) {
        Halves<WIDTH> x[FORWARD_BATCH] = {}, residual[FORWARD_BATCH] = {};
        for (uint32_t j = 0; j < FORWARD_BATCH; j++) {
            if (base + j * rows >= at.end) continue;
            const size_t from = start + element(base + j * rows, args.c);
            load_halves(x[j], args.x + from);
            if (RESIDUAL) load_halves(residual[j], args.residual + from);
        }
        for (uint32_t j = 0; j < FORWARD_BATCH; j++) {
            if (base + j * rows >= at.end) continue;
            float values[WIDTH];
            activate<RESIDUAL>(affine, args.floor, x[j], residual[j], values);
            for (int i = 0; i < WIDTH; i++) values[i] = larger_or_nan(values[i], args.floor_last);
            store_halves(args.y + start + element(base + j * rows, args.c), pack(values));
        }
    }
}

// The pool comes before the last ReLU, which changes neither its result nor, where a gradient passes, its winner.
template <int WIDTH, bool RESIDUAL>
DEVICE void pool_forward(const NormForwardArgs& args) {
    const Window& window = args.window;
    const Spot at = spot<WIDTH>(args.tile, args.outputs, args.c);
    if (!at.active) return;
    const Affine<WIDTH> affine =
        load_affine<WIDTH>(args.weight, args.bias, args.moments, args.c, at.channel);
    const size_t start = group_start(args.inputs, args.c, at.channel);
    Pixel output = pixel_at(at.first, window.p, window.q);
    const Pixel by = pixel_at(args.tile.rows, window.p, window.q);
    for (uint32_t index = at.first; index < at.end; index += args.tile.rows) {
        float best[WIDTH];
        uint32_t winner[WIDTH] = {};
        for (int i = 0; i < WIDTH; i++) best[i] = float_from_bits(0xff800000u);  // -infinity
        Places places = places_of(output, window);
        for (uint32_t first = 0; places.r < window.size; first += PLACES) {
            next(places, window);
            Halves<WIDTH> x[PLACES] = {}, residual[PLACES] = {};
            for (uint32_t j = 0; j < PLACES; j++) {
                if (!places.inside[j]) continue;
                const size_t from = start + element(places.pixel[j], args.c);
                load_halves(x[j], args.x + from);
                if (RESIDUAL) load_halves(residual[j], args.residual + from);
            }
            for (uint32_t j = 0; j < PLACES; j++) {
                if (!places.inside[j]) continue;
                float values[WIDTH];
                activate<RESIDUAL>(affine, args.floor, x[j], residual[j], values);
                for (int i = 0; i < WIDTH; i++) {
                    // The first of equal values wins. A NaN outlasts every number; what wins then passes no gradient.
                    winner[i] = values[i] <= best[i] ? winner[i] : first + j;
                    best[i] = larger_or_nan(best[i], values[i]);
                }
            }
        }
        for (int i = 0; i < WIDTH; i++) {
            winner[i] = best[i] > args.floor_last ? winner[i] : DEAD;
            best[i] = larger_or_nan(best[i], args.floor_last);
        }
        const size_t to = group_start(args.outputs, args.c, at.channel) + element(index, args.c);
        store_halves(args.y + to, pack(best));
        if (args.winners) store_bytes(args.winners + to, pack(winner));
        step(output, by, window.p, window.q);
    }
}

// A thread's share of the sums by channel: of dz, then of dz (x - mean).
template <int WIDTH>
struct Sums {
    float mean[WIDTH];
    float values[2 * WIDTH];
};

template <int WIDTH>
DEVICE Sums<WIDTH> no_sums(const NormSumsArgs& args, const Spot& at) {
    Sums<WIDTH> sums = {};
    if (at.active) {
        const float* mean = args.moments + static_cast<size_t>(block_z()) * 2 * args.c + at.channel;
        for (int i = 0; i < WIDTH; i++) sums.mean[i] = mean[i];
    }
    return sums;
}

template <int WIDTH>
DEVICE void count_in(Sums<WIDTH>& sums, int i, float dz, float x) {
    sums.values[i] = add(sums.values[i], dz);
    sums.values[WIDTH + i] = multiply_add(dz, x - sums.mean[i], sums.values[WIDTH + i]);
}

// Adds the block's sums and leaves them for norm_gradients. shared (2 WIDTH, threads).
template <int WIDTH>
DEVICE void leave_sums(const NormSumsArgs& args, const Spot& at, Sums<WIDTH>& sums, float* shared) {
    sum_rows(sums.values, shared, at.row, args.tile.rows, args.tile.lanes);
    if (!at.active || at.row != 0) return;
    const size_t block = static_cast<size_t>(block_z()) * grid_x() + block_x();
    float* to = args.partials + block * 2 * args.c + at.channel;
    for (int i = 0; i < WIDTH; i++) {
        to[i] = sums.values[i];
        to[args.c + i] = sums.values[WIDTH + i];
    }
}

// Behind the last ReLU: dz is 0 where y is.
template <int WIDTH>
DEVICE void mask(float (&dz)[WIDTH], const Halves<WIDTH>& y) {
    float values[WIDTH];
    unpack(y, values);
    for (int i = 0; i < WIDTH; i++) dz[i] = values[i] > 0 ? dz[i] : 0;
}

// The residual's gradient: dz, and what was there before, or zeros.
template <int WIDTH>
DEVICE void store_residual(f16* to, const Halves<WIDTH>& before, const float (&dz)[WIDTH]) {
    float values[WIDTH];
    unpack(before, values);
    for (int i = 0; i < WIDTH; i++) values[i] = add(values[i], dz[i]);
    store_halves(to, pack(values));
}

template <int WIDTH>
DEVICE void sums(const NormSumsArgs& args, float* shared) {
    const Spot at = spot<WIDTH>(args.tile, args.outputs, args.c);
    Sums<WIDTH> sums = no_sums<WIDTH>(args, at);
    if (at.active) {
        const Affine<WIDTH> affine =
            load_affine<WIDTH>(args.weight, args.bias, args.moments, args.c, at.channel);
        const size_t start = group_start(args.outputs, args.c, at.channel);
        const uint32_t rows = args.tile.rows;
        for (uint32_t base = at.first; base < at.end; base += BACKWARD_BATCH * rows) {
            Halves<WIDTH> x[BACKWARD_BATCH] = {}, y[BACKWARD_BATCH] = {}, dy[BACKWARD_BATCH] = {};
            for (uint32_t j = 0; j < BACKWARD_BATCH; j++) {
                if (base + j * rows >= at.end) continue;
                const size_t from = start + element(base + j * rows, args.c);
                load_halves(x[j], args.x + from);
                load_halves(dy[j], args.dy + from);
                if (args.y) load_halves(y[j], args.y + from);
            }
            for (uint32_t j = 0; j < BACKWARD_BATCH; j++) {
                if (base + j * rows >= at.end) continue;
                float values[WIDTH], dz[WIDTH];
                unpack(dy[j], dz);
                if (args.y) mask(dz, y[j]);
                if (args.residual) {
                    f16* to = args.residual + start + element(base + j * rows, args.c);
                    Halves<WIDTH> before = {};
                    if (args.accumulate) load_halves(before, to);
                    store_residual(to, before, dz);
                }
                unpack(x[j], values);
                for (int i = 0; i < WIDTH; i++) {
                    count_in(sums, i, normalised(affine, i, values[i]) > args.open ? dz[i] : 0, values[i]);
                }
            }
        }
    }
    leave_sums(args, at, sums, shared);
}

// No place in a window: its winner has been read.
constexpr uint32_t FOUND = 256;

// A window has one winner, whose x decides whether the ReLU was open; in large windows, a place that
// is no channel's is not read.
template <int WIDTH>
DEVICE void pool_sums(const NormSumsArgs& args, float* shared) {
    const Window& window = args.window;
    const Spot at = spot<WIDTH>(args.tile, args.outputs, args.c);
    Sums<WIDTH> sums = no_sums<WIDTH>(args, at);
    if (at.active) {
        const Affine<WIDTH> affine =
            load_affine<WIDTH>(args.weight, args.bias, args.moments, args.c, at.channel);
        const size_t start = group_start(args.inputs, args.c, at.channel);
        Pixel output = pixel_at(at.first, window.p, window.q);
        const Pixel by = pixel_at(args.tile.rows, window.p, window.q);
        // Where places are few, nearly all are some channel's.
        const bool sparse = window.size * window.size > WIDTH;
        for (uint32_t index = at.first; index < at.end; index += args.tile.rows) {
            const size_t from = group_start(args.outputs, args.c, at.channel) + element(index, args.c);
            Halves<WIDTH> dy;
            load_halves(dy, args.dy + from);
            uint32_t winner[WIDTH];
            unpack(load_bytes<WIDTH>(args.winners + from), winner);
            float won[WIDTH] = {};
            Places places = places_of(output, window);
            for (uint32_t first = 0; places.r < window.size; first += PLACES) {
                next(places, window);
                Halves<WIDTH> x[PLACES] = {};
                for (uint32_t j = 0; j < PLACES; j++) {
                    if (sparse) {
                        bool any = false;
                        for (int i = 0; i < WIDTH; i++) any = any || winner[i] == first + j;
                        places.inside[j] = places.inside[j] && any;
                    }
                    if (places.inside[j]) load_halves(x[j], args.x + start + element(places.pixel[j], args.c));
                }
                for (uint32_t j = 0; j < PLACES; j++) {
                    if (!places.inside[j]) continue;
                    float values[WIDTH];
                    unpack(x[j], values);
                    for (int i = 0; i < WIDTH; i++) {
                        if (winner[i] == first + j) {
                            won[i] = values[i];
                            winner[i] = FOUND;
                        }
                    }
                }
            }
            float dz[WIDTH];
            unpack(dy, dz);
            for (int i = 0; i < WIDTH; i++) {
                const bool passes = winner[i] == FOUND && normalised(affine, i, won[i]) > args.open;
                count_in(sums, i, passes ? dz[i] : 0, won[i]);
            }
            step(output, by, window.p, window.q);
        }
    }
    leave_sums(args, at, sums, shared);
}

// Where dx = scale dz + slope x + offset goes.
template <int WIDTH>
struct Slopes {
    float slope[WIDTH], offset[WIDTH];
};

template <int WIDTH>
DEVICE Slopes<WIDTH> load_slopes(const float* from, uint32_t c, uint32_t channel) {
    from += static_cast<size_t>(block_z()) * 2 * c + channel;
    Slopes<WIDTH> slopes;
    for (int i = 0; i < WIDTH; i++) {
        slopes.slope[i] = from[i];
        slopes.offset[i] = from[c + i];
    }
    return slopes;
}

template <int WIDTH>
DEVICE Halves<WIDTH> input_gradient(const Affine<WIDTH>& affine, const Slopes<WIDTH>& slopes,
                                    const float (&dz)[WIDTH], const Halves<WIDTH>& x, float open) {
    float values[WIDTH], dx[WIDTH];
    unpack(x, values);
    for (int i = 0; i < WIDTH; i++) {
        const float passed = normalised(affine, i, values[i]) > open ? dz[i] : 0;
        dx[i] = multiply_add(affine.scale[i], passed, multiply_add(slopes.slope[i], values[i], slopes.offset[i]));
    }
    return pack(dx);
}

template <int WIDTH>
DEVICE void input(const NormInputArgs& args) {
    const Spot at = spot<WIDTH>(args.tile, args.inputs, args.c);
    if (!at.active) return;
    const Affine<WIDTH> affine =
        load_affine<WIDTH>(args.weight, args.bias, args.moments, args.c, at.channel);
    const Slopes<WIDTH> slopes = load_slopes<WIDTH>(args.slopes, args.c, at.channel);
    const size_t start = group_start(args.inputs, args.c, at.channel);
    const uint32_t rows = args.tile.rows;
    for (uint32_t base = at.first; base < at.end; base += BACKWARD_BATCH * rows) {
        Halves<WIDTH> x[BACKWARD_BATCH] = {}, y[BACKWARD_BATCH] = {}, dy[BACKWARD_BATCH] = {};
        for (uint32_t j = 0; j < BACKWARD_BATCH; j++) {
            if (base + j * rows >= at.end) continue;
            const size_t from = start + element(base + j * rows, args.c);
            load_halves(x[j], args.x + from);
            load_halves(dy[j], args.dy + from);
            if (args.y) load_halves(y[j], args.y + from);
        }
        for (uint32_t j = 0; j < BACKWARD_BATCH; j++) {
            if (base + j * rows >= at.end) continue;
            float dz[WIDTH];
            unpack(dy[j], dz);
            if (args.y) mask(dz, y[j]);
            const Halves<WIDTH> dx = input_gradient(affine, slopes, dz, x[j], args.open);
            store_halves(args.dx + start + element(base + j * rows, args.c), dx);
        }
    }
}

// Each input pixel gathers what it won from the windows that cover it, the last of them first.
template <int WIDTH>
DEVICE void pool_input(const NormInputArgs& args) {
    const Window& window = args.window;
    const Spot at = spot<WIDTH>(args.tile, args.inputs, args.c);
    if (!at.active) return;
    const Affine<WIDTH> affine =
        load_affine<WIDTH>(args.weight, args.bias, args.moments, args.c, at.channel);
    const Slopes<WIDTH> slopes = load_slopes<WIDTH>(args.slopes, args.c, at.channel);
    const size_t outputs = group_start(args.outputs, args.c, at.channel);
    Pixel pixel = pixel_at(at.first, window.h, window.w);
    const Pixel by = pixel_at(args.tile.rows, window.h, window.w);
    for (uint32_t index = at.first; index < at.end; index += args.tile.rows) {
        const size_t to = group_start(args.inputs, args.c, at.channel) + element(index, args.c);
        Halves<WIDTH> x, before = {};
        load_halves(x, args.x + to);
        if (args.accumulate) load_halves(before, args.residual + to);
        float dz[WIDTH] = {};
        const uint32_t row = pixel.row + window.pad, column = pixel.column + window.pad;
        // The last window that begins at or before the pixel, if there are as many. Before the first, p and q wrap around.
        const uint32_t last_p = multiply_high(2 * row, window.reciprocal);
        const uint32_t last_q = multiply_high(2 * column, window.reciprocal);
        for (uint32_t r = row - last_p * window.stride, p = last_p; r < window.size; r += window.stride, p--) {
            if (p >= window.p) continue;
            for (uint32_t s = column - last_q * window.stride, q = last_q; s < window.size; s += window.stride, q--) {
                if (q >= window.q) continue;
                const size_t from = outputs + element((pixel.image * window.p + p) * window.q + q, args.c);
                Halves<WIDTH> dy;
                load_halves(dy, args.dy + from);
                float values[WIDTH];
                uint32_t winner[WIDTH];
                unpack(load_bytes<WIDTH>(args.winners + from), winner);
                unpack(dy, values);
                for (int i = 0; i < WIDTH; i++) {
                    if (winner[i] == r * window.size + s) dz[i] = add(dz[i], values[i]);
                }
            }
        }
        if (args.residual) store_residual(args.residual + to, before, dz);
        store_halves(args.dx + to, input_gradient(affine, slopes, dz, x, args.open));
        step(pixel, by, window.h, window.w);
    }
}

// Mean, then variance about it: an image's x is read twice, the second time from the cache.
template <int WIDTH>
DEVICE void sample_moments(const SampleMomentsArgs& args, float* shared) {
    const Spot at = spot<WIDTH>(args.tile, args.pixels, args.c);
    const f16* x = args.x + group_start(args.pixels, args.c, at.channel);
    const uint32_t lane = thread_index() % args.tile.lanes;
    float mean[WIDTH] = {}, sums[WIDTH] = {};
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t pixel = at.first; at.active && pixel < at.end; pixel += args.tile.rows) {
            Halves<WIDTH> halves;
            load_halves(halves, x + element(pixel, args.c));
            float values[WIDTH];
            unpack(halves, values);
            for (int i = 0; i < WIDTH; i++) {
                const float value = values[i] - mean[i];
                sums[i] = pass == 0 ? add(sums[i], value) : multiply_add(value, value, sums[i]);
            }
        }
        sum_rows(sums, shared, at.row, args.tile.rows, args.tile.lanes);
        if (pass == 0) {
            // Row 0's sums lie where each of its threads put them.
            block_sync();
            for (int i = 0; i < WIDTH; i++) {
                mean[i] = shared[i * block_threads() + lane] / static_cast<float>(args.pixels);
                sums[i] = 0;
            }
            block_sync();
        }
    }
    if (!at.active || at.row != 0) return;
    float* to = args.moments + static_cast<size_t>(block_z()) * 2 * args.c + at.channel;
    for (int i = 0; i < WIDTH; i++) {
        to[i] = mean[i];
        to[args.c + i] = reciprocal_sqrt(sums[i] / static_cast<float>(args.pixels) + args.eps);
    }
}

// Remembers the first step and place where something was not finite. Integers: the least of them, in any order.
DEVICE void note_fault(uint64_t* fault, const uint32_t* step, uint32_t place) {
    atomic_min_u64(fault, static_cast<uint64_t>(*step) << 32 | place);
}

}  // namespace

KERNEL(norm_forward_8, NormForwardArgs, THREADS) {
    if (args.residual) {
        forward<8, true>(args);
    } else {
        forward<8, false>(args);
    }
}
KERNEL(norm_forward_1, NormForwardArgs, THREADS) {
    if (args.residual) {
        forward<1, true>(args);
    } else {
        forward<1, false>(args);
    }
}
KERNEL(norm_pool_forward_8, NormForwardArgs, THREADS) {
    if (args.residual) {
        pool_forward<8, true>(args);
    } else {
        pool_forward<8, false>(args);
    }
}
KERNEL(norm_pool_forward_1, NormForwardArgs, THREADS) {
    if (args.residual) {
        pool_forward<1, true>(args);
    } else {
        pool_forward<1, false>(args);
    }
}

KERNEL(norm_sums_8, NormSumsArgs, THREADS) {
    SHARED(float, shared, 16 * THREADS);
    sums<8>(args, shared);
}
KERNEL(norm_sums_1, NormSumsArgs, THREADS) {
    SHARED(float, shared, 2 * THREADS);
    sums<1>(args, shared);
}
KERNEL(norm_pool_sums_8, NormSumsArgs, THREADS) {
    SHARED(float, shared, 16 * THREADS);
    pool_sums<8>(args, shared);
}
KERNEL(norm_pool_sums_1, NormSumsArgs, THREADS) {
    SHARED(float, shared, 2 * THREADS);
    pool_sums<1>(args, shared);
}

KERNEL(norm_gradients, NormGradientsArgs, THREADS) {
    SHARED(double, shared, 2 * THREADS);
    const uint32_t lane = thread_index() % GRADIENT_LANES, row = thread_index() / GRADIENT_LANES;
    const uint32_t rows = THREADS / GRADIENT_LANES, group = block_z(), c = args.c;
    const uint32_t channel = block_x() * GRADIENT_LANES + lane;
    double sums[2] = {};
    for (uint32_t block = row; channel < c && block < args.blocks; block += rows) {
        const float* from = args.partials + (static_cast<size_t>(group) * args.blocks + block) * 2 * c + channel;
        sums[0] += from[0];
        sums[1] += from[c];
    }
    sum_rows(sums, shared, row, rows, GRADIENT_LANES);
    if (row != 0 || channel >= c) return;
    const size_t at = static_cast<size_t>(group) * 2 * c + channel;
    const double mean = args.moments[at], inverse = args.moments[at + c];
    const double scale = args.weight[channel] * inverse, count = args.count;
    // Of moments that x does not change nothing comes back.
    const double slope = args.constant ? 0 : -scale * inverse * inverse * sums[1] / count;
    const double offset = args.constant ? 0 : multiply_add(-slope, mean, -scale * sums[0] / count);
    args.slopes[at] = static_cast<float>(slope);
    args.slopes[at + c] = static_cast<float>(offset);
    const float dweight = static_cast<float>(sums[1] * inverse), dbias = static_cast<float>(sums[0]);
    args.dweight[static_cast<size_t>(group) * args.stride + channel] = dweight;
    args.dbias[static_cast<size_t>(group) * args.stride + channel] = dbias;
    const bool finite = is_finite(dweight) && is_finite(dbias);
    if (args.fault && !finite) note_fault(args.fault, args.step, args.place);
}

KERNEL(norm_scores, NormScoresArgs, THREADS) {
    SHARED(double, shared, THREADS);
    const uint32_t lane = thread_index() % GRADIENT_LANES, row = thread_index() / GRADIENT_LANES;
    const uint32_t rows = THREADS / GRADIENT_LANES, part = block_y(), c = args.c;
    const uint32_t channel = block_x() * GRADIENT_LANES + lane;
    const float* from = args.gradients + part * c + channel;
    double sums[1] = {};
    for (uint32_t n = row; channel < c && n < args.n; n += rows) {
        const float gradient = from[static_cast<size_t>(n) * 2 * c];
        const double g = gradient;
        sums[0] += args.absolute ? static_cast<double>(magnitude(gradient)) : g * g;
    }
    sum_rows(sums, shared, row, rows, GRADIENT_LANES);
    if (row != 0 || channel >= c) return;
    float* to = (part == 0 ? args.weight : args.bias) + channel;
    *to = static_cast<float>(*to + sums[0]);
}

KERNEL(norm_input_8, NormInputArgs, THREADS) { input<8>(args); }
KERNEL(norm_input_1, NormInputArgs, THREADS) { input<1>(args); }
KERNEL(norm_pool_input_8, NormInputArgs, THREADS) { pool_input<8>(args); }
KERNEL(norm_pool_input_1, NormInputArgs, THREADS) { pool_input<1>(args); }

KERNEL(batch_moments, BatchMomentsArgs, THREADS) {
    const uint32_t c = args.c, i = block_x() * block_threads() + thread_index();
    if (i >= c) return;
    const double mean = args.sums[i] / args.count;
    const double difference = multiply_add(-mean, mean, args.sums[c + i] / args.count);
    // A NaN stays one.
    const double variance = difference < 0 ? 0 : difference;
    args.moments[i] = static_cast<float>(mean);
    args.moments[c + i] = static_cast<float>(reciprocal_sqrt(variance + args.eps));
    const double unbiased = variance * args.count / (args.count > 1 ? args.count - 1 : 1);
    const double kept = 1 - args.momentum;
    args.running[i] = static_cast<float>(multiply_add(args.momentum, mean, kept * args.running[i]));
    args.running[c + i] = static_cast<float>(multiply_add(args.momentum, unbiased, kept * args.running[c + i]));
    if (!is_finite(args.sums[i]) || !is_finite(args.sums[c + i])) note_fault(args.fault, args.step, args.place);
}

KERNEL(running_moments, RunningMomentsArgs, THREADS) {
    const uint32_t i = block_x() * block_threads() + thread_index();
    if (i >= args.c) return;
    float* to = args.moments + static_cast<size_t>(block_y()) * 2 * args.c + i;
    to[0] = args.running[i];
    to[args.c] = reciprocal_sqrt(args.running[args.c + i] + args.eps);
}

KERNEL(sample_moments_8, SampleMomentsArgs, THREADS) {
    SHARED(float, shared, 8 * THREADS);
    sample_moments<8>(args, shared);
}
KERNEL(sample_moments_1, SampleMomentsArgs, THREADS) {
    SHARED(float, shared, THREADS);
    sample_moments<1>(args, shared);
}

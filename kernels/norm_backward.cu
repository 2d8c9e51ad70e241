// Batch norm backward, in norm.cuh's terms. The first kernel leaves sums of dz and dz (x - mean) by block.
// The second makes of them the gradients of weight and bias (or, for each image alone, their scores) and the
// constants of the third, which writes dx and the residual's gradient.

#include "norm.cuh"

namespace {

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
        const float* mean = args.statistics + static_cast<size_t>(block_z()) * 2 * args.c + at.channel;
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

// Undoes the last ReLU: dz is 0 where y is.
template <int WIDTH>
DEVICE void mask(float (&dz)[WIDTH], const Halves<WIDTH>& y) {
    float values[WIDTH];
    unpack(y, values);
    for (int i = 0; i < WIDTH; i++) dz[i] = values[i] > 0 ? dz[i] : 0;
}

// Writes the residual's gradient: dz plus `before`, which is zeros unless gradients accumulate.
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
            load_affine<WIDTH>(args.weight, args.bias, args.statistics, args.c, at.channel);
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

// Stands for a winner's place once it has been read. No window has this place.
constexpr uint32_t FOUND = 256;

// Each window has one winner, whose x decides whether the ReLU was open. In large windows, places where no
// channel has its winner are not read.
template <int WIDTH>
DEVICE void pool_sums(const NormSumsArgs& args, float* shared) {
    const Window& window = args.window;
    const Spot at = spot<WIDTH>(args.tile, args.outputs, args.c);
    Sums<WIDTH> sums = no_sums<WIDTH>(args, at);
    if (at.active) {
        const Affine<WIDTH> affine =
            load_affine<WIDTH>(args.weight, args.bias, args.statistics, args.c, at.channel);
        const size_t start = group_start(args.inputs, args.c, at.channel);
        Pixel output = pixel_at(at.first, window.p, window.q);
        const Pixel by = pixel_at(args.tile.rows, window.p, window.q);
        // Where places are few, nearly all of them are some channel's winner.
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
                    if (places.inside[j])
                        load_halves(x[j], args.x + start + element(places.pixel[j], args.c));
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
        dx[i] =
            multiply_add(affine.scale[i], passed, multiply_add(slopes.slope[i], values[i], slopes.offset[i]));
    }
    return pack(dx);
}

template <int WIDTH>
DEVICE void input(const NormInputArgs& args) {
    const Spot at = spot<WIDTH>(args.tile, args.inputs, args.c);
    if (!at.active) return;
    const Affine<WIDTH> affine =
        load_affine<WIDTH>(args.weight, args.bias, args.statistics, args.c, at.channel);
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
        load_affine<WIDTH>(args.weight, args.bias, args.statistics, args.c, at.channel);
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
        // Begins with the last window that starts at or before the pixel. Before the first window, p and q
        // wrap around.
        const uint32_t last_p = multiply_high(2 * row, window.reciprocal);
        const uint32_t last_q = multiply_high(2 * column, window.reciprocal);
        for (uint32_t r = row - last_p * window.stride, p = last_p; r < window.size;
             r += window.stride, p--) {
            if (p >= window.p) continue;
            for (uint32_t s = column - last_q * window.stride, q = last_q; s < window.size;
                 s += window.stride, q--) {
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

}  // namespace

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
        const float* from =
            args.partials + (static_cast<size_t>(group) * args.blocks + block) * 2 * c + channel;
        sums[0] += from[0];
        sums[1] += from[c];
    }
    sum_rows(sums, shared, row, rows, GRADIENT_LANES);
    if (row != 0 || channel >= c) return;
    const size_t at = static_cast<size_t>(group) * 2 * c + channel;
    const double mean = args.statistics[at], inverse = args.statistics[at + c];
    const double scale = args.weight[channel] * inverse, count = args.count;
    // Statistics that x does not change send no gradient back.
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

// Batch norm forward: y = pool(relu_sum(residual + relu(z))), in norm.cuh's terms.

#include "norm.cuh"

namespace {

// Computes what the last ReLU and the pool are applied to: z, or residual + relu(z). A ReLU is a lower bound,
// 0; without one the bound is -infinity. NaN stays NaN, so that a diverged run shows.
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
        load_affine<WIDTH>(args.weight, args.bias, args.statistics, args.c, at.channel);
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

// The pool comes before the last ReLU, which changes neither its result nor, where a gradient passes, its
// winner.
template <int WIDTH, bool RESIDUAL>
DEVICE void pool_forward(const NormForwardArgs& args) {
    const Window& window = args.window;
    const Spot at = spot<WIDTH>(args.tile, args.outputs, args.c);
    if (!at.active) return;
    const Affine<WIDTH> affine =
        load_affine<WIDTH>(args.weight, args.bias, args.statistics, args.c, at.channel);
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
                    // The first of equal values wins. A NaN outlasts every number; what wins then passes no
                    // gradient.
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

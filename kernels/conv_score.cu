// Scores of a convolution's filter: the sum over samples of the square, or the magnitude, of each sample's
// own wgrad. scores (K,C,R,R), in that order, are added to; x (N,H,W,C), dy (N,P,Q,K).
//
// On tensor cores a block owns 64 x 64 of the matrix (K, R S C) and a share of the samples. It computes one
// sample's wgrad after another as conv_wgrad.cu does, but a sample's P Q pixels are padded to whole parts of
// 16, an mma's length; after the last part of each sample the product is counted into a second set of
// accumulators and begins again at zero. So no sample's gradient leaves registers, and copies for the next
// sample are under way while this one ends. The loaders are not wgrad's, which step through pixels without
// regard to samples. A block leaves its share's sums in memory; conv_score_sum adds the shares in order,
// turns (R,S,C) into (C,R,S) and adds the result to the scores.
//
// With 2x2 pixels three quarters of the mma, and of what is copied, are zeros. What this costs on a GPU is
// predicted in benches/RESULTS.md.
#include "tiles.cuh"

#include "args/conv.h"

namespace {

template <bool ABSOLUTE>
DEVICE float count(float score, float gradient) {
    return ABSOLUTE ? score + magnitude(gradient) : multiply_add(gradient, gradient, score);
}

// The tile of the tensor cores' kernel.
using T = Tile<64, 64, 32, 32, true, true>;
// Pixels in a part of a sample.
constexpr uint32_t PART = 16;
constexpr uint32_t CHUNKS = 8;
static_assert(T::ROWS == 8 * CHUNKS && T::COLUMNS == 8 * CHUNKS && T::THREADS == PART * CHUNKS &&
                  STEP == 2 * PART,
              "a thread has one pixel of each part, 8 rows of it and 8 columns");

// Loads both operands part by part. A thread has one pixel of each part, 8 rows of dy and 8 columns of x
// there.
template <bool GATHER>
struct Operands {
    const ConvScoreArgs& args;
    uint32_t line, chunk;
    // The sample, below `end`; which of its parts; the thread's pixel (p, q) there, and the one in the first
    // part.
    uint32_t sample, end, part, parts, p, q, first_p, first_q;
    // `rows`: channels of dy from this thread's first one on. `dy`: the offset, in elements, of that channel
    // at the thread's pixel in the first part.
    int32_t rows, dy;
    // For each column: its tap, in pixels from the thread's pixel, and the offset in elements from that
    // pixel's first channel. Columns beyond the last have a tap that never finds a pixel.
    static constexpr uint32_t TAPS = GATHER ? 8 : 1;
    int32_t down[TAPS], right[TAPS], offset[TAPS];

    DEVICE Operands(const ConvScoreArgs& args, uint32_t first, uint32_t end, uint32_t parts,
                    uint32_t first_row, uint32_t first_column)
        : args(args), sample(first), end(end), part(0), parts(parts) {
        const ConvShape& g = args.shape;
        line = thread_index() / CHUNKS;
        chunk = thread_index() % CHUNKS;
        first_p = p = line / g.q;
        first_q = q = line % g.q;
        rows = static_cast<int32_t>(g.k - first_row - 8 * chunk);
        dy = line * g.k + first_row + 8 * chunk;
        UNROLL
        for (uint32_t i = 0; i < TAPS; i++) {
            const uint32_t column = first_column + 8 * chunk + i, tap = column / g.c;
            down[i] = static_cast<int32_t>(tap / g.r) - static_cast<int32_t>(g.pad);
            right[i] = static_cast<int32_t>(tap % g.r) - static_cast<int32_t>(g.pad);
            offset[i] = (down[i] * static_cast<int32_t>(g.w) + right[i]) * static_cast<int32_t>(g.c) +
                        static_cast<int32_t>(column % g.c);
            // A row below any image, which `sees` refuses.
            if (tap >= g.r * g.r) down[i] = g.h;
        }
    }

    // Whether column i's tap finds a pixel. Above the image and left of it, h and w wrap around and are too
    // large.
    DEVICE bool sees(uint32_t i) const {
        const uint32_t h = static_cast<int32_t>(p * args.shape.stride) + down[i];
        const uint32_t w = static_cast<int32_t>(q * args.shape.stride) + right[i];
        return h < args.shape.h && w < args.shape.w;
    }

    DEVICE void next() {
        const uint32_t columns = args.shape.q;
        p += PART / columns;
        q += PART % columns;
        if (q >= columns) {
            q -= columns;
            p++;
        }
        if (++part == parts) {
            part = 0;
            sample++;
            p = first_p;
            q = first_q;
        }
    }

    DEVICE void fill(f16* stage) {
        const ConvShape& g = args.shape;
        // All loads come before all stores: the compiler must assume that a store changes what is loaded
        // after it.
        Half8 gradients[2], inputs[2];
        const bool whole = !GATHER || g.k % 8 == 0;
        UNROLL
        for (uint32_t half = 0; half < 2; half++) {
            const uint32_t at = PART * half + line;
            // In a sample's padding p is too large.
            const bool valid = sample < end && p < g.p;
            const f16* gradient =
                args.dy + (static_cast<int32_t>((sample * g.p * g.q + part * PART) * g.k) + dy);
            const f16* input =
                args.x + static_cast<int32_t>(sample * g.h * g.w * g.c + (p * g.w + q) * (g.stride * g.c));
            if (whole) copy_async_16(stage + place<T::ROWS>(at, chunk), gradient, valid && rows > 0);
            if (GATHER) {
                UNROLL
                for (uint32_t i = 0; i < 8; i++) {
                    inputs[half].v[i] = valid && sees(i % TAPS) ? input[offset[i % TAPS]] : to_half(0);
                    if (!whole)
                        gradients[half].v[i] =
                            valid && static_cast<int32_t>(i) < rows ? gradient[i] : to_half(0);
                }
            } else {
                copy_async_16_cached(stage + T::A + place<T::COLUMNS>(at, chunk), input + offset[0],
                                     valid && sees(0));
            }
            next();
        }
        UNROLL
        for (uint32_t half = 0; GATHER && half < 2; half++) {
            const uint32_t at = PART * half + line;
            store_half8(stage + T::A + place<T::COLUMNS>(at, chunk), inputs[half]);
            if (!whole) store_half8(stage + place<T::ROWS>(at, chunk), gradients[half]);
        }
    }
};

template <bool GATHER, bool ABSOLUTE>
DEVICE void score(const ConvScoreArgs& args) {
    const ConvShape& g = args.shape;
    const uint32_t area = g.r * g.r * g.c, parts = (g.p * g.q + PART - 1) / PART;
    const uint32_t across = (area + T::COLUMNS - 1) / T::COLUMNS;
    const uint32_t first_row = block_x() / across * T::ROWS, first_column = block_x() % across * T::COLUMNS;
    const uint32_t first = block_y() * args.samples;
    const uint32_t samples = g.n - first < args.samples ? g.n - first : args.samples;

    Operands<GATHER> operands(args, first, first + samples, parts, first_row, first_column);
    T::Product d, scores;
    T::clear(d);
    T::clear(scores);
    uint32_t left = parts;
    T::multiply(d, reinterpret_cast<f16*>(dynamic_shared()), (samples * parts + 1) / 2,
        [&](f16* stage) { operands.fill(stage); },
        [&] {
            // Half a step may be left over. It is zeros, which add nothing.
            if (--left > 0) return;
            left = parts;
            UNROLL
            for (int i = 0; i < T::M; i++) {
                UNROLL
                for (int j = 0; j < T::N; j++) {
                    UNROLL
                    for (int e = 0; e < 4; e++)
                        scores[i][j][e] = count<ABSOLUTE>(scores[i][j][e], d[i][j][e]);
                }
            }
            T::clear(d);
        });
    T::store(scores, args.partials + static_cast<uint64_t>(block_y()) * g.k * area, g.k, area, first_row,
             first_column);
}

// Analytic: one thread computes one score, and sums have the order of the loops.
template <bool ABSOLUTE>
DEVICE void score_analytic(const ConvScoreArgs& args) {
    const ConvShape g = args.shape;
    const uint32_t i = block_x() * block_threads() + thread_index();
    if (i < g.k * g.c * g.r * g.r) {
        const uint32_t s = i % g.r, r = i / g.r % g.r, c = i / (g.r * g.r) % g.c, k = i / (g.r * g.r * g.c);
        float score = 0;
        for (uint32_t n = 0; n < g.n; n++) {
            float gradient = 0;
            for (uint32_t p = 0; p < g.p; p++) {
                // Above and left of x, h and w wrap around and are too large.
                const uint32_t h = p * g.stride + r - g.pad;
                if (h >= g.h) continue;
                for (uint32_t q = 0; q < g.q; q++) {
                    const uint32_t w = q * g.stride + s - g.pad;
                    if (w >= g.w) continue;
                    const f16 x = args.x[((n * g.h + h) * g.w + w) * g.c + c];
                    const f16 dy = args.dy[((n * g.p + p) * g.q + q) * g.k + k];
                    gradient = multiply_add(to_float(x), to_float(dy), gradient);
                }
            }
            score = count<ABSOLUTE>(score, gradient);
        }
        args.scores[i] += score;
    }
}

}  // namespace

KERNEL(conv_score_square, ConvScoreArgs, 256) { score_analytic<false>(args); }
KERNEL(conv_score_absolute, ConvScoreArgs, 256) { score_analytic<true>(args); }

// Reads x and dy 8 channels at a time.
KERNEL(conv_score_64x64_square, ConvScoreArgs, 128) { score<false, false>(args); }
KERNEL(conv_score_64x64_absolute, ConvScoreArgs, 128) { score<false, true>(args); }
// Reads x one element at a time, and dy too where K is no multiple of 8. It serves the stem (C = 3), where
// most bytes are dy's.
KERNEL(conv_score_gather_square, ConvScoreArgs, 128) { score<true, false>(args); }
KERNEL(conv_score_gather_absolute, ConvScoreArgs, 128) { score<true, true>(args); }

KERNEL(conv_score_sum, ConvScoreSumArgs, 128) {
    // [channels][R R]. Neighbouring threads write other channels, R R apart; as R R is odd they meet no bank
    // twice.
    SHARED(float, sums, SUM_SCORES);
    const uint32_t k = block_y(), first = block_x() * args.channels;
    const uint32_t channels = args.c - first < args.channels ? args.c - first : args.channels;
    const uint64_t filter = static_cast<uint64_t>(args.k) * args.taps * args.c;
    for (uint32_t i = thread_index(); i < args.taps * channels; i += block_threads()) {
        const uint32_t tap = i / channels, channel = i % channels;
        const float* from = args.partials + (k * args.taps + tap) * args.c + first + channel;
        float sum = 0;
        for (uint32_t share = 0; share < args.shares; share += 8) {
            // Eight loads are under way at a time.
            float values[8];
            UNROLL
            for (uint32_t j = 0; j < 8; j++)
                values[j] = share + j < args.shares ? from[(share + j) * filter] : 0;
            UNROLL
            for (uint32_t j = 0; j < 8; j++) sum += values[j];
        }
        sums[channel * args.taps + tap] = sum;
    }
    block_sync();
    float* to = args.scores + (static_cast<uint64_t>(k) * args.c + first) * args.taps;
    for (uint32_t i = thread_index(); i < args.taps * channels; i += block_threads()) to[i] += sums[i];
}

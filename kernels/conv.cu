// Convolution, analytic: one thread computes one output element, and f32 sums have the order of the loops.
// These kernels are the yardstick of conv_fprop.cu, conv_dgrad.cu and conv_wgrad.cu, and serve the shapes
// that those do not. The reductions that finish both kinds are here too.
//
// x (N,H,W,C), filter (K,R,R,C), y (N,P,Q,K):
//
//     y[n,p,q,k] = sum over r, s, c of x[n, p stride + r - pad, q stride + s - pad, c] filter[k,r,s,c]
//
// with x zero outside. Activations have fewer than 2^31 elements.
#include "device.cuh"

#include "args/conv.h"

KERNEL(conv_fprop, ConvFpropArgs, 256) {
    const ConvShape g = args.shape;
    const uint32_t i = block_x() * block_threads() + thread_index();
    if (i < g.n * g.p * g.q * g.k) {
        const uint32_t k = i % g.k, pixel = i / g.k;
        const uint32_t q = pixel % g.q, p = pixel / g.q % g.p, n = pixel / (g.q * g.p);
        float sum = 0;
        for (uint32_t r = 0; r < g.r; r++) {
            for (uint32_t s = 0; s < g.r; s++) {
                // Above and left of x, h and w wrap around and are too large.
                const uint32_t h = p * g.stride + r - g.pad, w = q * g.stride + s - g.pad;
                if (h >= g.h || w >= g.w) continue;
                const f16* x = args.x + ((n * g.h + h) * g.w + w) * g.c;
                const f16* filter = args.filter + ((k * g.r + r) * g.r + s) * g.c;
                for (uint32_t c = 0; c < g.c; c++)
                    sum = multiply_add(to_float(x[c]), to_float(filter[c]), sum);
            }
        }
        args.y[i] = to_half(sum);
    }
}

KERNEL(conv_dgrad, ConvDgradArgs, 256) {
    const ConvShape g = args.shape;
    const uint32_t i = block_x() * block_threads() + thread_index();
    if (i < g.n * g.h * g.w * g.c) {
        const uint32_t c = i % g.c, pixel = i / g.c;
        const uint32_t w = pixel % g.w, h = pixel / g.w % g.h, n = pixel / (g.w * g.h);
        float sum = 0;
        for (uint32_t r = 0; r < g.r; r++) {
            for (uint32_t s = 0; s < g.r; s++) {
                // At most one output reads this pixel through this tap.
                const uint32_t top = h + g.pad - r, left = w + g.pad - s;
                const uint32_t p = top / g.stride, q = left / g.stride;
                if (h + g.pad < r || w + g.pad < s || p * g.stride != top || q * g.stride != left) continue;
                if (p >= g.p || q >= g.q) continue;
                const f16* dy = args.dy + ((n * g.p + p) * g.q + q) * g.k;
                const f16* filter = args.filter + (r * g.r + s) * g.c + c;
                for (uint32_t k = 0; k < g.k; k++) {
                    sum = multiply_add(to_float(dy[k]), to_float(filter[k * g.r * g.r * g.c]), sum);
                }
            }
        }
        args.dx[i] = to_half(args.accumulate ? to_float(args.dx[i]) + sum : sum);
    }
}

KERNEL(conv_wgrad, ConvWgradArgs, 256) {
    const ConvShape g = args.shape;
    const uint32_t i = block_x() * block_threads() + thread_index();
    if (i < g.k * g.r * g.r * g.c) {
        const uint32_t c = i % g.c, s = i / g.c % g.r, r = i / (g.c * g.r) % g.r, k = i / (g.c * g.r * g.r);
        float sum = 0;
        for (uint32_t n = 0; n < g.n; n++) {
            for (uint32_t p = 0; p < g.p; p++) {
                const uint32_t h = p * g.stride + r - g.pad;
                if (h >= g.h) continue;
                for (uint32_t q = 0; q < g.q; q++) {
                    const uint32_t w = q * g.stride + s - g.pad;
                    if (w >= g.w) continue;
                    const f16 x = args.x[((n * g.h + h) * g.w + w) * g.c + c];
                    const f16 dy = args.dy[((n * g.p + p) * g.q + q) * g.k + k];
                    sum = multiply_add(to_float(x), to_float(dy), sum);
                }
            }
        }
        args.dfilter[i] = sum;
    }
}

// Leaves the sum and the sum of squares of a block's rows, by channel.
KERNEL(channel_sums, ChannelSumsArgs, 64) {
    const uint32_t channel = block_y() * block_threads() + thread_index();
    if (channel < args.channels) {
        const uint32_t first = block_x() * args.rows_per_block;
        const uint32_t rows =
            args.rows - first < args.rows_per_block ? args.rows - first : args.rows_per_block;
        float sum = 0, squares = 0;
        for (uint32_t row = first; row < first + rows; row++) {
            const float y = to_float(args.y[row * args.channels + channel]);
            sum += y;
            squares = multiply_add(y, y, squares);
        }
        float* partials = args.partials + 2 * block_x() * args.channels + channel;
        partials[0] = sum;
        partials[args.channels] = squares;
    }
}

// Sums by column in f64. Sharer i adds rows i, i + sharers, ...; then the sharers' sums are added by halves.
// There are few sharers where there are many columns, and many where there are many rows.
KERNEL(sum_rows, SumRowsArgs, 1024) {
    SHARED(double, sums, 1024);
    const uint32_t width = block_threads() / args.sharers;
    const uint32_t sharer = thread_index() / width;
    const uint32_t column = block_x() * width + thread_index() % width;
    double sum = 0;
    if (column < args.columns) {
        for (uint32_t row = sharer; row < args.rows; row += 8 * args.sharers) {
            // Eight loads are under way at a time.
            float values[8];
            UNROLL
            for (uint32_t i = 0; i < 8; i++) {
                const uint32_t at = row + i * args.sharers;
                values[i] =
                    at < args.rows ? args.partials[static_cast<uint64_t>(at) * args.columns + column] : 0;
            }
            UNROLL
            for (uint32_t i = 0; i < 8; i++) sum += static_cast<double>(values[i]);
        }
    }
    sums[thread_index()] = sum;
    block_sync();
    for (uint32_t half = args.sharers / 2; half > 0; half /= 2) {
        if (sharer < half) sums[thread_index()] += sums[thread_index() + half * width];
        block_sync();
    }
    if (sharer == 0 && column < args.columns) {
        if (args.doubles) args.doubles[column] = sums[thread_index()];
        if (args.floats) args.floats[column] = static_cast<float>(sums[thread_index()]);
    }
}

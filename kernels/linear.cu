// The linear layer and the constant after it, y = scale (x W^T + b):
//
//     y (n, K) = scale (x (n, C) W (K, C)^T + b (K))
//     dx = scale dy W;  dW = scale dy^T x;  db = scale sum over n of dy
//
// and scores, the sums over n of the squares, or magnitudes, of each image's own dW and db.
//
// Activations in f16, sums in f32. W is the f32 master: exact, and no larger than what the L2 serves anyway
// (20 KB for 512 -> 10). Each sum is taken by lanes or warps in a fixed order that depends on the shape
// alone.
//
// For resnet9's n = 512, C = 512, K = 10 each pass reads or writes x once, 0.5 MB, and does 5 MFLOP: a launch
// costs more than the work. So the kernels are not tuned beyond giving no thread a long chain of dependent
// additions.
#include "device.cuh"

#include "args/linear.h"

// A warp computes an image; its lanes share the inputs.
KERNEL(linear_forward, LinearForwardArgs, 32 * FORWARD_IMAGES) {
    const uint32_t lane = thread_index() % 32;
    const uint32_t n = block_x() * FORWARD_IMAGES + thread_index() / 32;
    const uint32_t first = block_y() * OUTPUTS;
    if (n < args.n) {
        const f16* x = args.x + n * args.c;
        float sum[OUTPUTS] = {};
        for (uint32_t c = lane; c < args.c; c += 32) {
            const float value = to_float(x[c]);
            for (uint32_t j = 0; j < OUTPUTS; j++) {
                if (first + j < args.k)
                    sum[j] = multiply_add(value, args.weight[(first + j) * args.c + c], sum[j]);
            }
        }
        for (uint32_t j = 0; j < OUTPUTS; j++) {
            const uint32_t k = first + j;
            const float total = warp_sum(sum[j]);
            if (lane == j && k < args.k) {
                args.y[n * args.k + k] = to_half(args.scale * (total + (args.bias ? args.bias[k] : 0.0f)));
            }
        }
    }
}

// A thread computes one input's gradient for a few images, which share its weights.
KERNEL(linear_dgrad, LinearDgradArgs, 128) {
    const uint32_t c = block_x() * block_threads() + thread_index();
    const uint32_t first = block_y() * DGRAD_IMAGES;
    if (c < args.c) {
        float sum[DGRAD_IMAGES] = {};
        for (uint32_t k = 0; k < args.k; k++) {
            const float weight = args.weight[k * args.c + c];
            for (uint32_t j = 0; j < DGRAD_IMAGES; j++) {
                if (first + j < args.n)
                    sum[j] = multiply_add(to_float(args.dy[(first + j) * args.k + k]), weight, sum[j]);
            }
        }
        for (uint32_t j = 0; j < DGRAD_IMAGES; j++) {
            if (first + j < args.n) args.dx[(first + j) * args.c + c] = to_half(args.scale * sum[j]);
        }
    }
}

namespace {

// What is summed over the images: gradients, their squares or their magnitudes.
enum class Sum { GRADIENTS, SQUARES, MAGNITUDES };

template <Sum SUM>
DEVICE float plus(float sum, float dy, float x) {
    if (SUM == Sum::GRADIENTS) return multiply_add(dy, x, sum);
    const float g = dy * x;
    return SUM == Sum::SQUARES ? multiply_add(g, g, sum) : sum + magnitude(g);
}

// A block has 32 inputs, one a lane. Its warps share the images, and their sums are added in the order of the
// warps. The bias is the weight of one more input, which is 1 in every image. Gradients are overwritten;
// scores are added to.
template <Sum SUM>
DEVICE void sum_images(const LinearWgradArgs& args, float* partial) {
    const uint32_t lane = thread_index() % 32, warp = thread_index() / 32, warps = block_threads() / 32;
    const uint32_t c = block_x() * 32 + lane;
    const uint32_t first = block_y() * OUTPUTS;
    float sum[OUTPUTS] = {};
    for (uint32_t n = warp; n < args.n; n += warps) {
        const float x = c < args.c ? to_float(args.x[n * args.c + c]) : 1.0f;
        for (uint32_t j = 0; j < OUTPUTS; j++) {
            if (first + j < args.k) sum[j] = plus<SUM>(sum[j], to_float(args.dy[n * args.k + first + j]), x);
        }
    }
    for (uint32_t j = 0; j < OUTPUTS; j++) partial[(warp * OUTPUTS + j) * 32 + lane] = sum[j];
    block_sync();
    for (uint32_t i = thread_index(); i < OUTPUTS * 32; i += block_threads()) {
        const uint32_t k = first + i / 32, column = block_x() * 32 + i % 32;
        float total = 0.0f;
        for (uint32_t w = 0; w < warps; w++) total += partial[w * OUTPUTS * 32 + i];
        if (k >= args.k || column > args.c || (column == args.c && !args.dbias)) continue;
        float* to = column < args.c ? args.dweight + k * args.c + column : args.dbias + k;
        *to = SUM == Sum::GRADIENTS ? args.scale * total : multiply_add(args.scale, total, *to);
    }
}

}  // namespace

KERNEL(linear_wgrad, LinearWgradArgs, 32 * WGRAD_WARPS) {
    SHARED(float, partial, WGRAD_WARPS * OUTPUTS * 32);
    sum_images<Sum::GRADIENTS>(args, partial);
}
KERNEL(linear_score_square, LinearWgradArgs, 32 * WGRAD_WARPS) {
    SHARED(float, partial, WGRAD_WARPS * OUTPUTS * 32);
    sum_images<Sum::SQUARES>(args, partial);
}
KERNEL(linear_score_absolute, LinearWgradArgs, 32 * WGRAD_WARPS) {
    SHARED(float, partial, WGRAD_WARPS * OUTPUTS * 32);
    sum_images<Sum::MAGNITUDES>(args, partial);
}

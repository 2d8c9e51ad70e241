// Nesterov SGD over the flat vector, per weight, in f32 (docs/METHOD.md, "Optimiser"):
//
//     d = -lr (g + wd w);  v = momentum v + d;  w = w + d + momentum v
//
// weights, velocity, gradients (n), 16-byte aligned; halves (n), if not null: the weights rounded to f16,
// which the tensor cores read. Each operation rounds as on the CPU, so the bits are the same.
//
// Three kernels with one arithmetic, for training without a mask and under either update rule
// (docs/METHOD.md, "Masks"):
//
//     sgd_step        every weight
//     sgd_published   every weight, with g = 0 where `kept` (n) is 0; it selects, as g may be NaN there
//     sgd_strict      the weights at `indices` (n), ascending, with packed velocities; reads nothing else
//
// sgd_step reads twelve bytes a weight and writes ten: 145 MB for resnet9's 6.6 M weights, 468 MB for
// resnet34's. A thread has eight weights, in accesses of 16 bytes. sgd_published reads one byte a weight
// more.
//
// sgd_strict touches, for a kept weight, up to four scattered sectors of 32 bytes (weight and gradient read,
// weight and half written) and 12 bytes in order: at most 60 MB for 2% of resnet34, 426,000 weights. At 10%
// neighbours begin to share sectors.
#include "device.cuh"
#include "halves.cuh"

#include "args/sgd.h"

namespace {

// Returns the new weight and updates the velocity.
DEVICE float step(const SgdArgs& args, float lr, float w, float g, float& velocity) {
    const float d = multiply(-lr, multiply_add(args.weight_decay, w, g));
    const float v = multiply_add(args.momentum, velocity, d);
    velocity = v;
    return add(w, multiply_add(args.momentum, v, d));
}

template <bool PUBLISHED>
DEVICE void step_all(const SgdArgs& args) {
    const uint32_t thread = block_x() * block_threads() + thread_index(),
                   threads = grid_x() * block_threads();
    const float lr = args.rates[*args.step];
    const uint32_t eights = args.n / 8;
    for (uint32_t eight = thread; eight < eights; eight += threads) {
        Half8 halves;
        Float4 w[2], v[2], g[2];
        const Bytes<8> kept = PUBLISHED ? load_bytes<8>(args.kept + 8 * eight) : Bytes<8>{};
        for (uint32_t half = 0; half < 2; half++) {
            const uint32_t i = 8 * eight + 4 * half;
            w[half] = load_float4(args.weights + i);
            v[half] = load_float4(args.velocity + i);
            g[half] = load_float4(args.gradients + i);
        }
        for (uint32_t i = 0; i < 8; i++) {
            const bool counts = !PUBLISHED || (kept.word >> 8 * i & 255) != 0;
            const float gradient = counts ? g[i / 4].v[i % 4] : 0.0f;
            w[i / 4].v[i % 4] = step(args, lr, w[i / 4].v[i % 4], gradient, v[i / 4].v[i % 4]);
            halves.v[i] = to_half(w[i / 4].v[i % 4]);
        }
        for (uint32_t half = 0; half < 2; half++) {
            const uint32_t i = 8 * eight + 4 * half;
            store_float4(args.weights + i, w[half]);
            store_float4(args.velocity + i, v[half]);
        }
        if (args.halves) store_half8(args.halves + 8 * eight, halves);
    }
    // The weights left over, one a thread.
    const uint32_t i = 8 * eights + thread;
    if (i < args.n) {
        float v = args.velocity[i];
        const float gradient = !PUBLISHED || args.kept[i] != 0 ? args.gradients[i] : 0.0f;
        const float w = step(args, lr, args.weights[i], gradient, v);
        args.velocity[i] = v;
        args.weights[i] = w;
        if (args.halves) args.halves[i] = to_half(w);
    }
}

}  // namespace

KERNEL(sgd_step, SgdArgs, 256) { step_all<false>(args); }
KERNEL(sgd_published, SgdArgs, 256) { step_all<true>(args); }

KERNEL(sgd_strict, SgdArgs, 256) {
    const uint32_t i = block_x() * block_threads() + thread_index();
    if (i < args.n) {
        const uint32_t at = args.indices[i];
        float v = args.velocity[i];
        const float w = step(args, args.rates[*args.step], args.weights[at], args.gradients[at], v);
        args.velocity[i] = v;
        args.weights[at] = w;
        if (args.halves) args.halves[at] = to_half(w);
    }
}

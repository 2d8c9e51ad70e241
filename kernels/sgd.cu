// Nesterov SGD over the flat vector (SPEC section 3), per weight, in f32:
//
//     d = -lr (g + wd w);  v = momentum v + d;  w = w + d + momentum v
//
// weights, velocity, gradients (n), 16-byte aligned; halves (n), if not null: the weights rounded to f16, which the
// tensor cores read. The CPU's roundings, so its bits.
//
// Twelve bytes read and ten written a weight: 145 MB for ResNet-9's 6.6 M, 34 us at 4.3 TB/s; 468 MB and 109 us for
// ResNet-34. Eight weights a thread, in accesses of 16 bytes.
#include "device.cuh"

#include "args/sgd.h"

namespace {

// The new weight.
DEVICE float step(const SgdArgs& args, float lr, float w, float g, float& velocity) {
    const float d = multiply(-lr, multiply_add(args.weight_decay, w, g));
    const float v = multiply_add(args.momentum, velocity, d);
    velocity = v;
    return add(w, multiply_add(args.momentum, v, d));
}

}  // namespace

KERNEL(sgd_step, SgdArgs, 256) {
    const uint32_t thread = block_x() * block_threads() + thread_index(), threads = grid_x() * block_threads();
    const float lr = args.rates[*args.step];
    const uint32_t eights = args.n / 8;
    for (uint32_t eight = thread; eight < eights; eight += threads) {
        Half8 halves;
        Float4 w[2], v[2], g[2];
        for (uint32_t half = 0; half < 2; half++) {
            const uint32_t i = 8 * eight + 4 * half;
            w[half] = load_float4(args.weights + i);
            v[half] = load_float4(args.velocity + i);
            g[half] = load_float4(args.gradients + i);
        }
        for (uint32_t i = 0; i < 8; i++) {
            w[i / 4].v[i % 4] = step(args, lr, w[i / 4].v[i % 4], g[i / 4].v[i % 4], v[i / 4].v[i % 4]);
            halves.v[i] = to_half(w[i / 4].v[i % 4]);
        }
        for (uint32_t half = 0; half < 2; half++) {
            const uint32_t i = 8 * eight + 4 * half;
            store_float4(args.weights + i, w[half]);
            store_float4(args.velocity + i, v[half]);
        }
        if (args.halves) store_half8(args.halves + 8 * eight, halves);
    }
    // What is left, one a thread.
    const uint32_t i = 8 * eights + thread;
    if (i < args.n) {
        float v = args.velocity[i];
        const float w = step(args, lr, args.weights[i], args.gradients[i], v);
        args.velocity[i] = v;
        args.weights[i] = w;
        if (args.halves) args.halves[i] = to_half(w);
    }
}

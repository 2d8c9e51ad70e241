// Nesterov SGD over the flat vector (SPEC section 3), per weight, in f32:
//
//     d = -lr (g + wd w);  v = momentum v + d;  w = w + d + momentum v
//
// weights, velocity, gradients (n); halves (n), if not null: the weights rounded to f16, which the tensor cores read.
#include "device.cuh"

#include "args/sgd.h"

KERNEL(sgd_step, SgdArgs, 256) {
    const uint32_t stride = grid_x() * block_threads();
    const float lr = args.rates[*args.step];
    for (uint32_t i = block_x() * block_threads() + thread_index(); i < args.n; i += stride) {
        const float d = -lr * multiply_add(args.weight_decay, args.weights[i], args.gradients[i]);
        const float v = multiply_add(args.momentum, args.velocity[i], d);
        const float w = args.weights[i] + multiply_add(args.momentum, v, d);
        args.velocity[i] = v;
        args.weights[i] = w;
        if (args.halves) args.halves[i] = to_half(w);
    }
}

// Copies the values of some weights out of the flat vector, or into it: what workers exchange. A third kernel
// sets a vector to zero; a kernel does it, not the driver, so that it can be recorded.
//
// vector (flat), halves (flat) or null, indices (n) ascending, values (n).
//
// An index costs a scattered sector of 32 bytes and 8 bytes in order, and one sector more for its half: for
// 2% of resnet34, 426,000 indices, gather moves at most 17 MB and scatter 30 MB.
#include "device.cuh"

#include "args/gather.h"

KERNEL(gather, GatherArgs, 256) {
    const uint32_t i = block_x() * block_threads() + thread_index();
    if (i < args.n) args.values[i] = args.vector[args.indices[i]];
}

KERNEL(scatter, ScatterArgs, 256) {
    const uint32_t i = block_x() * block_threads() + thread_index();
    if (i < args.n) {
        const uint32_t at = args.indices[i];
        args.vector[at] = args.values[i];
        if (args.halves) args.halves[at] = to_half(args.values[i]);
    }
}

KERNEL(clear, ClearArgs, 256) {
    const uint32_t threads = grid_x() * block_threads();
    for (uint64_t i = block_x() * block_threads() + thread_index(); i < args.n; i += threads) {
        args.values[i] = 0;
        if (args.halves) args.halves[i] = to_half(0);
    }
}

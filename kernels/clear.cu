// Sets a buffer to zero. A kernel does it, not a copy by the driver, so that it can be recorded.
#include "device.cuh"

#include "args/clear.h"

KERNEL(clear, ClearArgs, 256) {
    const uint32_t threads = grid_x() * block_threads();
    for (uint64_t i = block_x() * block_threads() + thread_index(); i < args.n; i += threads) {
        args.values[i] = 0;
        if (args.halves) args.halves[i] = to_half(0);
    }
}

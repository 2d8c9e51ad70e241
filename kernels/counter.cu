// Advances the counters that launches read, so that a recorded launch does the next step's work each time it
// is replayed.
#include "device.cuh"

#include "args/cuda.h"

KERNEL(advance, AdvanceArgs, 32) {
    if (thread_index() == 0) *args.counter += args.by;
}

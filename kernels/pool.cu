// Global average pooling and its way back. Max pooling is part of norm_forward.cu and
// norm_backward.cu.
//
//     y (N, C) = mean of x (N, H, W, C) over H, W;  dx = dy / (H W)
//
// A thread has WIDTH channels of an image and goes through its pixels, whose order is that of the sum. An
// element of x or dx costs 2 bytes: resnet18's 512 images of 2x2x512 are 2 MB, little more than a launch's
// time. Four loads of 16 bytes are under way in each of 32,768 threads.
#include "device.cuh"
#include "halves.cuh"

#include "args/pool.h"

namespace {

struct Spot {
    uint32_t image, channel;
    bool active;
};

template <int WIDTH>
DEVICE Spot spot(const AveragePoolArgs& args) {
    const uint32_t lanes = args.c / WIDTH, index = block_x() * block_threads() + thread_index();
    const uint32_t image = index / lanes;
    return {image, index % lanes * WIDTH, image < args.n};
}

constexpr uint32_t BATCH = 4;

template <int WIDTH>
DEVICE void average_forward(const AveragePoolArgs& args) {
    const Spot at = spot<WIDTH>(args);
    if (!at.active) return;
    const f16* from = args.from + static_cast<size_t>(at.image) * args.pixels * args.c + at.channel;
    float sums[WIDTH] = {};
    for (uint32_t first = 0; first < args.pixels; first += BATCH) {
        Halves<WIDTH> x[BATCH] = {};
        for (uint32_t j = 0; j < BATCH; j++) {
            if (first + j < args.pixels) load_halves(x[j], from + static_cast<size_t>(first + j) * args.c);
        }
        for (uint32_t j = 0; j < BATCH; j++) {
            float values[WIDTH];
            unpack(x[j], values);
            for (int i = 0; i < WIDTH; i++) sums[i] = add(sums[i], values[i]);
        }
    }
    for (int i = 0; i < WIDTH; i++) sums[i] = multiply(sums[i], args.share);
    store_halves(args.to + static_cast<size_t>(at.image) * args.c + at.channel, pack(sums));
}

template <int WIDTH>
DEVICE void average_backward(const AveragePoolArgs& args) {
    const Spot at = spot<WIDTH>(args);
    if (!at.active) return;
    Halves<WIDTH> dy;
    load_halves(dy, args.from + static_cast<size_t>(at.image) * args.c + at.channel);
    float values[WIDTH];
    unpack(dy, values);
    for (int i = 0; i < WIDTH; i++) values[i] = multiply(values[i], args.share);
    const Halves<WIDTH> dx = pack(values);
    f16* to = args.to + static_cast<size_t>(at.image) * args.pixels * args.c + at.channel;
    for (uint32_t pixel = 0; pixel < args.pixels; pixel++) {
        store_halves(to + static_cast<size_t>(pixel) * args.c, dx);
    }
}

}  // namespace

KERNEL(average_forward_8, AveragePoolArgs, THREADS) { average_forward<8>(args); }
KERNEL(average_forward_1, AveragePoolArgs, THREADS) { average_forward<1>(args); }
KERNEL(average_backward_8, AveragePoolArgs, THREADS) { average_backward<8>(args); }
KERNEL(average_backward_1, AveragePoolArgs, THREADS) { average_backward<1>(args); }

// Statistics (G, 2, C), mean and 1/sqrt(var + eps): of a batch from its convolution's sums, of running
// statistics, and of each image alone.

#include "norm.cuh"

namespace {

// Computes the mean, then the variance about it: an image's x is read twice, the second time from the cache.
template <int WIDTH>
DEVICE void sample_statistics(const SampleStatisticsArgs& args, float* shared) {
    const Spot at = spot<WIDTH>(args.tile, args.pixels, args.c);
    const f16* x = args.x + group_start(args.pixels, args.c, at.channel);
    const uint32_t lane = thread_index() % args.tile.lanes;
    float mean[WIDTH] = {}, sums[WIDTH] = {};
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t pixel = at.first; at.active && pixel < at.end; pixel += args.tile.rows) {
            Halves<WIDTH> halves;
            load_halves(halves, x + element(pixel, args.c));
            float values[WIDTH];
            unpack(halves, values);
            for (int i = 0; i < WIDTH; i++) {
                const float value = values[i] - mean[i];
                sums[i] = pass == 0 ? add(sums[i], value) : multiply_add(value, value, sums[i]);
            }
        }
        sum_rows(sums, shared, at.row, args.tile.rows, args.tile.lanes);
        if (pass == 0) {
            // Row 0's sums lie where each of its threads put them.
            block_sync();
            for (int i = 0; i < WIDTH; i++) {
                mean[i] = shared[i * block_threads() + lane] / static_cast<float>(args.pixels);
                sums[i] = 0;
            }
            block_sync();
        }
    }
    if (!at.active || at.row != 0) return;
    float* to = args.statistics + static_cast<size_t>(block_z()) * 2 * args.c + at.channel;
    for (int i = 0; i < WIDTH; i++) {
        to[i] = mean[i];
        to[args.c + i] = reciprocal_sqrt(sums[i] / static_cast<float>(args.pixels) + args.eps);
    }
}

}  // namespace

KERNEL(batch_statistics, BatchStatisticsArgs, THREADS) {
    const uint32_t c = args.c, i = block_x() * block_threads() + thread_index();
    if (i >= c) return;
    const double mean = args.sums[i] / args.count;
    const double difference = multiply_add(-mean, mean, args.sums[c + i] / args.count);
    // NaN stays NaN.
    const double variance = difference < 0 ? 0 : difference;
    args.statistics[i] = static_cast<float>(mean);
    args.statistics[c + i] = static_cast<float>(reciprocal_sqrt(variance + args.eps));
    const double unbiased = variance * args.count / (args.count > 1 ? args.count - 1 : 1);
    const double kept = 1 - args.momentum;
    args.running[i] = static_cast<float>(multiply_add(args.momentum, mean, kept * args.running[i]));
    args.running[c + i] =
        static_cast<float>(multiply_add(args.momentum, unbiased, kept * args.running[c + i]));
    if (!is_finite(args.sums[i]) || !is_finite(args.sums[c + i]))
        note_fault(args.fault, args.step, args.place);
}

KERNEL(running_statistics, RunningStatisticsArgs, THREADS) {
    const uint32_t i = block_x() * block_threads() + thread_index();
    if (i >= args.c) return;
    float* to = args.statistics + static_cast<size_t>(block_y()) * 2 * args.c + i;
    to[0] = args.running[i];
    to[args.c] = reciprocal_sqrt(args.running[args.c + i] + args.eps);
}

KERNEL(sample_statistics_8, SampleStatisticsArgs, THREADS) {
    SHARED(float, shared, 8 * THREADS);
    sample_statistics<8>(args, shared);
}
KERNEL(sample_statistics_1, SampleStatisticsArgs, THREADS) {
    SHARED(float, shared, THREADS);
    sample_statistics<1>(args, shared);
}

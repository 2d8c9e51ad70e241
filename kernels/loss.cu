// Softmax cross-entropy, summed over the batch, of logits (n, classes) against labels (n); per image
//
//     loss = sum over i of target_i (log sum_j exp(v_j) - v_i),  target_i = spread + share [i = label]
//     dlogits_i = softmax_i - target_i
//
// One block, a thread an image: the sum has a fixed order and no second launch. 512 images of 10 logits are 10 KB in
// and 10 KB out; what takes the time is a thread's chain of 30 loads and 20 exponentials, about 3 us.
// Exponentials and the logarithm are f32's, of differences to the largest logit; losses are summed in f64.
#include "device.cuh"

#include "args/loss.h"

KERNEL(softmax_cross_entropy, LossArgs, LOSS_THREADS) {
    SHARED(double, losses, LOSS_THREADS / 32);
    SHARED(uint32_t, corrects, LOSS_THREADS / 32);
    double loss = 0.0;
    uint32_t correct = 0;
    for (uint32_t n = thread_index(); n < args.n; n += block_threads()) {
        const f16* row = args.logits + n * args.classes;
        const uint32_t label = args.labels[n];
        // The first of equal logits. A NaN is never the largest, and makes the sum NaN below.
        float largest = float_from_bits(0xff800000u);
        uint32_t best = 0;
        for (uint32_t i = 0; i < args.classes; i++) {
            const float v = to_float(row[i]);
            if (v > largest) {
                largest = v;
                best = i;
            }
        }
        float sum = 0.0f;
        for (uint32_t i = 0; i < args.classes; i++) sum += exponential(to_float(row[i]) - largest);
        const double log_sum = logarithm(sum);
        double own = 0.0;
        for (uint32_t i = 0; i < args.classes; i++) {
            const float v = to_float(row[i]);
            const double target = args.spread + (i == label ? args.share : 0.0);
            // A target of 0 too: 0 times infinity shows.
            own += target * (log_sum + (static_cast<double>(largest) - v));
            if (args.dlogits) {
                const float probability = exponential(v - largest) / sum;
                args.dlogits[n * args.classes + i] = to_half(probability - static_cast<float>(target));
            }
        }
        loss += own;
        correct += best == label;
    }
    loss = warp_sum(loss);
    correct = warp_sum(correct);
    const uint32_t lane = thread_index() % 32, warp = thread_index() / 32;
    if (lane == 0) {
        losses[warp] = loss;
        corrects[warp] = correct;
    }
    block_sync();
    if (warp == 0) {
        const bool there = lane < block_threads() / 32;
        loss = warp_sum(there ? losses[lane] : 0.0);
        correct = warp_sum(there ? corrects[lane] : 0u);
        if (lane == 0) {
            const double total = *args.loss + loss;
            *args.loss = total;
            args.counts[0] += correct;
            args.counts[1] += args.n;
            if (!is_finite(total)) {
                atomic_min_u64(args.fault, static_cast<uint64_t>(*args.step) << 32 | args.place);
            }
        }
    }
}

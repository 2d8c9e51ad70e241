// Softmax cross-entropy, summed over the batch, of logits (n, classes) against labels (n); per image
//
//     loss = sum over i of target_i (log sum_j exp(v_j) - v_i),  target_i = spread + share [i = label]
//     dlogits_i = softmax_i - target_i
//
// One block does it, a thread for each image: so the sum has a fixed order without a second launch. 512
// images of 10 logits are 10 KB in and 10 KB out; what takes the time is a thread's chain of 30 loads and 20
// exponentials. Exponentials and the logarithm are f32's, of differences to the largest logit; losses are
// summed in f64.
//
// score_gradient is the gradient alone, of each image's own loss for its label or for a class of every image,
// which is then weighted by that class's probability, or the root of it.
#include "device.cuh"

#include "args/loss.h"

namespace {

// What turns a row of logits into probabilities, exp(v_i - largest) / sum.
struct Softmax {
    float largest, sum;
    // The index of the largest logit, the first of equal ones.
    uint32_t best;
};

DEVICE Softmax softmax(const f16* row, uint32_t classes) {
    // A NaN is never the largest, and makes the sum NaN below.
    Softmax of = {float_from_bits(0xff800000u), 0.0f, 0};
    for (uint32_t i = 0; i < classes; i++) {
        const float v = to_float(row[i]);
        if (v > of.largest) {
            of.largest = v;
            of.best = i;
        }
    }
    for (uint32_t i = 0; i < classes; i++) of.sum += exponential(to_float(row[i]) - of.largest);
    return of;
}

DEVICE float probability(const Softmax& of, float logit) { return exponential(logit - of.largest) / of.sum; }

}  // namespace

KERNEL(softmax_cross_entropy, LossArgs, LOSS_THREADS) {
    SHARED(double, losses, LOSS_THREADS / 32);
    SHARED(uint32_t, corrects, LOSS_THREADS / 32);
    double loss = 0.0;
    uint32_t correct = 0;
    for (uint32_t n = thread_index(); n < args.n; n += block_threads()) {
        const f16* row = args.logits + n * args.classes;
        const uint32_t label = args.labels[n];
        const Softmax of = softmax(row, args.classes);
        const double log_sum = logarithm(of.sum);
        double own = 0.0;
        for (uint32_t i = 0; i < args.classes; i++) {
            const float v = to_float(row[i]);
            const double target = args.spread + (i == label ? args.share : 0.0);
            // A target of 0 counts too: 0 times infinity is NaN, so that a diverged run shows.
            own += target * (log_sum + (static_cast<double>(of.largest) - v));
            if (args.dlogits) {
                args.dlogits[n * args.classes + i] = to_half(probability(of, v) - static_cast<float>(target));
            }
        }
        loss += own;
        correct += of.best == label;
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

KERNEL(score_gradient, ScoreGradientArgs, 128) {
    const uint32_t n = block_x() * block_threads() + thread_index();
    if (n < args.n) {
        const f16* row = args.logits + n * args.classes;
        const Softmax of = softmax(row, args.classes);
        const bool labelled = args.wanted == LABEL;
        const uint32_t wanted = labelled ? args.labels[n] : args.wanted;
        const float p = labelled ? 1.0f : probability(of, to_float(row[wanted]));
        const float weight = labelled || args.absolute ? p : square_root(p);
        for (uint32_t i = 0; i < args.classes; i++) {
            const float target = static_cast<float>(args.spread + (i == wanted ? args.share : 0.0));
            args.dlogits[n * args.classes + i] =
                to_half(weight * (probability(of, to_float(row[i])) - target));
        }
    }
}

// The k largest of n scores, as ascending indices; of equal scores those of lower index. Exact, by radix
// select.
//
// Scores are ordered as Rust's f32::total_cmp has it: -NaN < -inf < ... < -0 < +0 < ... < inf < NaN. A
// score's key is the 32-bit number of that order. The k-th largest key, the threshold, is found digit by
// digit, from the top: 13 bits, 13 bits, 6 bits.
//
//     begin      clears the histograms
//     histogram  keys by their first digit                                              reads the scores
//     choose     the digit in which the k-th largest lies: the threshold's first
//     histogram, choose: the second digit, of keys that have that first                 reads the scores
//     count      by tile, how many keys are at least those two digits and each last     reads the scores
//     place      the last digit, and by tile where its part of the result begins
//     write      the indices of keys above the threshold, and of the first that equal it   reads the scores
//
// Nothing comes back to the host between. The only atomics are integer counts, so two runs give the same
// bits; a tile's part of the result is in order by a scan over its threads.
//
// The scores are read four times, and 8 kernels are launched. Three equal digits of 11, 11 and 10 bits with a
// counting pass of their own would be five reads. A histogram of the last digit by tile would replace that
// pass, but with 10 bits takes 2.7 M counts (21.3 M scores), 21 MB written and read; with 6 bits it is 1.4
// MB. The two wide histograms take 32 KB of shared memory each. Keeping the survivors of the first digit
// aside would read less where few survive, but needs 8 n bytes more, and is slower by far when all scores are
// equal.
#include "device.cuh"

#include "args/top_k.h"

namespace {

constexpr uint32_t WIDE_BITS = 13, NARROW_BITS = 6;
static_assert(WIDE == 1 << WIDE_BITS && NARROW == 1 << NARROW_BITS && 2 * WIDE_BITS + NARROW_BITS == 32,
              "a key's digits");

// A number that grows with the score.
DEVICE uint32_t key_of(float score) {
    const uint32_t bits = float_bits(score);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// A tile's keys by thread: round r takes scores 4 t to 4 t + 3 of its 2048, t the thread. So a warp reads 512
// bytes together, a thread has four loads under way, and the order of scores is by round, then warp, then
// lane.
constexpr uint32_t ROUNDS = TILE / (4 * TILE_THREADS);

struct Keys {
    uint32_t key[ROUNDS][4];
};

// The place of the first score of a thread's round.
DEVICE uint32_t place_of(uint32_t tile, uint32_t round) {
    return tile * TILE + (round * TILE_THREADS + thread_index()) * 4;
}

// Loads the keys of a round. Those of places beyond the scores mean nothing.
DEVICE Keys load_keys(const TopKArgs& args, uint32_t tile) {
    Keys keys;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        const uint32_t i = place_of(tile, round);
        Float4 four = {};
        if (i < args.n && args.n - i >= 4) four = load_float4(args.scores + i);
        for (uint32_t j = 0; j < 4; j++) keys.key[round][j] = key_of(four.v[j]);
        if (i < args.n && args.n - i < 4) {
            for (uint32_t j = 0; j < 3; j++) {
                if (i + j < args.n) keys.key[round][j] = key_of(args.scores[i + j]);
            }
        }
    }
    return keys;
}

// Adds 1 to the digit's count for each lane that counts. All lanes with the first such lane's digit are added
// at once: many scores are equal, those of weights that never get a gradient, and their lanes would wait for
// one another.
DEVICE void count_digit(uint32_t* histogram, uint32_t digit, bool counts) {
    const uint32_t votes = warp_ballot(counts);
    if (votes != 0) {
        const uint32_t first = population((votes & (0u - votes)) - 1);
        const uint32_t common = warp_shuffle(digit, first);
        const bool same = counts && digit == common;
        const uint32_t together = population(warp_ballot(same));
        if (thread_index() % 32 == first) {
            atomic_add(histogram + digit, together);
        } else if (counts && !same) {
            atomic_add(histogram + digit, 1);
        }
    }
}

// The sum of the values of the warp's lanes up to this one.
DEVICE uint32_t scan_warp(uint32_t value) {
    const uint32_t lane = thread_index() % 32;
    for (uint32_t by = 1; by < 32; by *= 2) {
        const uint32_t left = warp_shuffle_up(value, by);
        if (lane >= by) value += left;
    }
    return value;
}

// The sum of the values of all threads before this one, and of all. `sums` holds 33 numbers; a barrier must
// lie between its uses.
struct Scan {
    uint32_t before;
    uint32_t total;
};

DEVICE Scan scan_block(uint32_t value, uint32_t* sums) {
    const uint32_t lane = thread_index() % 32, warp = thread_index() / 32, warps = block_threads() / 32;
    const uint32_t through = scan_warp(value);
    if (lane == 31) sums[warp] = through;
    block_sync();
    if (warp == 0) {
        const uint32_t own = lane < warps ? sums[lane] : 0;
        const uint32_t total = scan_warp(own);
        sums[lane] = total - own;
        if (lane == 31) sums[32] = total;
    }
    block_sync();
    return {sums[warp] + through - value, sums[32]};
}

// The digit of the threshold in a histogram: the one with fewer than `wanted` keys above it and, with its
// own, at least that many. One thread's `found` is set, with the digit and how many of its own are wanted.
struct Choice {
    bool found;
    uint32_t digit;
    uint32_t wanted;
};

DEVICE Choice choose(const uint32_t* histogram, uint32_t digits, uint32_t wanted, uint32_t* sums) {
    const uint32_t each = digits / block_threads() + (digits % block_threads() != 0);
    // Thread 0 has the largest digits.
    const uint32_t first = thread_index() * each;
    uint32_t own = 0;
    for (uint32_t i = first; i < first + each && i < digits; i++) own += histogram[digits - 1 - i];
    const uint32_t above = scan_block(own, sums).before;
    Choice choice = {above < wanted && wanted - above <= own, 0, wanted - above};
    if (choice.found) {
        choice.digit = digits - 1 - first;
        while (histogram[choice.digit] < choice.wanted) {
            choice.wanted -= histogram[choice.digit];
            choice.digit--;
        }
    }
    return choice;
}

}  // namespace

KERNEL(top_k_begin, TopKArgs, 1024) {
    for (uint32_t i = thread_index(); i < 2 * WIDE + NARROW; i += block_threads()) args.histograms[i] = 0;
    if (thread_index() == 0) {
        args.threshold[0] = 0;
        args.threshold[1] = args.k;
    }
}

// Any grid will do: blocks take tiles in turn.
KERNEL(top_k_histogram, TopKArgs, TILE_THREADS) {
    SHARED(uint32_t, histogram, WIDE);
    for (uint32_t i = thread_index(); i < WIDE; i += block_threads()) histogram[i] = 0;
    const uint32_t begins = args.threshold[0];
    block_sync();
    for (uint32_t tile = block_x(); tile < args.tiles; tile += grid_x()) {
        const Keys keys = load_keys(args, tile);
        for (uint32_t round = 0; round < ROUNDS; round++) {
            for (uint32_t j = 0; j < 4; j++) {
                const uint32_t first = keys.key[round][j] >> (32 - WIDE_BITS);
                const uint32_t second = keys.key[round][j] >> NARROW_BITS & (WIDE - 1);
                const bool counts =
                    place_of(tile, round) + j < args.n && (args.digit == 0 || first == begins);
                count_digit(histogram, args.digit == 0 ? first : second, counts);
            }
        }
    }
    block_sync();
    for (uint32_t i = thread_index(); i < WIDE; i += block_threads()) {
        if (histogram[i] != 0) atomic_add(args.histograms + args.digit * WIDE + i, histogram[i]);
    }
}

KERNEL(top_k_choose, TopKArgs, 1024) {
    SHARED(uint32_t, sums, 33);
    const uint32_t begins = args.threshold[0], wanted = args.threshold[1];
    const Choice choice = choose(args.histograms + args.digit * WIDE, WIDE, wanted, sums);
    if (choice.found) {
        args.threshold[0] = begins << WIDE_BITS | choice.digit;
        args.threshold[1] = choice.wanted;
    }
}

// A block takes one tile.
KERNEL(top_k_count, TopKArgs, TILE_THREADS) {
    SHARED(uint32_t, histogram, NARROW + 1);
    // The last place counts the keys above.
    for (uint32_t i = thread_index(); i < NARROW + 1; i += block_threads()) histogram[i] = 0;
    const uint32_t begins = args.threshold[0];
    block_sync();
    const Keys keys = load_keys(args, block_x());
    uint32_t above = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t j = 0; j < 4; j++) {
            const uint32_t digits = keys.key[round][j] >> NARROW_BITS;
            const bool valid = place_of(block_x(), round) + j < args.n;
            above += valid && digits > begins;
            count_digit(histogram, keys.key[round][j] & (NARROW - 1), valid && digits == begins);
        }
    }
    above = warp_sum(above);
    if (thread_index() % 32 == 0 && above != 0) atomic_add(histogram + NARROW, above);
    block_sync();
    // A lane takes two values of the last digit, from the largest value down.
    static_assert(NARROW == 64, "two for each lane of a warp");
    if (thread_index() < 32) {
        const uint32_t high = NARROW - 1 - 2 * thread_index(), low = high - 1;
        const uint32_t through = histogram[NARROW] + scan_warp(histogram[high] + histogram[low]);
        uint32_t* counts = args.counts + static_cast<uint64_t>(block_x()) * (NARROW + 1);
        counts[high] = through - histogram[low];
        counts[low] = through;
        if (thread_index() == 0) counts[NARROW] = histogram[NARROW];
        if (histogram[high] != 0) atomic_add(args.histograms + 2 * WIDE + high, histogram[high]);
        if (histogram[low] != 0) atomic_add(args.histograms + 2 * WIDE + low, histogram[low]);
    }
}

// One block; its threads take a tile each, in turns.
KERNEL(top_k_place, TopKArgs, 1024) {
    SHARED(uint32_t, sums, 33);
    SHARED(uint32_t, chosen, 2);
    const uint32_t begins = args.threshold[0];
    const Choice choice = choose(args.histograms + 2 * WIDE, NARROW, args.threshold[1], sums);
    if (choice.found) {
        chosen[0] = choice.digit;
        chosen[1] = choice.wanted;
    }
    block_sync();
    const uint32_t last = chosen[0], wanted = chosen[1];
    if (thread_index() == 0) args.threshold[0] = begins << NARROW_BITS | last;
    const uint64_t tiles = args.tiles;
    // Keys above the threshold and equal to it, in the tiles of earlier turns.
    uint32_t above_before = 0, equal_before = 0;
    for (uint32_t turn = 0; turn < args.tiles; turn += block_threads()) {
        const uint32_t tile = turn + thread_index();
        uint32_t above = 0, equal = 0;
        if (tile < args.tiles) {
            const uint32_t* counts = args.counts + tile * static_cast<uint64_t>(NARROW + 1) + last;
            above = counts[1];
            equal = counts[0] - above;
        }
        const Scan aboves = scan_block(above, sums);
        block_sync();
        const Scan equals = scan_block(equal, sums);
        block_sync();
        // Of the keys that equal the threshold, only the first ones are taken.
        const uint32_t earlier = equal_before + equals.before;
        const uint32_t taken = earlier < wanted ? earlier : wanted;
        const uint32_t takes = equal < wanted - taken ? equal : wanted - taken;
        if (tile < args.tiles) {
            args.places[tile] = above_before + aboves.before + taken;
            args.places[tiles + tile] = above + takes;
            args.places[2 * tiles + tile] = takes;
        }
        above_before += aboves.total;
        equal_before += equals.total;
    }
}

// A block takes one tile.
KERNEL(top_k_write, TopKArgs, TILE_THREADS) {
    constexpr uint32_t WARPS = TILE_THREADS / 32;
    static_assert(WARPS * ROUNDS == 64, "two for each lane of the warp that scans them");
    SHARED(uint32_t, starts, WARPS * ROUNDS);
    const uint32_t lane = thread_index() % 32, warp = thread_index() / 32;
    const uint32_t first = args.places[block_x()];
    const uint32_t equals = args.places[2 * static_cast<uint64_t>(args.tiles) + block_x()];
    const uint32_t threshold = args.threshold[0];
    // When k is small many tiles have no chosen key, and are not read.
    if (args.places[static_cast<uint64_t>(args.tiles) + block_x()] != 0) {
        const Keys keys = load_keys(args, block_x());
        // Two counts in one number, the keys above in its low half: a tile has no more than 8192 of either.
        uint32_t before[ROUNDS];
        for (uint32_t round = 0; round < ROUNDS; round++) {
            uint32_t count = 0;
            for (uint32_t j = 0; j < 4; j++) {
                const uint32_t key = keys.key[round][j];
                // Places beyond the scores count too: they come last, and move no other.
                count += key > threshold ? 1 : key == threshold ? 1 << 16 : 0;
            }
            const uint32_t through = scan_warp(count);
            before[round] = through - count;
            if (lane == 31) starts[round * WARPS + warp] = through;
        }
        block_sync();
        if (warp == 0) {
            const uint32_t left = starts[2 * lane], right = starts[2 * lane + 1];
            const uint32_t through = scan_warp(left + right);
            starts[2 * lane] = through - left - right;
            starts[2 * lane + 1] = through - right;
        }
        block_sync();
        for (uint32_t round = 0; round < ROUNDS; round++) {
            const uint32_t earlier = starts[round * WARPS + warp] + before[round];
            uint32_t above = earlier & 0xffff, equal = earlier >> 16;
            for (uint32_t j = 0; j < 4; j++) {
                const uint32_t key = keys.key[round][j], place = place_of(block_x(), round) + j;
                const bool is_above = place < args.n && key > threshold;
                const bool is_equal = place < args.n && key == threshold;
                // Of the keys that equal the threshold, only the first ones are taken.
                const uint32_t taken = equal < equals ? equal : equals;
                if (is_above || (is_equal && equal < equals)) args.indices[first + above + taken] = place;
                above += is_above;
                equal += is_equal;
            }
        }
    }
}

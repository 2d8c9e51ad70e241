// Batches from the resident u8 data set, augmented as docs/METHOD.md says ("Data"): for image i of the batch,
// with index = order[cursor + i],
//
//     images (n, 32, 32, 3) = f16 of cutout(flip(crop((pixels (count, 32, 32, 3) [index] - mean) / std)))
//
// The pixels around an image are its own, mirrored about the outermost. The choices come from the first
// Philox block of the image's stream, as in src/data/augment.rs, and the values before rounding to f16 are
// that file's bits: a subtraction, then a product.
//
// A block makes one image: it reads 3 KB and writes 6 KB in 16-byte pieces, 4.7 MB for 512 images.
#include "device.cuh"
#include "philox.cuh"

#include "args/augment.h"

namespace {

constexpr uint32_t SIDE = 32, CHANNELS = 3, ROW = SIDE * CHANNELS, IMAGE = SIDE * ROW;
// PAD pixels of padding; a crop has CROPS places along an axis; the cutout's side is CUT, and it has CUTS
// places.
constexpr uint32_t PAD = 4, CROPS = 2 * PAD + 1, CUT = 8, CUTS = SIDE - CUT + 1;

struct alignas(16) Bytes16 {
    uint8_t v[16];
};

static_assert(DRAW_THREADS * sizeof(Bytes16) == IMAGE, "a thread loads 16 bytes");

// The image's row or column at place i of the padded image, 0 <= i < 40.
DEVICE uint32_t reflect(uint32_t i) {
    const uint32_t distance = i < PAD ? PAD - i : i - PAD;
    return distance < SIDE ? distance : 2 * (SIDE - 1) - distance;
}

}  // namespace

KERNEL(draw_batch, DrawArgs, DRAW_THREADS) {
    SHARED(Bytes16, staged, DRAW_THREADS);
    // A cursor beyond the end stays at the last image: the caller begins the next epoch before it reads on.
    const uint32_t wanted = args.cursor[1] + block_x();
    const uint32_t position = wanted < args.count ? wanted : args.count - 1;
    const uint32_t index = args.order ? args.order[position] : position;
    const uint8_t* image = args.pixels + static_cast<uint64_t>(index) * IMAGE;
    staged[thread_index()] = load_16<Bytes16>(image + 16 * thread_index());
    if (thread_index() == 0) args.labels[block_x()] = args.classes[index];

    // Without augmentation the image is taken as it is.
    uint32_t crop_y = PAD, crop_x = PAD, cut_y = SIDE, cut_x = SIDE;
    bool flip = false;
    if (args.order) {
        const Words words = philox(args.seed, args.purpose, args.cursor[0], index, 0);
        const uint32_t crop = multiply_high(words.x, CROPS * CROPS),
                       cut = multiply_high(words.y, CUTS * CUTS);
        crop_y = crop / CROPS;
        crop_x = crop % CROPS;
        cut_y = cut / CUTS;
        cut_x = cut % CUTS;
        flip = words.z >> 31 == 1;
    }

    block_sync();
    const uint8_t* pixels = staged[0].v;
    // A thread writes eight values at a time, which lie in one row.
    for (uint32_t piece = thread_index(); piece < IMAGE / 8; piece += block_threads()) {
        const uint32_t y = piece / (ROW / 8), first = piece % (ROW / 8) * 8;
        const uint8_t* row = pixels + reflect(y + crop_y) * ROW;
        Half8 out;
        for (uint32_t i = 0; i < 8; i++) {
            const uint32_t x = (first + i) / CHANNELS, channel = (first + i) % CHANNELS;
            const uint32_t column = reflect((flip ? SIDE - 1 - x : x) + crop_x);
            const float pixel = row[column * CHANNELS + channel];
            const float value = multiply(add(pixel, -args.mean[channel]), args.inverse_std[channel]);
            // Above or left of the cutout the difference wraps around and is large.
            const bool cut = y - cut_y < CUT && x - cut_x < CUT;
            out.v[i] = to_half(cut ? 0.0f : value);
        }
        store_half8(args.images + static_cast<uint64_t>(block_x()) * IMAGE + piece * 8, out);
    }
}

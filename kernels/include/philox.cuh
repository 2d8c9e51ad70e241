// Philox4x32-10, the only source of randomness; src/rng.rs has the same function and the source.
#pragma once

#include "device.cuh"

namespace {

struct Words {
    uint32_t x, y, z, w;
};

// The words of block `block` of the stream for (seed, purpose, epoch, index).
DEVICE Words philox(uint64_t seed, uint32_t purpose, uint32_t epoch, uint32_t index, uint32_t block) {
    Words c = {block, index, epoch, purpose};
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint32_t a = 0xD2511F53u, b = 0xCD9E8D57u;
        c = {multiply_high(b, c.z) ^ c.y ^ k0, b * c.z, multiply_high(a, c.x) ^ c.w ^ k1, a * c.x};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

}  // namespace

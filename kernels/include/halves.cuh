// A thread's share of a pixel: WIDTH channels side by side, 8 in one access of 16 bytes or, where C is no multiple of 8,
// a single one.
#pragma once

#include "device.cuh"

namespace {

template <int WIDTH>
struct alignas(2 * WIDTH) Halves {
    f16 v[WIDTH];
};

template <int WIDTH>
DEVICE Halves<WIDTH> load_halves(const f16* from) {
    static_assert(WIDTH == 8 || WIDTH == 1, "16 bytes or one value");
    if constexpr (WIDTH == 8) {
        return load_16<Halves<8>>(from);
    } else {
        return Halves<1>{{*from}};
    }
}

template <int WIDTH>
DEVICE void store_halves(f16* to, const Halves<WIDTH>& halves) {
    if constexpr (WIDTH == 8) {
        store_16(to, halves);
    } else {
        *to = halves.v[0];
    }
}

// Bytes that go with WIDTH channels, in one access.
template <int WIDTH>
DEVICE void load_bytes(const uint8_t* from, uint32_t (&bytes)[WIDTH]) {
    if constexpr (WIDTH == 8) {
        const uint64_t word = *reinterpret_cast<const uint64_t*>(from);
        for (int i = 0; i < 8; i++) bytes[i] = static_cast<uint32_t>(word >> 8 * i) & 255;
    } else {
        bytes[0] = *from;
    }
}

template <int WIDTH>
DEVICE void store_bytes(uint8_t* to, const uint32_t (&bytes)[WIDTH]) {
    if constexpr (WIDTH == 8) {
        uint64_t word = 0;
        for (int i = 0; i < 8; i++) word |= static_cast<uint64_t>(bytes[i]) << 8 * i;
        *reinterpret_cast<uint64_t*>(to) = word;
    } else {
        *to = static_cast<uint8_t>(bytes[0]);
    }
}

}  // namespace

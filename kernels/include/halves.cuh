// A thread's share of a pixel: WIDTH channels side by side, 8 in one access of 16 bytes or, where C is no
// multiple of 8, a single one.
#pragma once

#include "device.cuh"

namespace {

// Packed, as loaded: taken apart only where it is used, so that several loads can be under way.
template <int WIDTH>
struct Halves;
template <>
struct alignas(16) Halves<8> {
    uint32_t words[4];
};
template <>
struct Halves<1> {
    f16 value;
};

DEVICE void load_halves(Halves<8>& to, const f16* from) { to = load_16<Halves<8>>(from); }
DEVICE void load_halves(Halves<1>& to, const f16* from) { to.value = *from; }
DEVICE void store_halves(f16* to, const Halves<8>& halves) { store_16(to, halves); }
DEVICE void store_halves(f16* to, const Halves<1>& halves) { *to = halves.value; }

DEVICE void unpack(const Halves<8>& halves, float (&values)[8]) {
    for (int i = 0; i < 4; i++) unpack_halves(halves.words[i], values[2 * i], values[2 * i + 1]);
}
DEVICE void unpack(const Halves<1>& halves, float (&values)[1]) { values[0] = to_float(halves.value); }

// Rounds each to the nearest.
DEVICE Halves<8> pack(const float (&values)[8]) {
    Halves<8> halves;
    for (int i = 0; i < 4; i++) halves.words[i] = pack_halves(values[2 * i], values[2 * i + 1]);
    return halves;
}
DEVICE Halves<1> pack(const float (&values)[1]) { return {to_half(values[0])}; }

// Bytes that go with as many channels, in one access, packed alike.
template <int WIDTH>
struct Bytes;
template <>
struct Bytes<8> {
    uint64_t word;
};
template <>
struct Bytes<1> {
    uint8_t word;
};

template <int WIDTH>
DEVICE Bytes<WIDTH> load_bytes(const uint8_t* from) {
    return *reinterpret_cast<const Bytes<WIDTH>*>(from);
}
template <int WIDTH>
DEVICE void store_bytes(uint8_t* to, const Bytes<WIDTH>& bytes) {
    *reinterpret_cast<Bytes<WIDTH>*>(to) = bytes;
}
template <int WIDTH>
DEVICE void unpack(const Bytes<WIDTH>& bytes, uint32_t (&values)[WIDTH]) {
    for (int i = 0; i < WIDTH; i++) values[i] = static_cast<uint32_t>(bytes.word >> 8 * i) & 255;
}
template <int WIDTH>
DEVICE Bytes<WIDTH> pack(const uint32_t (&values)[WIDTH]) {
    Bytes<WIDTH> bytes = {};
    for (int i = 0; i < WIDTH; i++) bytes.word |= static_cast<decltype(bytes.word)>(values[i]) << 8 * i;
    return bytes;
}

}  // namespace

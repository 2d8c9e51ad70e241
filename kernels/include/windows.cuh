// Pooling windows, and the pixels in them.
#pragma once

#include "device.cuh"

#include "args/norm.h"

namespace {

// A pixel's place, which moves on without a division.
struct Pixel {
    uint32_t image, row, column;
};

DEVICE Pixel pixel_at(uint32_t index, uint32_t h, uint32_t w) {
    return {index / (h * w), index / w % h, index % w};
}

DEVICE void step(Pixel& at, const Pixel& by, uint32_t h, uint32_t w) {
    at.column += by.column;
    if (at.column >= w) {
        at.column -= w;
        at.row++;
    }
    at.row += by.row;
    if (at.row >= h) {
        at.row -= h;
        at.image++;
    }
    at.image += by.image;
}

// Pixels of a window whose loads are under way at a time.
constexpr uint32_t PLACES = 4;

// Steps through a window's places row by row, PLACES at a time.
struct Places {
    // The window's first row, column and pixel. They wrap around where padding makes them negative.
    uint32_t top, left, origin;
    // The next place: row and column of the window.
    uint32_t r, s;
    // Input pixels of the latest places, and which of them there are: not padding, and not past the window's
    // end.
    uint32_t pixel[PLACES];
    bool inside[PLACES];
};

DEVICE Places places_of(const Pixel& output, const Window& window) {
    Places places = {};
    places.top = output.row * window.stride - window.pad;
    places.left = output.column * window.stride - window.pad;
    places.origin = (output.image * window.h + places.top) * window.w + places.left;
    return places;
}

DEVICE void next(Places& places, const Window& window) {
    for (uint32_t j = 0; j < PLACES; j++) {
        places.inside[j] = places.r < window.size && places.top + places.r < window.h &&
                           places.left + places.s < window.w;
        places.pixel[j] = places.origin + places.r * window.w + places.s;
        if (++places.s == window.size) {
            places.s = 0;
            places.r++;
        }
    }
}

}  // namespace

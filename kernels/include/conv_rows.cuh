// What fprop and dgrad share: rows are pixels of the result, columns its channels, and the reduction runs
// over taps and the channels of another image, which lie along it in memory.
#pragma once

#include "tiles.cuh"

#include "args/conv.h"

namespace {

// The image that rows read: row (n, i, j) reads, through tap (u, v), pixel (n, step i + top + turn u, step j
// + left + turn v) if there is one.
struct Source {
    const f16* image;
    // [n][height][width][channels].
    uint32_t height, width, channels;
    // How many rows there are, as [n][rows][columns].
    uint32_t count, rows, columns;
    uint32_t step;
    int32_t top, left, turn;
    // At most 32 taps in all, or none.
    uint32_t taps_down, taps_across;
};

// Finds where a row begins in the source, in elements, and which taps it has, as a bit u taps_across + v for
// each. A row beyond the last has no taps.
DEVICE void find_row(const Source& source, uint32_t row, int32_t& offset, uint32_t& taps) {
    const uint32_t j = row % source.columns, i = row / source.columns % source.rows;
    const uint32_t n = row / source.columns / source.rows;
    const int32_t y = static_cast<int32_t>(i * source.step) + source.top;
    const int32_t x = static_cast<int32_t>(j * source.step) + source.left;
    const int32_t height = source.height, width = source.width;
    offset = ((static_cast<int32_t>(n) * height + y) * width + x) * static_cast<int32_t>(source.channels);
    uint32_t inside = 0;
    for (uint32_t v = 0; v < source.taps_across; v++) {
        const uint32_t at = x + source.turn * static_cast<int32_t>(v);
        inside |= static_cast<uint32_t>(at < source.width) << v;
    }
    taps = 0;
    for (uint32_t u = 0; u < source.taps_down; u++) {
        // Above the image, and left of it, these wrap around and are too large.
        const uint32_t at = y + source.turn * static_cast<int32_t>(u);
        taps |= (at < source.height ? inside : 0) << u * source.taps_across;
    }
    if (row >= source.count) taps = 0;
}

// Shared memory that holds the result between the product and its 16-byte stores: [ROWS][COLUMNS], with eight
// halves between rows so that fragments meet no bank twice; the pixel of each row, or NO_PIXEL; and each warp
// row's sums by channel.
template <typename T>
struct Result {
    static constexpr uint32_t NO_PIXEL = 0xffffffff, PITCH = T::COLUMNS + 8;
    struct alignas(4) Pair {
        f16 left, right;
    };
    f16* values;
    uint32_t* pixels;
    float* sums;

    explicit DEVICE Result(unsigned char* shared)
        : values(reinterpret_cast<f16*>(shared)),
          pixels(reinterpret_cast<uint32_t*>(values + T::ROWS * PITCH)),
          sums(reinterpret_cast<float*>(pixels + T::ROWS)) {}

    // Calls copy(place in `values`, place in an image [pixels][channels], how many halves) until all of the
    // tile that lies in the image is covered: 8 halves each, or 1 where that would be misaligned.
    template <typename Copy>
    DEVICE void each_part(uint32_t channels, uint32_t first_column, Copy&& copy) const {
        if (channels % 8 == 0) {
            // Four loads are under way at a time.
            constexpr uint32_t PARTS = T::COLUMNS / 8;
            static_assert(T::ROWS * PARTS % (4 * T::THREADS) == 0, "a thread has a multiple of four parts");
            for (uint32_t first = thread_index(); first < T::ROWS * PARTS; first += 4 * T::THREADS) {
                UNROLL
                for (uint32_t j = 0; j < 4; j++) {
                    const uint32_t row = (first + j * T::THREADS) / PARTS,
                                   column = (first + j * T::THREADS) % PARTS * 8;
                    const uint32_t pixel = pixels[row], channel = first_column + column;
                    if (channel < channels && pixel != NO_PIXEL)
                        copy(row * PITCH + column, pixel * channels + channel, 8);
                }
            }
        } else {
            for (uint32_t i = thread_index(); i < T::ROWS * T::COLUMNS; i += T::THREADS) {
                const uint32_t row = i / T::COLUMNS, column = i % T::COLUMNS;
                const uint32_t pixel = pixels[row], channel = first_column + column;
                if (channel < channels && pixel != NO_PIXEL)
                    copy(row * PITCH + column, pixel * channels + channel, 1);
            }
        }
    }

    // image [pixels][channels] = the product, or += it. pixel(row) says where a row of the tile goes.
    template <typename Pixel>
    DEVICE void store(typename T::Product& d, f16* image, uint32_t channels, uint32_t first_column,
                      bool accumulate, Pixel&& pixel) {
        for (uint32_t row = thread_index(); row < T::ROWS; row += T::THREADS) pixels[row] = pixel(row);
        if (accumulate) {
            block_sync();
            each_part(channels, first_column, [&](uint32_t at, uint32_t from, uint32_t count) {
                if (count == 8) {
                    store_half8(values + at, load_half8(image + from));
                } else {
                    values[at] = image[from];
                }
            });
            block_sync();
        }
        T::each_pair(d, [&](uint32_t row, uint32_t column, float left, float right) {
            Pair* at = reinterpret_cast<Pair*>(values + row * PITCH + column);
            if (accumulate && pixels[row] != NO_PIXEL) {
                // Places beyond the image were not read.
                if (first_column + column < channels) left += to_float(at->left);
                if (first_column + column + 1 < channels) right += to_float(at->right);
            }
            *at = Pair{to_half(left), to_half(right)};
        });
        block_sync();
        each_part(channels, first_column, [&](uint32_t at, uint32_t to, uint32_t count) {
            if (count == 8) {
                store_half8(image + to, load_half8(values + at));
            } else {
                image[to] = values[at];
            }
        });
    }

    // partials [2][channels] = sums and sums of squares of the product as rounded. Rows beyond the last are
    // zero.
    DEVICE void store_sums(typename T::Product& d, float* partials, uint32_t channels,
                           uint32_t first_column) {
        const uint32_t lane = thread_index() % 32;
        float* mine = sums + T::row() / (T::ROWS / T::WARPS_DOWN) * 2 * T::COLUMNS;
        UNROLL
        for (int j = 0; j < T::N; j++) {
            UNROLL
            for (int e = 0; e < 2; e++) {
                float sum = 0, squares = 0;
                UNROLL
                for (int i = 0; i < T::M; i++) {
                    UNROLL
                    for (int half = 0; half < 2; half++) {
                        const float y = to_float(to_half(d[i][j][2 * half + e]));
                        sum += y;
                        squares = multiply_add(y, y, squares);
                    }
                }
                UNROLL
                for (uint32_t mask = 4; mask < 32; mask *= 2) {
                    sum += warp_shuffle_xor(sum, mask);
                    squares += warp_shuffle_xor(squares, mask);
                }
                if (lane < 4) {
                    const uint32_t column = T::column() + 8 * j + 2 * lane + e;
                    mine[column] = sum;
                    mine[T::COLUMNS + column] = squares;
                }
            }
        }
        block_sync();
        for (uint32_t i = thread_index(); i < 2 * T::COLUMNS; i += T::THREADS) {
            const uint32_t column = first_column + i % T::COLUMNS;
            if (column >= channels) continue;
            float sum = 0;
            for (uint32_t warp = 0; warp < T::WARPS_DOWN; warp++) sum += sums[warp * 2 * T::COLUMNS + i];
            partials[i / T::COLUMNS * channels + column] = sum;
        }
    }
};

// The filter as columns read it, [K][R][R][C]: tap (u, v) is (first_r + step u, first_s + step v). Fprop's
// columns are K and it reduces over C, along which the filter lies; dgrad's columns are C and it reduces over
// K, across it.
struct Taps {
    const f16* filter;
    uint32_t k, r, c;
    uint32_t first_r, first_s, step;
};

// d = the product for rows from first_row and columns from first_column. Source channels are a multiple of 8;
// so is C.
template <typename T, bool ACROSS>
DEVICE void multiply_rows(typename T::Product& d, f16* shared, const Source& source, const Taps& taps,
                          uint32_t first_row, uint32_t first_column) {
    constexpr uint32_t CHUNKS = STEP / 8;
    constexpr uint32_t ROWS = T::ROWS * CHUNKS / T::THREADS, ROW_STEP = T::THREADS / CHUNKS;
    constexpr uint32_t LINE = ACROSS ? T::COLUMNS / 8 : CHUNKS;
    constexpr uint32_t LINES = T::COLUMNS * CHUNKS / T::THREADS, LINE_STEP = T::THREADS / LINE;
    // A thread copies one chunk of A in several rows, always the same channels of a step; the rows' offsets
    // stay.
    const uint32_t chunk = thread_index() % CHUNKS, row = thread_index() / CHUNKS;
    int32_t offset[ROWS];
    uint32_t has[ROWS];
    UNROLL
    for (uint32_t i = 0; i < ROWS; i++) find_row(source, first_row + row + i * ROW_STEP, offset[i], has[i]);
    // Of B it copies the same chunk of LINES lines; a line is a column (along) or a channel of the source
    // (across).
    const uint32_t b_chunk = thread_index() % LINE, line = thread_index() / LINE;
    const uint32_t area = taps.r * taps.r * taps.c;
    const f16* filter =
        taps.filter + b_chunk * 8 + (ACROSS ? first_column + line * area : (first_column + line) * area);

    // The next step: a tap, and the first of 32 channels. Taps change fastest: neighbours among them read the
    // same pixels, which the L1 cache then still has.
    uint32_t u = 0, v = 0, channel = 0;
    const uint32_t down = source.taps_down, across = source.taps_across;
    const uint32_t steps = down * across * ((source.channels + STEP - 1) / STEP);
    T::clear(d);
    T::multiply(d, shared, steps, [&](f16* stage) {
        const uint32_t tap = u * across + v;
        const int32_t pixel = source.turn * static_cast<int32_t>(u * source.width + v);
        const int32_t shift =
            pixel * static_cast<int32_t>(source.channels) + static_cast<int32_t>(channel + chunk * 8);
        const bool channels = channel + chunk * 8 < source.channels;
        UNROLL
        for (uint32_t i = 0; i < ROWS; i++) {
            copy_async_16_cached(stage + place<STEP>(row + i * ROW_STEP, chunk),
                                 source.image + (offset[i] + shift), channels && has[i] >> tap & 1);
        }
        const uint32_t at = (taps.first_r + taps.step * u) * taps.r + taps.first_s + taps.step * v;
        const f16* from = filter + at * taps.c + (ACROSS ? channel * area : channel);
        UNROLL
        for (uint32_t i = 0; i < LINES; i++) {
            const uint32_t l = line + i * LINE_STEP;
            const bool valid = ACROSS ? channel + l < taps.k && first_column + b_chunk * 8 < taps.c
                                      : first_column + l < taps.k && channel + b_chunk * 8 < taps.c;
            copy_async_16(stage + T::A + place<ACROSS ? T::COLUMNS : STEP>(l, b_chunk),
                          from + i * LINE_STEP * area, valid);
        }
        if (++v == across) {
            v = 0;
            if (++u == down) {
                u = 0;
                channel += STEP;
            }
        }
    });
}

}  // namespace

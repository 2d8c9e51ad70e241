// Convolution fprop on tensor cores, an implicit matrix product: rows are the pixels of y, columns K, and the
// reduction runs over R, S and C. y (N,P,Q,K) = x (N,H,W,C) * filter (K,R,R,C).
//
// With `partials`, a block also leaves the sums and sums of squares of its rows of y, as rounded, by channel;
// sum_rows adds them up in order.
//
// What each layer should take on a GPU is predicted in benches/RESULTS.md.
#include "conv_rows.cuh"

namespace {

DEVICE Source rows_of(const ConvFpropArgs& args) {
    const ConvShape& g = args.shape;
    const int32_t before = -static_cast<int32_t>(g.pad);
    return Source{args.x, g.h, g.w, g.c, g.n * g.p * g.q, g.p, g.q, g.stride, before, before, 1, g.r, g.r};
}

template <typename T>
DEVICE void store(const ConvFpropArgs& args, typename T::Product& d, uint32_t block_row,
                  uint32_t first_column) {
    const uint32_t rows = args.shape.n * args.shape.p * args.shape.q, first_row = block_row * T::ROWS;
    Result<T> result(dynamic_shared());
    result.store(d, args.y, args.shape.k, first_column, false, [&](uint32_t row) {
        return first_row + row < rows ? first_row + row : Result<T>::NO_PIXEL;
    });
    if (args.partials) {
        float* partials = args.partials + static_cast<uint64_t>(block_row) * 2 * args.shape.k;
        result.store_sums(d, partials, args.shape.k, first_column);
    }
}

template <uint32_t ROWS, uint32_t COLUMNS, uint32_t WARP>
DEVICE void fprop(const ConvFpropArgs& args) {
    using T = Tile<ROWS, COLUMNS, WARP, WARP, false, false>;
    const ConvShape& g = args.shape;
    const uint32_t across = (g.k + COLUMNS - 1) / COLUMNS;
    const uint32_t block_row = block_x() / across, first_column = block_x() % across * COLUMNS;
    const Taps taps = {args.filter, g.k, g.r, g.c, 0, 0, 1};
    typename T::Product d;
    f16* shared = reinterpret_cast<f16*>(dynamic_shared());
    multiply_rows<T, false>(d, shared, rows_of(args), taps, block_row * ROWS, first_column);
    store<T>(args, d, block_row, first_column);
}

}  // namespace

KERNEL(conv_fprop_256x128, ConvFpropArgs, 256) { fprop<256, 128, 64>(args); }
KERNEL(conv_fprop_128x128, ConvFpropArgs, 128) { fprop<128, 128, 64>(args); }
KERNEL(conv_fprop_256x64, ConvFpropArgs, 128) { fprop<256, 64, 64>(args); }
KERNEL(conv_fprop_64x64, ConvFpropArgs, 128) { fprop<64, 64, 32>(args); }

// For any C and K and any alignment of the filter: both operands are read element by element, and the
// reduction runs over R S C at once, padded to a multiple of 32. It serves the stem (C = 3: 27 of 32), which
// is bound by y's bytes.
KERNEL(conv_fprop_gather, ConvFpropArgs, 256) {
    using T = Tile<128, 64, 32, 32, false, false>;
    const ConvShape& g = args.shape;
    const uint32_t across = (g.k + T::COLUMNS - 1) / T::COLUMNS;
    const uint32_t block_row = block_x() / across, first_column = block_x() % across * T::COLUMNS;
    const Source source = rows_of(args);
    SHARED(int32_t, offsets, 128);
    SHARED(uint32_t, taps, 128);
    if (thread_index() < T::ROWS) {
        find_row(source, block_row * T::ROWS + thread_index(), offsets[thread_index()], taps[thread_index()]);
    }
    block_sync();

    // Warp i reads lines i, i + 8, ...; lane j element j of the step.
    const uint32_t warp = thread_index() / 32, lane = thread_index() % 32, area = g.r * g.r * g.c;
    f16* stage = reinterpret_cast<f16*>(dynamic_shared());
    const f16 zero = to_half(0);
    typename T::Product d;
    T::clear(d);
    for (uint32_t first = 0; first < area; first += STEP) {
        // Beyond the filter's elements the tap is at most 31, one that no row has.
        const uint32_t element = first + lane, tap = element / g.c;
        const int32_t shift = static_cast<int32_t>((tap / g.r * g.w + tap % g.r) * g.c + element % g.c);
        // All loads come before all stores: the compiler must assume that a store changes what is loaded
        // after it.
        f16 x[T::ROWS / 8], filter[T::COLUMNS / 8];
        UNROLL
        for (uint32_t i = 0; i < T::ROWS / 8; i++) {
            const uint32_t row = 8 * i + warp;
            const int32_t offset = offsets[row];
            x[i] = taps[row] >> tap & 1 ? args.x[offset + shift] : zero;
        }
        UNROLL
        for (uint32_t i = 0; i < T::COLUMNS / 8; i++) {
            const uint32_t column = first_column + 8 * i + warp;
            filter[i] = element < area && column < g.k ? args.filter[column * area + element] : zero;
        }
        UNROLL
        for (uint32_t i = 0; i < T::ROWS / 8; i++)
            stage[place<STEP>(8 * i + warp, lane / 8) + lane % 8] = x[i];
        UNROLL
        for (uint32_t i = 0; i < T::COLUMNS / 8; i++) {
            stage[T::A + place<STEP>(8 * i + warp, lane / 8) + lane % 8] = filter[i];
        }
        block_sync();
        typename T::Fragments fragments;
        UNROLL
        for (uint32_t half = 0; half < 2; half++) {
            T::load(fragments, stage, half);
            warp_mma(d, fragments.a, fragments.b);
        }
        block_sync();
    }
    store<T>(args, d, block_row, first_column);
}

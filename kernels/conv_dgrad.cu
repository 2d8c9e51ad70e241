// Convolution dgrad on tensor cores, an implicit matrix product: rows are pixels of dx, columns C, and the
// reduction runs over taps and K. dx (N,H,W,C) = or += the gradient, given dy (N,P,Q,K) and the filter
// (K,R,R,C).
//
// With a stride, only some taps reach a pixel: those through which a whole output reads it. Its row and
// column modulo the stride say which. The stride^2 classes of pixels that follow are each a product of its
// own, over its own taps; the grid's y counts them.
#include "conv_rows.cuh"

namespace {

template <uint32_t ROWS, uint32_t COLUMNS, uint32_t WARP>
DEVICE void dgrad(const ConvDgradArgs& args) {
    using T = Tile<ROWS, COLUMNS, WARP, WARP, false, true>;
    const ConvShape& g = args.shape;
    // The last class has the most taps where there is padding, so it begins first.
    const uint32_t pixel_class = grid_y() - 1 - block_y();
    const uint32_t down = pixel_class / g.stride, right = pixel_class % g.stride;
    const uint32_t first_r = (down + g.pad) % g.stride, first_s = (right + g.pad) % g.stride;
    const uint32_t taps_down = first_r < g.r ? (g.r - first_r + g.stride - 1) / g.stride : 0;
    const uint32_t taps_across = first_s < g.r ? (g.r - first_s + g.stride - 1) / g.stride : 0;
    // Row h = stride i + down reads, through its tap u, row i + top - u of dy.
    const int32_t top = (down + g.pad - first_r) / g.stride, left = (right + g.pad - first_s) / g.stride;
    const uint32_t rows = (g.h + g.stride - 1 - down) / g.stride,
                   columns = (g.w + g.stride - 1 - right) / g.stride;
    const Source source = {args.dy, g.p,  g.q, g.k, g.n * rows * columns, rows, columns, 1, top,
                           left,    -1, taps_down, taps_across};
    const Taps taps = {args.filter, g.k, g.r, g.c, first_r, first_s, g.stride};

    const uint32_t across = (g.c + COLUMNS - 1) / COLUMNS;
    const uint32_t first_row = block_x() / across * ROWS, first_column = block_x() % across * COLUMNS;
    // A class may have fewer rows than the largest. It may have no tap at all (1x1, stride 2) and then adds
    // nothing.
    if (first_row < source.count && (taps_down * taps_across > 0 || !args.accumulate)) {
        typename T::Product d;
        f16* shared = reinterpret_cast<f16*>(dynamic_shared());
        multiply_rows<T, true>(d, shared, source, taps, first_row, first_column);
        Result<T> result(dynamic_shared());
        result.store(d, args.dx, g.c, first_column, args.accumulate, [&](uint32_t tile_row) {
            const uint32_t row = first_row + tile_row;
            const uint32_t j = row % columns, i = row / columns % rows, n = row / columns / rows;
            const uint32_t pixel = (n * g.h + i * g.stride + down) * g.w + j * g.stride + right;
            return row < source.count ? pixel : Result<T>::NO_PIXEL;
        });
    }
}

}  // namespace

KERNEL(conv_dgrad_256x128, ConvDgradArgs, 256) { dgrad<256, 128, 64>(args); }
KERNEL(conv_dgrad_128x128, ConvDgradArgs, 128) { dgrad<128, 128, 64>(args); }
KERNEL(conv_dgrad_256x64, ConvDgradArgs, 128) { dgrad<256, 64, 64>(args); }
KERNEL(conv_dgrad_64x64, ConvDgradArgs, 128) { dgrad<64, 64, 32>(args); }

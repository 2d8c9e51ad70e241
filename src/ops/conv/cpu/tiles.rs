//! Winograd's two-dimensional transforms, between images or filters and \[points, rows, channels\],
//! vectorised over channels. `spread` turns a small square of pixels or taps into points, `collect` points
//! into a square.

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::square::{collect, spread};
use super::transform::Transform;

/// Images \[H,W,C\] cut into tiles of M x M, row by row.
#[derive(Clone, Copy)]
pub(super) struct Images {
    pub h: usize,
    pub w: usize,
    pub c: usize,
}

impl Images {
    /// Tiles in an image.
    pub fn tiles(&self, m: usize) -> usize {
        self.h.div_ceil(m) * self.w.div_ceil(m)
    }

    /// Elements of an image.
    pub fn len(&self) -> usize {
        self.h * self.w * self.c
    }

    /// (top, left) of each tile.
    #[inline(always)]
    fn corner(&self, m: usize, tile: usize) -> (usize, usize) {
        let columns = self.w.div_ceil(m);
        (tile / columns * m, tile % columns * m)
    }
}

/// \[points, rows, width\], the points `pitch` elements apart.
#[derive(Clone, Copy)]
pub(super) struct Points<'a> {
    data: &'a [f32],
    points: usize,
    pitch: usize,
    width: usize,
}

impl<'a> Points<'a> {
    pub fn new(data: &'a [f32], points: usize, pitch: usize, width: usize) -> Self {
        assert!(points * pitch <= data.len(), "points outside their slice");
        Self { data, points, pitch, width }
    }
}

/// [`Points`] that several tasks fill together, each its own rows.
#[derive(Clone, Copy)]
pub(super) struct PointsMut<'a> {
    data: *mut f32,
    points: usize,
    pitch: usize,
    rows: usize,
    width: usize,
    _borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: this is an exclusive borrow of f32s; those who write through it keep to rows of their own.
#[allow(unsafe_code)]
unsafe impl Send for PointsMut<'_> {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for PointsMut<'_> {}

impl<'a> PointsMut<'a> {
    pub fn new(data: &'a mut [f32], points: usize, pitch: usize, rows: usize, width: usize) -> Self {
        assert!(rows * width <= pitch && points * pitch <= data.len(), "points outside their slice");
        Self { data: data.as_mut_ptr(), points, pitch, rows, width, _borrow: PhantomData }
    }
}

/// Transforms the tiles of whole images `x` \[n,H,W,C\], each of M x M pixels, into rows `row..` of `to`.
/// What is read for a tile is FROM x FROM pixels around its middle: its own (dy, FROM = M), or one more on
/// each side (x, FROM = A). Pixels outside the image are zero.
///
/// # Safety
/// No other thread touches these rows of `to` meanwhile.
#[allow(unsafe_code)]
pub(super) unsafe fn scatter<X: Transform<FROM, TO>, const FROM: usize, const TO: usize>(
    images: Images,
    m: usize,
    x: &[f32],
    to: PointsMut,
    row: usize,
) {
    assert!(x.len().is_multiple_of(images.len()) && images.c == to.width && TO * TO <= to.points);
    assert!(row + x.len() / images.len() * images.tiles(m) <= to.rows, "rows outside the points");
    Arch::new().dispatch(Scatter::<X, FROM, TO> { images, m, x, to, row, _transform: PhantomData });
}

struct Scatter<'a, X, const FROM: usize, const TO: usize> {
    images: Images,
    m: usize,
    x: &'a [f32],
    to: PointsMut<'a>,
    row: usize,
    _transform: PhantomData<X>,
}

/// What is read for pixels outside the image.
static ZEROS: [f32; 1024] = [0.0; 1024];

impl<X: Transform<FROM, TO>, const FROM: usize, const TO: usize> WithSimd for Scatter<'_, X, FROM, TO> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { images, m, x, to, row, .. } = self;
        let halo = (FROM - m) / 2;
        let tiles = x.len() / images.len() * images.tiles(m);
        for at in (0..images.c).step_by(ZEROS.len()) {
            let len = (images.c - at).min(ZEROS.len());
            let mut from = pixels::<FROM>(images, m, halo, x, 0, at);
            for tile in 0..tiles {
                let next = pixels::<FROM>(images, m, halo, x, (tile + 1).min(tiles - 1), at);
                // SAFETY: each pointer has `len` channels of a pixel, or zeros, behind it; `scatter` checked
                // the row, and its caller keeps other threads away.
                unsafe {
                    let to_row = to.data.add((row + tile) * images.c + at);
                    spread::<S, X, FROM, TO>(s, &from, Some(&next), to_row, to.pitch, len);
                }
                from = next;
            }
        }
    }
}

/// Where the channels `at..` of the N x N pixels of tile number `tile` of some images begin.
#[inline(always)]
fn pixels<const N: usize>(
    images: Images,
    m: usize,
    halo: usize,
    x: &[f32],
    tile: usize,
    at: usize,
) -> [[*const f32; N]; N] {
    let Images { h, w, c } = images;
    let (image, tile) = (tile / images.tiles(m), tile % images.tiles(m));
    let image = &x[image * images.len()..][..images.len()];
    let (top, left) = images.corner(m, tile);
    let mut pixels = [[ZEROS.as_ptr(); N]; N];
    for (y, pixels) in pixels.iter_mut().enumerate() {
        for (x, pixel) in pixels.iter_mut().enumerate() {
            // Below 0 these wrap round to a number above every side.
            let (y, x) = ((top + y).wrapping_sub(halo), (left + x).wrapping_sub(halo));
            if y < h && x < w {
                *pixel = image[(y * w + x) * c + at..].as_ptr();
            }
        }
    }
    pixels
}

/// Transforms rows `row..` of `from` into the tiles of whole images `y` \[n,H,W,C\], overwriting y or adding
/// to it.
pub(super) fn gather<X: Transform<A, M>, const A: usize, const M: usize>(
    images: Images,
    from: Points,
    row: usize,
    y: &mut [f32],
    accumulate: bool,
) {
    let rows = y.len() / images.len() * images.tiles(M);
    assert!(y.len().is_multiple_of(images.len()) && images.c == from.width && A * A <= from.points);
    assert!((row + rows) * images.c <= from.pitch, "rows outside the points");
    Arch::new().dispatch(Gather::<X, A, M> { images, from, row, y, accumulate, _transform: PhantomData });
}

struct Gather<'a, X, const A: usize, const M: usize> {
    images: Images,
    from: Points<'a>,
    row: usize,
    y: &'a mut [f32],
    accumulate: bool,
    _transform: PhantomData<X>,
}

impl<X: Transform<A, M>, const A: usize, const M: usize> WithSimd for Gather<'_, X, A, M> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { images, from, row, y, accumulate, .. } = self;
        let Images { h, w, c } = images;
        let tiles = images.tiles(M);
        for (i, image) in y.chunks_exact_mut(images.len()).enumerate() {
            for tile in 0..tiles {
                let (top, left) = images.corner(M, tile);
                let image = image.as_mut_ptr();
                let mut to = [[std::ptr::null_mut(); M]; M];
                for (y, to) in to.iter_mut().enumerate() {
                    for (x, to) in to.iter_mut().enumerate() {
                        let (y, x) = (top + y, left + x);
                        if y < h && x < w {
                            // SAFETY: the pixel is inside the image.
                            *to = unsafe { image.add((y * w + x) * c) };
                        }
                    }
                }
                let from_row = from.data[(row + i * tiles + tile) * c..].as_ptr();
                // SAFETY: `gather` checked the row; each pointer is null or has the C channels of a pixel
                // behind it.
                unsafe { collect::<S, X, A, M>(s, from_row, from.pitch, &to, c, accumulate) };
            }
        }
    }
}

/// Where the taps of a filter lie: row i (an input channel of the product), tap t, column j (an output
/// channel) is element `i * row + t * tap + j`, the taps counted backwards when `rotate`.
#[derive(Clone, Copy)]
pub(super) struct Taps<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub tap: usize,
    pub rotate: bool,
}

/// Transforms rows `rows` of a filter into the same rows of `to`.
///
/// # Safety
/// No other thread touches these rows of `to` meanwhile.
#[allow(unsafe_code)]
pub(super) unsafe fn filter<X: Transform<3, A>, const A: usize>(
    taps: Taps,
    to: PointsMut,
    rows: Range<usize>,
) {
    assert!(rows.end <= to.rows && A * A <= to.points, "rows outside the points");
    assert!((to.rows - 1) * taps.row + 8 * taps.tap + to.width <= taps.data.len(), "taps outside the filter");
    Arch::new().dispatch(Filter::<X, A> { taps, to, rows, _transform: PhantomData });
}

struct Filter<'a, X, const A: usize> {
    taps: Taps<'a>,
    to: PointsMut<'a>,
    rows: Range<usize>,
    _transform: PhantomData<X>,
}

impl<X: Transform<3, A>, const A: usize> WithSimd for Filter<'_, X, A> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { taps, to, rows, .. } = self;
        for row in rows {
            let mut from = [[std::ptr::null(); 3]; 3];
            for (y, from) in from.iter_mut().enumerate() {
                for (x, from) in from.iter_mut().enumerate() {
                    let tap = if taps.rotate { 8 - (y * 3 + x) } else { y * 3 + x };
                    *from = taps.data[row * taps.row + tap * taps.tap..].as_ptr();
                }
            }
            // SAFETY: `filter` checked that the taps and the rows are inside; its caller keeps other threads
            // away.
            unsafe { spread::<S, X, 3, A>(s, &from, None, to.data.add(row * to.width), to.pitch, to.width) };
        }
    }
}

/// Transforms rows `row..` of `from` into filters `dfilter` \[rows,3,3,C\].
pub(super) fn filter_gradient<X: Transform<A, 3>, const A: usize>(
    from: Points,
    row: usize,
    dfilter: &mut [f32],
) {
    let rows = dfilter.len() / (9 * from.width);
    assert!((row + rows) * from.width <= from.pitch && A * A <= from.points, "rows outside the points");
    Arch::new().dispatch(FilterGradient::<X, A> { from, row, dfilter, _transform: PhantomData });
}

struct FilterGradient<'a, X, const A: usize> {
    from: Points<'a>,
    row: usize,
    dfilter: &'a mut [f32],
    _transform: PhantomData<X>,
}

impl<X: Transform<A, 3>, const A: usize> WithSimd for FilterGradient<'_, X, A> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { from, row, dfilter, .. } = self;
        let c = from.width;
        for (i, filter) in dfilter.chunks_exact_mut(9 * c).enumerate() {
            let filter = filter.as_mut_ptr();
            let mut to = [[filter; 3]; 3];
            for (y, to) in to.iter_mut().enumerate() {
                for (x, to) in to.iter_mut().enumerate() {
                    // SAFETY: the filter has 9 taps of C.
                    *to = unsafe { filter.add((y * 3 + x) * c) };
                }
            }
            let from_row = from.data[(row + i) * c..].as_ptr();
            // SAFETY: `filter_gradient` checked the row; each pointer has the C channels of a tap behind it.
            unsafe { collect::<S, X, A, 3>(s, from_row, from.pitch, &to, c, false) };
        }
    }
}

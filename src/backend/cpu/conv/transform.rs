//! Winograd's transforms, vectorised over channels.
//!
//! A tile of y is M x M pixels and depends on A x A pixels of x, A = M + 2. With d the input tile, g the filter:
//! y = T^T [(G g G^T) . (B^T d B)] T, where T is Winograd's A (here the letter is the tile's side), and the product
//! `.` taken for each of the A*A points is a matrix product over channels. Matrices: Lavin and Gray, "Fast
//! Algorithms for Convolutional Neural Networks" (arXiv 1509.09308), section 4.

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

/// The one-dimensional transforms of F(M,3).
pub(super) trait Tile<const M: usize, const A: usize>: Copy + Send + Sync + Default {
    /// B^T d.
    fn input<S: Simd>(s: S, d: [S::f32s; A]) -> [S::f32s; A];
    /// T^T m.
    fn output<S: Simd>(s: S, m: [S::f32s; A]) -> [S::f32s; M];
    /// T e: the gradient of `output`.
    fn output_gradient<S: Simd>(s: S, e: [S::f32s; M]) -> [S::f32s; A];
    /// G g.
    fn filter<S: Simd>(s: S, g: [S::f32s; 3]) -> [S::f32s; A];
    /// G^T u: the gradient of `filter`.
    fn filter_gradient<S: Simd>(s: S, u: [S::f32s; A]) -> [S::f32s; 3];
}

/// F(2,3): points 0, 1, -1, infinity.
#[derive(Clone, Copy, Default)]
pub(super) struct F2;

/// F(4,3): points 0, 1, -1, 2, -2, infinity.
#[derive(Clone, Copy, Default)]
pub(super) struct F4;

impl Tile<2, 4> for F2 {
    #[inline(always)]
    fn input<S: Simd>(s: S, [d0, d1, d2, d3]: [S::f32s; 4]) -> [S::f32s; 4] {
        [s.sub_f32s(d0, d2), s.add_f32s(d1, d2), s.sub_f32s(d2, d1), s.sub_f32s(d1, d3)]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, [m0, m1, m2, m3]: [S::f32s; 4]) -> [S::f32s; 2] {
        [s.add_f32s(m0, s.add_f32s(m1, m2)), s.sub_f32s(s.sub_f32s(m1, m2), m3)]
    }

    #[inline(always)]
    fn output_gradient<S: Simd>(s: S, [e0, e1]: [S::f32s; 2]) -> [S::f32s; 4] {
        [e0, s.add_f32s(e0, e1), s.sub_f32s(e0, e1), s.neg_f32s(e1)]
    }

    #[inline(always)]
    fn filter<S: Simd>(s: S, [g0, g1, g2]: [S::f32s; 3]) -> [S::f32s; 4] {
        let half = s.splat_f32s(0.5);
        let (even, odd) = (s.mul_f32s(half, s.add_f32s(g0, g2)), s.mul_f32s(half, g1));
        [g0, s.add_f32s(even, odd), s.sub_f32s(even, odd), g2]
    }

    #[inline(always)]
    fn filter_gradient<S: Simd>(s: S, [u0, u1, u2, u3]: [S::f32s; 4]) -> [S::f32s; 3] {
        let half = s.splat_f32s(0.5);
        let sum = s.mul_f32s(half, s.add_f32s(u1, u2));
        [s.add_f32s(u0, sum), s.mul_f32s(half, s.sub_f32s(u1, u2)), s.add_f32s(u3, sum)]
    }
}

impl Tile<4, 6> for F4 {
    #[inline(always)]
    fn input<S: Simd>(s: S, [d0, d1, d2, d3, d4, d5]: [S::f32s; 6]) -> [S::f32s; 6] {
        let (two, four, five) = (s.splat_f32s(2.0), s.splat_f32s(4.0), s.splat_f32s(5.0));
        let even = s.negate_mul_add_e_f32s(four, d2, d4);
        let odd = s.negate_mul_add_e_f32s(four, d1, d3);
        let difference = s.sub_f32s(d4, d2);
        let slope = s.mul_f32s(two, s.sub_f32s(d3, d1));
        [
            s.mul_add_e_f32s(four, d0, s.negate_mul_add_e_f32s(five, d2, d4)),
            s.add_f32s(even, odd),
            s.sub_f32s(even, odd),
            s.add_f32s(difference, slope),
            s.sub_f32s(difference, slope),
            s.mul_add_e_f32s(four, d1, s.negate_mul_add_e_f32s(five, d3, d5)),
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, [m0, m1, m2, m3, m4, m5]: [S::f32s; 6]) -> [S::f32s; 4] {
        let (two, four, eight) = (s.splat_f32s(2.0), s.splat_f32s(4.0), s.splat_f32s(8.0));
        let (sum12, dif12) = (s.add_f32s(m1, m2), s.sub_f32s(m1, m2));
        let (sum34, dif34) = (s.add_f32s(m3, m4), s.sub_f32s(m3, m4));
        [
            s.add_f32s(m0, s.add_f32s(sum12, sum34)),
            s.mul_add_e_f32s(two, dif34, dif12),
            s.mul_add_e_f32s(four, sum34, sum12),
            s.mul_add_e_f32s(eight, dif34, s.add_f32s(dif12, m5)),
        ]
    }

    #[inline(always)]
    fn output_gradient<S: Simd>(s: S, [e0, e1, e2, e3]: [S::f32s; 4]) -> [S::f32s; 6] {
        let (two, four) = (s.splat_f32s(2.0), s.splat_f32s(4.0));
        let (even, odd) = (s.add_f32s(e0, e2), s.add_f32s(e1, e3));
        let even2 = s.mul_add_e_f32s(four, e2, e0);
        let odd2 = s.mul_f32s(two, s.mul_add_e_f32s(four, e3, e1));
        [
            e0,
            s.add_f32s(even, odd),
            s.sub_f32s(even, odd),
            s.add_f32s(even2, odd2),
            s.sub_f32s(even2, odd2),
            e3,
        ]
    }

    #[inline(always)]
    fn filter<S: Simd>(s: S, [g0, g1, g2]: [S::f32s; 3]) -> [S::f32s; 6] {
        let (quarter, sixth) = (s.splat_f32s(1.0 / 4.0), s.splat_f32s(-1.0 / 6.0));
        let (twelfth, twenty_fourth) = (s.splat_f32s(1.0 / 12.0), s.splat_f32s(1.0 / 24.0));
        let (even, odd) = (s.mul_f32s(sixth, s.add_f32s(g0, g2)), s.mul_f32s(sixth, g1));
        let even2 = s.mul_add_e_f32s(twenty_fourth, g0, s.neg_f32s(s.mul_f32s(sixth, g2)));
        let odd2 = s.mul_f32s(twelfth, g1);
        [
            s.mul_f32s(quarter, g0),
            s.add_f32s(even, odd),
            s.sub_f32s(even, odd),
            s.add_f32s(even2, odd2),
            s.sub_f32s(even2, odd2),
            g2,
        ]
    }

    #[inline(always)]
    fn filter_gradient<S: Simd>(s: S, [u0, u1, u2, u3, u4, u5]: [S::f32s; 6]) -> [S::f32s; 3] {
        let (quarter, sixth) = (s.splat_f32s(1.0 / 4.0), s.splat_f32s(1.0 / 6.0));
        let (twelfth, twenty_fourth) = (s.splat_f32s(1.0 / 12.0), s.splat_f32s(1.0 / 24.0));
        let (sum12, dif12) = (s.add_f32s(u1, u2), s.sub_f32s(u2, u1));
        let (sum34, dif34) = (s.add_f32s(u3, u4), s.sub_f32s(u3, u4));
        let first = s.mul_add_e_f32s(quarter, u0, s.mul_f32s(twenty_fourth, sum34));
        [
            s.negate_mul_add_e_f32s(sixth, sum12, first),
            s.mul_add_e_f32s(sixth, dif12, s.mul_f32s(twelfth, dif34)),
            s.mul_add_e_f32s(sixth, s.sub_f32s(sum34, sum12), u5),
        ]
    }
}

/// Exclusive access to \[points, rows, width\] f32 that several tasks fill together, each its own rows.
#[derive(Clone, Copy)]
pub(super) struct Planes<'a> {
    data: *mut f32,
    point: usize,
    rows: usize,
    width: usize,
    _borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: a Planes is an exclusive borrow of f32s; the caller of `line` keeps the lines of different threads apart.
#[allow(unsafe_code)]
unsafe impl Send for Planes<'_> {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Planes<'_> {}

impl<'a> Planes<'a> {
    /// Points lie `point` elements apart.
    pub fn new(data: &'a mut [f32], points: usize, point: usize, rows: usize, width: usize) -> Self {
        assert!(rows * width <= point && points * point <= data.len(), "planes outside their slice");
        Self { data: data.as_mut_ptr(), point, rows, width, _borrow: PhantomData }
    }

    /// Stores `v` at columns `at..at+lanes` of a row.
    ///
    /// # Safety
    /// No other thread touches this row meanwhile, point < points, row < rows, at + lanes <= width.
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn store<S: Simd>(self, s: S, point: usize, row: usize, at: usize, lanes: usize, v: S::f32s) {
        debug_assert!(row < self.rows && at + lanes <= self.width);
        // SAFETY: `new` checked that such an index is inside the borrowed slice.
        unsafe {
            let to = self.data.add(point * self.point + row * self.width + at);
            store_at(s, to, lanes, v);
        }
    }
}

/// # Safety
/// `lanes` elements from `from` can be read; lanes <= S::F32_LANES.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn load_at<S: Simd>(s: S, from: *const f32, lanes: usize) -> S::f32s {
    // SAFETY: the caller's promise; f32s is plain data of F32_LANES f32.
    unsafe {
        if lanes == S::F32_LANES {
            from.cast::<S::f32s>().read_unaligned()
        } else {
            s.partial_load_f32s(std::slice::from_raw_parts(from, lanes))
        }
    }
}

/// # Safety
/// `lanes` elements from `to` can be written; lanes <= S::F32_LANES.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn store_at<S: Simd>(s: S, to: *mut f32, lanes: usize, v: S::f32s) {
    // SAFETY: the caller's promise; f32s is plain data of F32_LANES f32.
    unsafe {
        if lanes == S::F32_LANES {
            to.cast::<S::f32s>().write_unaligned(v);
        } else {
            s.partial_store_f32s(std::slice::from_raw_parts_mut(to, lanes), v);
        }
    }
}

/// The first `lanes` elements of `from`.
#[inline(always)]
#[allow(unsafe_code)]
fn load<S: Simd>(s: S, from: &[f32], at: usize, lanes: usize) -> S::f32s {
    let from = &from[at..at + lanes];
    // SAFETY: the slice has `lanes` elements.
    unsafe { load_at(s, from.as_ptr(), lanes) }
}

/// Writes the first `lanes` elements of `to`.
#[inline(always)]
#[allow(unsafe_code)]
fn store<S: Simd>(s: S, to: &mut [f32], at: usize, lanes: usize, v: S::f32s) {
    let to = &mut to[at..at + lanes];
    // SAFETY: the slice has `lanes` elements.
    unsafe { store_at(s, to.as_mut_ptr(), lanes, v) }
}

/// Images \[H,W,C\] cut into tiles of M x M.
#[derive(Clone, Copy)]
pub(super) struct Images {
    pub h: usize,
    pub w: usize,
    pub c: usize,
}

impl Images {
    pub fn tiles(&self, m: usize) -> usize {
        self.h.div_ceil(m) * self.w.div_ceil(m)
    }

    pub fn len(&self) -> usize {
        self.h * self.w * self.c
    }
}

/// Work on channels, one vector of them after another.
trait Channels: Sized {
    fn count(&self) -> usize;

    /// Handles channels `at..at+lanes`; lanes <= S::F32_LANES.
    fn block<S: Simd>(&mut self, s: S, at: usize, lanes: usize);

    /// Handles all channels. The whole vectors get a copy of `block` of their own, without masks.
    #[inline(always)]
    fn all<S: Simd>(&mut self, s: S) {
        let (count, mut at) = (self.count(), 0);
        while at + S::F32_LANES <= count {
            self.block(s, at, S::F32_LANES);
            at += S::F32_LANES;
        }
        if at < count {
            self.block(s, at, count - at);
        }
    }
}

/// Which one-dimensional transform takes a tile of an image to its A*A points.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Into {
    /// x: A x A pixels, from one pixel above and left of the tile: B^T d B.
    Input,
    /// dy: the tile's M x M pixels: T e T^T.
    OutputGradient,
}

/// Transforms the tiles of whole images `x` \[n,H,W,C\] into rows `row..` of `to`. Pixels outside the image
/// count as zero.
///
/// # Safety
/// No other thread touches these rows of `to` meanwhile.
#[allow(unsafe_code)]
pub(super) unsafe fn scatter<T: Tile<M, A>, const M: usize, const A: usize>(
    kind: Into,
    images: Images,
    x: &[f32],
    to: Planes,
    row: usize,
) {
    assert!(x.len() % images.len() == 0 && images.c == to.width);
    assert!(row + x.len() / images.len() * images.tiles(M) <= to.rows, "rows outside the planes");
    Arch::new().dispatch(Scatter::<T, M, A> { kind, images, x, to, row, _tile: PhantomData });
}

struct Scatter<'a, T, const M: usize, const A: usize> {
    kind: Into,
    images: Images,
    x: &'a [f32],
    to: Planes<'a>,
    row: usize,
    _tile: PhantomData<T>,
}

impl<T: Tile<M, A>, const M: usize, const A: usize> WithSimd for Scatter<'_, T, M, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Images { h, w, c } = self.images;
        let mut row = self.row;
        for image in self.x.chunks_exact(h * w * c) {
            for top in (0..h).step_by(M) {
                for left in (0..w).step_by(M) {
                    let place = Place { image, images: self.images, top, left, to: self.to, row };
                    match self.kind {
                        Into::Input => InputTile::<T, M, A>(place, PhantomData).all(s),
                        Into::OutputGradient => GradientTile::<T, M, A>(place, PhantomData).all(s),
                    }
                    row += 1;
                }
            }
        }
    }
}

/// One tile of an image and the row of planes it goes to.
struct Place<'a> {
    image: &'a [f32],
    images: Images,
    top: usize,
    left: usize,
    to: Planes<'a>,
    row: usize,
}

struct InputTile<'a, T, const M: usize, const A: usize>(Place<'a>, PhantomData<T>);

impl<T: Tile<M, A>, const M: usize, const A: usize> Channels for InputTile<'_, T, M, A> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.0.images.c
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn block<S: Simd>(&mut self, s: S, at: usize, lanes: usize) {
        let Place { image, images: Images { h, w, c }, top, left, to, row } = self.0;
        let mut columns = [[s.splat_f32s(0.0); A]; A];
        for (j, column) in columns.iter_mut().enumerate() {
            // Padded coordinates: the image begins at 1.
            let x = left + j;
            if x >= 1 && x <= w {
                let mut d = [s.splat_f32s(0.0); A];
                for (i, d) in d.iter_mut().enumerate() {
                    let y = top + i;
                    if y >= 1 && y <= h {
                        *d = load(s, image, ((y - 1) * w + x - 1) * c + at, lanes);
                    }
                }
                *column = T::input(s, d);
            }
        }
        for i in 0..A {
            let mut d = [s.splat_f32s(0.0); A];
            for (d, column) in d.iter_mut().zip(&columns) {
                *d = column[i];
            }
            for (j, v) in T::input(s, d).into_iter().enumerate() {
                // SAFETY: `scatter` checked the row and the width; its caller keeps other threads away.
                unsafe { to.store(s, i * A + j, row, at, lanes, v) };
            }
        }
    }
}

struct GradientTile<'a, T, const M: usize, const A: usize>(Place<'a>, PhantomData<T>);

impl<T: Tile<M, A>, const M: usize, const A: usize> Channels for GradientTile<'_, T, M, A> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.0.images.c
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn block<S: Simd>(&mut self, s: S, at: usize, lanes: usize) {
        let Place { image, images: Images { h, w, c }, top, left, to, row } = self.0;
        let mut columns = [[s.splat_f32s(0.0); A]; M];
        for (j, column) in columns.iter_mut().enumerate() {
            let x = left + j;
            if x < w {
                let mut e = [s.splat_f32s(0.0); M];
                for (i, e) in e.iter_mut().enumerate() {
                    let y = top + i;
                    if y < h {
                        *e = load(s, image, (y * w + x) * c + at, lanes);
                    }
                }
                *column = T::output_gradient(s, e);
            }
        }
        for i in 0..A {
            let mut e = [s.splat_f32s(0.0); M];
            for (e, column) in e.iter_mut().zip(&columns) {
                *e = column[i];
            }
            for (j, v) in T::output_gradient(s, e).into_iter().enumerate() {
                // SAFETY: `scatter` checked the row and the width; its caller keeps other threads away.
                unsafe { to.store(s, i * A + j, row, at, lanes, v) };
            }
        }
    }
}

/// Points lying `point` elements apart, each \[rows, C\].
#[derive(Clone, Copy)]
pub(super) struct Points<'a> {
    pub data: &'a [f32],
    pub point: usize,
}

/// Transforms rows `row..` of `from` into the tiles of whole images `y` \[n,H,W,C\], overwriting y or adding to
/// it: T^T m T.
pub(super) fn gather<T: Tile<M, A>, const M: usize, const A: usize>(
    images: Images,
    from: Points,
    row: usize,
    y: &mut [f32],
    accumulate: bool,
) {
    assert!(y.len() % images.len() == 0);
    Arch::new().dispatch(Gather::<T, M, A> { images, from, row, y, accumulate, _tile: PhantomData });
}

struct Gather<'a, T, const M: usize, const A: usize> {
    images: Images,
    from: Points<'a>,
    row: usize,
    y: &'a mut [f32],
    accumulate: bool,
    _tile: PhantomData<T>,
}

impl<T: Tile<M, A>, const M: usize, const A: usize> WithSimd for Gather<'_, T, M, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Images { h, w, c } = self.images;
        let (images, from, accumulate, mut row) = (self.images, self.from, self.accumulate, self.row);
        for image in self.y.chunks_exact_mut(h * w * c) {
            for top in (0..h).step_by(M) {
                for left in (0..w).step_by(M) {
                    let image = &mut *image;
                    OutputTile::<T, M, A> {
                        image,
                        images,
                        top,
                        left,
                        from,
                        row,
                        accumulate,
                        _tile: PhantomData,
                    }
                    .all(s);
                    row += 1;
                }
            }
        }
    }
}

struct OutputTile<'a, T, const M: usize, const A: usize> {
    image: &'a mut [f32],
    images: Images,
    top: usize,
    left: usize,
    from: Points<'a>,
    row: usize,
    accumulate: bool,
    _tile: PhantomData<T>,
}

impl<T: Tile<M, A>, const M: usize, const A: usize> Channels for OutputTile<'_, T, M, A> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.images.c
    }

    #[inline(always)]
    fn block<S: Simd>(&mut self, s: S, at: usize, lanes: usize) {
        let Images { h, w, c } = self.images;
        let mut rows = [[s.splat_f32s(0.0); M]; A];
        for (i, out) in rows.iter_mut().enumerate() {
            let mut m = [s.splat_f32s(0.0); A];
            for (j, m) in m.iter_mut().enumerate() {
                *m = load(s, self.from.data, (i * A + j) * self.from.point + self.row * c + at, lanes);
            }
            *out = T::output(s, m);
        }
        for j in 0..M {
            let x = self.left + j;
            if x >= w {
                break;
            }
            let mut m = [s.splat_f32s(0.0); A];
            for (m, row) in m.iter_mut().zip(&rows) {
                *m = row[j];
            }
            for (i, v) in T::output(s, m).into_iter().enumerate() {
                let y = self.top + i;
                if y < h {
                    let to = (y * w + x) * c + at;
                    let v = if self.accumulate { s.add_f32s(v, load(s, self.image, to, lanes)) } else { v };
                    store(s, self.image, to, lanes, v);
                }
            }
        }
    }
}

/// Where the taps of a filter lie: row i (an input channel of the product), tap t, lane j (an output channel) is
/// element `i * row + t * tap + j`, with the taps counted backwards when `rotate`.
#[derive(Clone, Copy)]
pub(super) struct Taps<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub tap: usize,
    pub rotate: bool,
}

/// Transforms rows `rows` of a filter into the same rows of `to`: G g G^T.
///
/// # Safety
/// No other thread touches these rows of `to` meanwhile.
#[allow(unsafe_code)]
pub(super) unsafe fn filter<T: Tile<M, A>, const M: usize, const A: usize>(
    taps: Taps,
    to: Planes,
    rows: std::ops::Range<usize>,
) {
    assert!(rows.end <= to.rows);
    Arch::new().dispatch(Filter::<T, M, A> { taps, to, rows, _tile: PhantomData });
}

struct Filter<'a, T, const M: usize, const A: usize> {
    taps: Taps<'a>,
    to: Planes<'a>,
    rows: std::ops::Range<usize>,
    _tile: PhantomData<T>,
}

impl<T: Tile<M, A>, const M: usize, const A: usize> WithSimd for Filter<'_, T, M, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        for row in self.rows {
            FilterRow::<T, M, A> { taps: self.taps, to: self.to, row, _tile: PhantomData }.all(s);
        }
    }
}

struct FilterRow<'a, T, const M: usize, const A: usize> {
    taps: Taps<'a>,
    to: Planes<'a>,
    row: usize,
    _tile: PhantomData<T>,
}

impl<T: Tile<M, A>, const M: usize, const A: usize> Channels for FilterRow<'_, T, M, A> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.to.width
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn block<S: Simd>(&mut self, s: S, at: usize, lanes: usize) {
        let taps = self.taps;
        let mut columns = [[s.splat_f32s(0.0); A]; 3];
        for (j, column) in columns.iter_mut().enumerate() {
            let mut g = [s.splat_f32s(0.0); 3];
            for (i, g) in g.iter_mut().enumerate() {
                let tap = if taps.rotate { 8 - (i * 3 + j) } else { i * 3 + j };
                *g = load(s, taps.data, self.row * taps.row + tap * taps.tap + at, lanes);
            }
            *column = T::filter(s, g);
        }
        for i in 0..A {
            let g = [columns[0][i], columns[1][i], columns[2][i]];
            for (j, v) in T::filter(s, g).into_iter().enumerate() {
                // SAFETY: `filter` checked the row; its caller keeps other threads away.
                unsafe { self.to.store(s, i * A + j, self.row, at, lanes, v) };
            }
        }
    }
}

/// Transforms row `row..` of `from` into filters `dfilter` \[rows,3,3,C\]: G^T u G.
pub(super) fn filter_gradient<T: Tile<M, A>, const M: usize, const A: usize>(
    from: Points,
    row: usize,
    c: usize,
    dfilter: &mut [f32],
) {
    Arch::new().dispatch(FilterGradient::<T, M, A> { from, row, c, dfilter, _tile: PhantomData });
}

struct FilterGradient<'a, T, const M: usize, const A: usize> {
    from: Points<'a>,
    row: usize,
    c: usize,
    dfilter: &'a mut [f32],
    _tile: PhantomData<T>,
}

impl<T: Tile<M, A>, const M: usize, const A: usize> WithSimd for FilterGradient<'_, T, M, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        for (i, out) in self.dfilter.chunks_exact_mut(9 * self.c).enumerate() {
            let (from, row, c) = (self.from, self.row + i, self.c);
            FilterGradientRow::<T, M, A> { from, row, c, out, _tile: PhantomData }.all(s);
        }
    }
}

struct FilterGradientRow<'a, T, const M: usize, const A: usize> {
    from: Points<'a>,
    row: usize,
    c: usize,
    out: &'a mut [f32],
    _tile: PhantomData<T>,
}

impl<T: Tile<M, A>, const M: usize, const A: usize> Channels for FilterGradientRow<'_, T, M, A> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.c
    }

    #[inline(always)]
    fn block<S: Simd>(&mut self, s: S, at: usize, lanes: usize) {
        let mut rows = [[s.splat_f32s(0.0); 3]; A];
        for (i, out) in rows.iter_mut().enumerate() {
            let mut u = [s.splat_f32s(0.0); A];
            for (j, u) in u.iter_mut().enumerate() {
                *u = load(s, self.from.data, (i * A + j) * self.from.point + self.row * self.c + at, lanes);
            }
            *out = T::filter_gradient(s, u);
        }
        for j in 0..3 {
            let mut u = [s.splat_f32s(0.0); A];
            for (u, row) in u.iter_mut().zip(&rows) {
                *u = row[j];
            }
            for (i, v) in T::filter_gradient(s, u).into_iter().enumerate() {
                store(s, self.out, (i * 3 + j) * self.c + at, lanes, v);
            }
        }
    }
}

//! Winograd's one-dimensional transforms.
//!
//! A tile of y is M x M pixels and depends on A x A pixels of x, A = M + 2. With d the input tile, g the
//! filter: y = T^T [(G g G^T) . (B^T d B)] T, where T is what the literature calls A (here the side of the
//! input tile), and the product `.` at each of the A*A points is a matrix product over channels. Matrices:
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308), section 4.

use pulp::Simd;

/// A one-dimensional transform of FROM values to TO.
pub(super) trait Transform<const FROM: usize, const TO: usize>: Send + Sync {
    fn apply<S: Simd>(s: S, v: [S::f32s; FROM]) -> [S::f32s; TO];
}

/// The one-dimensional transforms of F(M,3).
pub(super) trait Tile<const M: usize, const A: usize> {
    /// B^T.
    type Input: Transform<A, A>;
    /// T^T.
    type Output: Transform<A, M>;
    /// T: the gradient of `Output`.
    type OutputGradient: Transform<M, A>;
    /// G.
    type Filter: Transform<3, A>;
    /// G^T: the gradient of `Filter`.
    type FilterGradient: Transform<A, 3>;
}

/// B^T of F(M,3).
pub(super) struct Input<const M: usize>;
/// T^T of F(M,3).
pub(super) struct Output<const M: usize>;
/// T of F(M,3).
pub(super) struct OutputGradient<const M: usize>;
/// G of F(M,3).
pub(super) struct Filter<const M: usize>;
/// G^T of F(M,3).
pub(super) struct FilterGradient<const M: usize>;

/// F(2,3): points 0, 1, -1, infinity.
pub(super) struct F2;

/// F(4,3): points 0, 1, -1, 2, -2, infinity.
pub(super) struct F4;

impl Tile<2, 4> for F2 {
    type Input = Input<2>;
    type Output = Output<2>;
    type OutputGradient = OutputGradient<2>;
    type Filter = Filter<2>;
    type FilterGradient = FilterGradient<2>;
}

impl Tile<4, 6> for F4 {
    type Input = Input<4>;
    type Output = Output<4>;
    type OutputGradient = OutputGradient<4>;
    type Filter = Filter<4>;
    type FilterGradient = FilterGradient<4>;
}

impl Transform<4, 4> for Input<2> {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [d0, d1, d2, d3]: [S::f32s; 4]) -> [S::f32s; 4] {
        [s.sub_f32s(d0, d2), s.add_f32s(d1, d2), s.sub_f32s(d2, d1), s.sub_f32s(d1, d3)]
    }
}

impl Transform<4, 2> for Output<2> {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [m0, m1, m2, m3]: [S::f32s; 4]) -> [S::f32s; 2] {
        [s.add_f32s(m0, s.add_f32s(m1, m2)), s.sub_f32s(s.sub_f32s(m1, m2), m3)]
    }
}

impl Transform<2, 4> for OutputGradient<2> {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [e0, e1]: [S::f32s; 2]) -> [S::f32s; 4] {
        [e0, s.add_f32s(e0, e1), s.sub_f32s(e0, e1), s.neg_f32s(e1)]
    }
}

impl Transform<3, 4> for Filter<2> {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [g0, g1, g2]: [S::f32s; 3]) -> [S::f32s; 4] {
        let half = s.splat_f32s(0.5);
        let (even, odd) = (s.mul_f32s(half, s.add_f32s(g0, g2)), s.mul_f32s(half, g1));
        [g0, s.add_f32s(even, odd), s.sub_f32s(even, odd), g2]
    }
}

impl Transform<4, 3> for FilterGradient<2> {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [u0, u1, u2, u3]: [S::f32s; 4]) -> [S::f32s; 3] {
        let half = s.splat_f32s(0.5);
        let sum = s.mul_f32s(half, s.add_f32s(u1, u2));
        [s.add_f32s(u0, sum), s.mul_f32s(half, s.sub_f32s(u1, u2)), s.add_f32s(u3, sum)]
    }
}

impl Transform<6, 6> for Input<4> {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [d0, d1, d2, d3, d4, d5]: [S::f32s; 6]) -> [S::f32s; 6] {
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
}

impl Transform<6, 4> for Output<4> {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [m0, m1, m2, m3, m4, m5]: [S::f32s; 6]) -> [S::f32s; 4] {
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
}

impl Transform<4, 6> for OutputGradient<4> {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [e0, e1, e2, e3]: [S::f32s; 4]) -> [S::f32s; 6] {
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
}

impl Transform<3, 6> for Filter<4> {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [g0, g1, g2]: [S::f32s; 3]) -> [S::f32s; 6] {
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
}

impl Transform<6, 3> for FilterGradient<4> {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [u0, u1, u2, u3, u4, u5]: [S::f32s; 6]) -> [S::f32s; 3] {
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

//! Matrix products of f32 slices through the `gemm-f32` crate, on the calling thread.

/// A matrix inside a slice: element (i, j) is `data[i * row + j * col]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    row: usize,
    col: usize,
}

impl<'a> Matrix<'a> {
    /// Rows `row` elements apart.
    pub fn rows(data: &'a [f32], row: usize) -> Self {
        Self { data, row, col: 1 }
    }

    /// Rows and columns exchanged.
    pub fn t(self) -> Self {
        Self { row: self.col, col: self.row, ..self }
    }

    fn holds(&self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.row + (cols - 1) * self.col < self.data.len()
    }
}

/// dst \[m,n\] (+)= a \[m,k\] b \[k,n\]; the rows of dst are `dst_row` apart.
pub fn matmul(
    (m, n, k): (usize, usize, usize),
    dst: &mut [f32],
    dst_row: usize,
    accumulate: bool,
    a: Matrix,
    b: Matrix,
) {
    assert!(a.holds(m, k) && b.holds(k, n), "matrix operand [{m},{k}] or [{k},{n}] outside its slice");
    assert!(Matrix::rows(dst, dst_row).holds(m, n) && n <= dst_row, "product [{m},{n}] outside its slice");
    let alpha = f32::from(u8::from(accumulate));
    // The kernels want the smaller stride along the rows of dst: what is computed is then dst' = b' a'.
    let flip = dst_row > 1;
    let dst_strides = if flip { (dst_row as isize, 1) } else { (1, dst_row as isize) };
    let (m, n, a, b) = if flip { (n, m, b.t(), a.t()) } else { (m, n, a, b) };
    // SAFETY: the asserts above keep every element that is read or written inside its slice, and `dst` is
    // borrowed exclusively, so it does not overlap the operands.
    #[allow(unsafe_code)]
    unsafe {
        gemm_f32::gemm::f32::get_gemm_fn()(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            dst_strides.0,
            dst_strides.1,
            accumulate,
            a.data.as_ptr(),
            a.col as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.col as isize,
            b.row as isize,
            alpha,
            1.0,
            false,
            false,
            false,
            gemm_common::Parallelism::None,
        );
    }
}

//! One square of pixels or taps and its points: Winograd's transform along both axes, vectorised over
//! channels.

use pulp::Simd;

use super::transform::Transform;

/// Vectors on whole cache lines: a store that straddles two costs twice.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Grid<V, const ROWS: usize, const COLUMNS: usize>([[V; COLUMNS]; ROWS]);

/// X v X^T for each of `len` channels: v\[y\]\[x\] is behind `from\[y\]\[x\]`, point (y, x) goes to `to` + (y
/// * TO + x) * pitch. `next` is what will be read next: tiles are too scattered for the hardware to foresee.
///
/// # Safety
/// All of this memory can be read or written.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) unsafe fn spread<S: Simd, X: Transform<FROM, TO>, const FROM: usize, const TO: usize>(
    s: S,
    from: &[[*const f32; FROM]; FROM],
    next: Option<&[[*const f32; FROM]; FROM]>,
    to: *mut f32,
    pitch: usize,
    len: usize,
) {
    // SAFETY: the caller's promise; at + lanes <= len.
    unsafe {
        let mut at = 0;
        while at + S::F32_LANES <= len {
            spread_lanes::<S, X, FROM, TO>(s, from, next, to, pitch, at, S::F32_LANES);
            at += S::F32_LANES;
        }
        if at < len {
            spread_lanes::<S, X, FROM, TO>(s, from, next, to, pitch, at, len - at);
        }
    }
}

/// [`spread`] of channels `at..at+lanes`.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn spread_lanes<S: Simd, X: Transform<FROM, TO>, const FROM: usize, const TO: usize>(
    s: S,
    from: &[[*const f32; FROM]; FROM],
    next: Option<&[[*const f32; FROM]; FROM]>,
    to: *mut f32,
    pitch: usize,
    at: usize,
    lanes: usize,
) {
    let mut half = Grid([[s.splat_f32s(0.0); FROM]; TO]);
    for x in 0..FROM {
        let mut column = [s.splat_f32s(0.0); FROM];
        for y in 0..FROM {
            // SAFETY: the caller's promise.
            column[y] = unsafe { load(s, from[y][x].add(at), lanes) };
            if let Some(next) = next {
                prefetch(next[y][x].wrapping_add(at));
            }
        }
        for (half, v) in half.0.iter_mut().zip(X::apply(s, column)) {
            half[x] = v;
        }
    }
    for (y, half) in half.0.iter().enumerate() {
        for (x, v) in X::apply(s, *half).into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { store(s, to.add((y * TO + x) * pitch + at), lanes, v) };
        }
    }
}

/// X m X^T for each of `len` channels: point (y, x) is at `from` + (y * FROM + x) * pitch, the result (y, x)
/// goes behind `to\[y\]\[x\]` unless that is null, added to what is there when `accumulate`.
///
/// # Safety
/// All of this memory can be read or written.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) unsafe fn collect<S: Simd, X: Transform<FROM, TO>, const FROM: usize, const TO: usize>(
    s: S,
    from: *const f32,
    pitch: usize,
    to: &[[*mut f32; TO]; TO],
    len: usize,
    accumulate: bool,
) {
    // SAFETY: the caller's promise; at + lanes <= len.
    unsafe {
        let mut at = 0;
        while at + S::F32_LANES <= len {
            collect_lanes::<S, X, FROM, TO>(s, from, pitch, to, at, S::F32_LANES, accumulate);
            at += S::F32_LANES;
        }
        if at < len {
            collect_lanes::<S, X, FROM, TO>(s, from, pitch, to, at, len - at, accumulate);
        }
    }
}

/// [`collect`] of channels `at..at+lanes`.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn collect_lanes<S: Simd, X: Transform<FROM, TO>, const FROM: usize, const TO: usize>(
    s: S,
    from: *const f32,
    pitch: usize,
    to: &[[*mut f32; TO]; TO],
    at: usize,
    lanes: usize,
    accumulate: bool,
) {
    let mut half = Grid([[s.splat_f32s(0.0); FROM]; TO]);
    for y in 0..FROM {
        let mut row = [s.splat_f32s(0.0); FROM];
        for (x, v) in row.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *v = unsafe { load(s, from.add((y * FROM + x) * pitch + at), lanes) };
        }
        for (half, v) in half.0.iter_mut().zip(X::apply(s, row)) {
            half[y] = v;
        }
    }
    for (x, half) in half.0.iter().enumerate() {
        for (y, v) in X::apply(s, *half).into_iter().enumerate() {
            let to = to[y][x];
            if !to.is_null() {
                // SAFETY: the caller's promise.
                unsafe {
                    let to = to.add(at);
                    let v = if accumulate { s.add_f32s(v, load(s, to, lanes)) } else { v };
                    store(s, to, lanes, v);
                }
            }
        }
    }
}

/// Asks for the cache line of `from`, which need not be readable.
#[inline(always)]
#[allow(unsafe_code)]
fn prefetch(from: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing and never faults, and SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// # Safety
/// `lanes` elements from `from` can be read; lanes <= S::F32_LANES.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn load<S: Simd>(s: S, from: *const f32, lanes: usize) -> S::f32s {
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
unsafe fn store<S: Simd>(s: S, to: *mut f32, lanes: usize, v: S::f32s) {
    // SAFETY: the caller's promise; f32s is plain data of F32_LANES f32.
    unsafe {
        if lanes == S::F32_LANES {
            to.cast::<S::f32s>().write_unaligned(v);
        } else {
            s.partial_store_f32s(std::slice::from_raw_parts_mut(to, lanes), v);
        }
    }
}

//! Convolution and pooling.

use super::{Tape, Tensor, Var, pairs};

impl Tape {
    /// x (N, C, H, W), w (K, C, R, S) -> (N, K, P, Q):
    /// y[n,k,p,q] = sum over c, r, s of x[n,c,p*stride+r-pad,q*stride+s-pad] w[k,c,r,s].
    pub fn conv2d(&mut self, x: Var, w: Var, stride: usize, pad: usize) -> Var {
        let ([n, c, h, wd], [k, wc, r, s]) = (self.value(x).dims(), self.value(w).dims());
        assert_eq!(c, wc, "channels of image and filter");
        let (p, q) = ((h + 2 * pad - r) / stride + 1, (wd + 2 * pad - s) / stride + 1);
        let taps = move |visit: &mut dyn FnMut(usize, usize, usize)| {
            for (ni, ki, ci) in triples(n, k, c) {
                for (ri, si, pi) in triples(r, s, p) {
                    let Some(hi) = inside(pi * stride + ri, pad, h) else { continue };
                    for qi in 0..q {
                        let Some(wi) = inside(qi * stride + si, pad, wd) else { continue };
                        visit(
                            ((ni * k + ki) * p + pi) * q + qi,
                            ((ni * c + ci) * h + hi) * wd + wi,
                            ((ki * c + ci) * r + ri) * s + si,
                        );
                    }
                }
            }
        };
        let mut y = Tensor::zeros(&[n, k, p, q]);
        let (xv, wv) = (self.value(x), self.value(w));
        taps(&mut |yi, xi, wi| y.data[yi] += xv.data[xi] * wv.data[wi]);
        let backward = move |tape: &Tape, dy: &Tensor| {
            let (xv, wv) = (tape.value(x), tape.value(w));
            let (mut dx, mut dw) = (Tensor::zeros(&xv.shape), Tensor::zeros(&wv.shape));
            taps(&mut |yi, xi, wi| {
                dx.data[xi] += dy.data[yi] * wv.data[wi];
                dw.data[wi] += dy.data[yi] * xv.data[xi];
            });
            vec![(x, dx), (w, dw)]
        };
        self.push(y, Some(Box::new(backward)))
    }

    /// x (N, C, H, W) -> (N, C, P, Q), k x k windows. Of equal maxima the first in row-major order takes the
    /// gradient; padding is never chosen.
    pub fn max_pool(&mut self, x: Var, k: usize, stride: usize, pad: usize) -> Var {
        let xv = self.value(x);
        let [n, c, h, w] = xv.dims();
        let (p, q) = ((h + 2 * pad - k) / stride + 1, (w + 2 * pad - k) / stride + 1);
        let mut chosen = Vec::with_capacity(n * c * p * q);
        for (plane, pi, qi) in triples(n * c, p, q) {
            let mut best: Option<usize> = None;
            for (r, s) in pairs(k, k) {
                let (Some(hi), Some(wi)) = (inside(pi * stride + r, pad, h), inside(qi * stride + s, pad, w))
                else {
                    continue;
                };
                let at = (plane * h + hi) * w + wi;
                if best.is_none_or(|b| xv.data[at] > xv.data[b]) {
                    best = Some(at);
                }
            }
            chosen.push(best.expect("a window holds at least one pixel"));
        }
        let y = Tensor::new(&[n, c, p, q], chosen.iter().map(|&i| xv.data[i]).collect());
        let backward = move |tape: &Tape, dy: &Tensor| {
            let mut dx = Tensor::zeros(&tape.value(x).shape);
            chosen.iter().zip(&dy.data).for_each(|(&i, d)| dx.data[i] += d);
            vec![(x, dx)]
        };
        self.push(y, Some(Box::new(backward)))
    }

    /// x (N, C, H, W) -> (N, C): the mean of each plane.
    pub fn average_pool(&mut self, x: Var) -> Var {
        let [n, c, h, w] = self.value(x).dims();
        let planes = self.value(x).data.chunks(h * w);
        let y = Tensor::new(&[n, c], planes.map(|p| p.iter().sum::<f64>() / (h * w) as f64).collect());
        let backward = move |_: &Tape, dy: &Tensor| {
            vec![(x, Tensor::from_fn(&[n, c, h, w], |i| dy.data[i / (h * w)] / (h * w) as f64))]
        };
        self.push(y, Some(Box::new(backward)))
    }
}

/// The index in 0..n of padded position `at`, unless it lies in the padding.
fn inside(at: usize, pad: usize, n: usize) -> Option<usize> {
    at.checked_sub(pad).filter(|&i| i < n)
}

fn triples(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    pairs(a, b).flat_map(move |(i, j)| (0..c).map(move |k| (i, j, k)))
}

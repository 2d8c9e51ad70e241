//! The yardstick: every operation forward and backward in f64, by its formula, on a tape.
//!
//! Deliberately unlike the product: NCHW activations, KCRS filters, plain loops, no fusion, no reuse of
//! buffers. Nothing here is fast and nothing should be made so.

use std::collections::BTreeMap;

/// A dense row-major tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

/// Tensors by parameter name.
pub type Named = BTreeMap<String, Tensor>;

impl Tensor {
    pub fn new(shape: &[usize], data: Vec<f64>) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "shape {shape:?}");
        Tensor { shape: shape.to_vec(), data }
    }

    pub fn zeros(shape: &[usize]) -> Tensor {
        Tensor::from_fn(shape, |_| 0.0)
    }

    /// Element `i` of the row-major order is `f(i)`.
    pub fn from_fn(shape: &[usize], f: impl FnMut(usize) -> f64) -> Tensor {
        Tensor::new(shape, (0..shape.iter().product()).map(f).collect())
    }

    /// The shape, when it has exactly `D` dimensions.
    pub fn dims<const D: usize>(&self) -> [usize; D] {
        self.shape.as_slice().try_into().unwrap_or_else(|_| panic!("{:?} is not {D}-dimensional", self.shape))
    }

    /// Rounded to f32.
    pub fn f32s(&self) -> Vec<f32> {
        self.data.iter().map(|&v| v as f32).collect()
    }
}

/// A value on a tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Var(usize);

/// From the values so far and the gradient of this one, the gradients of its inputs.
type Backward = Box<dyn Fn(&Tape, &Tensor) -> Vec<(Var, Tensor)>>;

/// Values in the order they were computed, each with how its gradient goes back.
#[derive(Default)]
pub struct Tape {
    values: Vec<Tensor>,
    backwards: Vec<Option<Backward>>,
}

/// The gradients one backward pass found.
pub struct Gradients(Vec<Option<Tensor>>);

impl Gradients {
    /// The gradient of `var`; panics when nothing flowed there.
    pub fn of(&self, var: Var) -> &Tensor {
        self.0[var.0].as_ref().expect("no gradient reached this value")
    }
}

/// Which statistics batch norm normalises with.
#[derive(Clone, Copy, Debug)]
pub enum Statistics<'a> {
    /// Mean and biased variance over N, H and W.
    Batch,
    /// Given mean and variance, one a channel; constants to the gradient.
    Running(&'a Tensor, &'a Tensor),
    /// Mean and biased variance of each sample over its H and W.
    Sample,
}

pub const BN_EPS: f64 = 1e-5;
pub const BN_MOMENTUM: f64 = 0.1;

/// What a batch norm found in its batch (`Statistics::Batch` only): one mean and biased variance a channel.
#[derive(Clone, Debug)]
pub struct BatchStatistics {
    pub mean: Tensor,
    pub variance: Tensor,
    /// N * H * W.
    pub count: usize,
}

impl BatchStatistics {
    /// running += momentum * (batch - running), with the unbiased variance.
    pub fn update(&self, running_mean: &mut Tensor, running_var: &mut Tensor) {
        let unbias = self.count as f64 / (self.count as f64 - 1.0);
        for c in 0..self.mean.data.len() {
            let (mean, var) = (&mut running_mean.data[c], &mut running_var.data[c]);
            *mean += BN_MOMENTUM * (self.mean.data[c] - *mean);
            *var += BN_MOMENTUM * (self.variance.data[c] * unbias - *var);
        }
    }
}

impl Tape {
    fn push(&mut self, value: Tensor, backward: Option<Backward>) -> Var {
        self.values.push(value);
        self.backwards.push(backward);
        Var(self.values.len() - 1)
    }

    /// An input or a parameter.
    pub fn leaf(&mut self, value: &Tensor) -> Var {
        self.push(value.clone(), None)
    }

    pub fn value(&self, var: Var) -> &Tensor {
        &self.values[var.0]
    }

    /// Gradients of sum(seed * y) by every value that y depends on.
    pub fn backward(&self, y: Var, seed: &Tensor) -> Gradients {
        assert_eq!(self.value(y).shape, seed.shape, "the incoming gradient's shape");
        let mut gradients = vec![None; self.values.len()];
        gradients[y.0] = Some(seed.clone());
        for i in (0..=y.0).rev() {
            let (Some(gradient), Some(backward)) = (&gradients[i], &self.backwards[i]) else { continue };
            for (input, part) in backward(self, gradient) {
                assert_eq!(part.shape, self.value(input).shape, "a gradient has its value's shape");
                match &mut gradients[input.0] {
                    Some(sum) => sum.data.iter_mut().zip(&part.data).for_each(|(s, p)| *s += p),
                    empty => *empty = Some(part),
                }
            }
        }
        Gradients(gradients)
    }

    /// x (N, C, H, W), w (K, C, R, S) -> (N, K, P, Q): y[n,k,p,q] = sum x[n,c,p*stride+r-pad,q*stride+s-pad] w[k,c,r,s].
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

    /// x (N, C, H, W), weight and bias (C): y = weight * (x - mean) / sqrt(variance + eps) + bias.
    /// The second result is there for `Statistics::Batch`.
    pub fn batch_norm(&mut self, x: Var, w: Var, b: Var, by: Statistics) -> (Var, Option<BatchStatistics>) {
        let xv = self.value(x);
        let [n, c, h, wd] = xv.dims();
        let plane = h * wd;
        let channel = move |i: usize| i / plane % c;
        // Elements that share a mean share a group.
        let (groups, count, per_sample) = match by {
            Statistics::Sample => (n * c, plane, true),
            _ => (c, n * plane, false),
        };
        let group = move |i: usize| if per_sample { i / plane } else { channel(i) };
        let mean_of = move |value: &dyn Fn(usize) -> f64| {
            let mut mean = vec![0.0; groups];
            (0..n * c * plane).for_each(|i| mean[group(i)] += value(i));
            mean.iter_mut().for_each(|m| *m /= count as f64);
            mean
        };
        let (mean, variance) = match by {
            Statistics::Running(mean, variance) => (mean.data.clone(), variance.data.clone()),
            _ => {
                let mean = mean_of(&|i| xv.data[i]);
                let variance = mean_of(&|i| (xv.data[i] - mean[group(i)]).powi(2));
                (mean, variance)
            }
        };
        let scale: Vec<f64> = variance.iter().map(|v| 1.0 / (v + BN_EPS).sqrt()).collect();
        let x_hat = Tensor::from_fn(&xv.shape, |i| (xv.data[i] - mean[group(i)]) * scale[group(i)]);
        let (wv, bv) = (self.value(w), self.value(b));
        let y = Tensor::from_fn(&xv.shape, |i| wv.data[channel(i)] * x_hat.data[i] + bv.data[channel(i)]);
        let (found, constant) = match by {
            Statistics::Batch => {
                let (mean, variance) = (Tensor::new(&[c], mean), Tensor::new(&[c], variance));
                (Some(BatchStatistics { mean, variance, count }), false)
            }
            Statistics::Sample => (None, false),
            Statistics::Running(..) => (None, true),
        };
        let backward = move |tape: &Tape, dy: &Tensor| {
            let wv = tape.value(w);
            let (mut dw, mut db) = (Tensor::zeros(&[c]), Tensor::zeros(&[c]));
            for (i, d) in dy.data.iter().enumerate() {
                dw.data[channel(i)] += d * x_hat.data[i];
                db.data[channel(i)] += d;
            }
            // dx = scale * (g - mean(g) - x_hat * mean(g * x_hat)), g = weight * dy; no means of a constant.
            let g = |i: usize| wv.data[channel(i)] * dy.data[i];
            let (mean_g, mean_gx) = match constant {
                true => (vec![0.0; groups], vec![0.0; groups]),
                false => (mean_of(&g), mean_of(&|i| g(i) * x_hat.data[i])),
            };
            let dx = |i| scale[group(i)] * (g(i) - mean_g[group(i)] - x_hat.data[i] * mean_gx[group(i)]);
            vec![(x, Tensor::from_fn(&x_hat.shape, dx)), (w, dw), (b, db)]
        };
        (self.push(y, Some(Box::new(backward))), found)
    }

    /// max(x, 0); the gradient at 0 is 0.
    pub fn relu(&mut self, x: Var) -> Var {
        let xv = self.value(x);
        let y = Tensor::from_fn(&xv.shape, |i| xv.data[i].max(0.0));
        let backward = move |tape: &Tape, dy: &Tensor| {
            let xv = tape.value(x);
            vec![(x, Tensor::from_fn(&xv.shape, |i| if xv.data[i] > 0.0 { dy.data[i] } else { 0.0 }))]
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

    /// The same values in another shape.
    pub fn reshape(&mut self, x: Var, shape: &[usize]) -> Var {
        let y = Tensor::new(shape, self.value(x).data.clone());
        let backward =
            move |tape: &Tape, dy: &Tensor| vec![(x, Tensor::new(&tape.value(x).shape, dy.data.clone()))];
        self.push(y, Some(Box::new(backward)))
    }

    pub fn add(&mut self, a: Var, b: Var) -> Var {
        let (av, bv) = (self.value(a), self.value(b));
        assert_eq!(av.shape, bv.shape, "terms of a sum");
        let y = Tensor::from_fn(&av.shape, |i| av.data[i] + bv.data[i]);
        self.push(y, Some(Box::new(move |_, dy| vec![(a, dy.clone()), (b, dy.clone())])))
    }

    pub fn scale(&mut self, x: Var, factor: f64) -> Var {
        let times = move |t: &Tensor| Tensor::from_fn(&t.shape, |i| factor * t.data[i]);
        let y = times(self.value(x));
        self.push(y, Some(Box::new(move |_, dy| vec![(x, times(dy))])))
    }

    /// x (N, C), w (K, C), bias (K) -> (N, K).
    pub fn linear(&mut self, x: Var, w: Var, bias: Option<Var>) -> Var {
        let ([n, c], [k, wc]) = (self.value(x).dims(), self.value(w).dims());
        assert_eq!(c, wc, "features of input and weight");
        let (xv, wv) = (self.value(x), self.value(w));
        let y = Tensor::from_fn(&[n, k], |i| {
            let (ni, ki) = (i / k, i % k);
            let product: f64 = (0..c).map(|ci| xv.data[ni * c + ci] * wv.data[ki * c + ci]).sum();
            product + bias.map_or(0.0, |b| self.value(b).data[ki])
        });
        let backward = move |tape: &Tape, dy: &Tensor| {
            let (xv, wv) = (tape.value(x), tape.value(w));
            let (mut dx, mut dw, mut db) =
                (Tensor::zeros(&[n, c]), Tensor::zeros(&[k, c]), Tensor::zeros(&[k]));
            for (ni, ki) in pairs(n, k) {
                let d = dy.data[ni * k + ki];
                db.data[ki] += d;
                for ci in 0..c {
                    dx.data[ni * c + ci] += d * wv.data[ki * c + ci];
                    dw.data[ki * c + ci] += d * xv.data[ni * c + ci];
                }
            }
            let mut gradients = vec![(x, dx), (w, dw)];
            gradients.extend(bias.map(|b| (b, db)));
            gradients
        };
        self.push(y, Some(Box::new(backward)))
    }

    /// Logits (N, K) -> the loss summed over the batch (1), and how many samples have their label's logit
    /// largest (the first of equal ones). The target is (1 - smoothing) at the label plus smoothing / K everywhere.
    pub fn cross_entropy(&mut self, logits: Var, labels: &[usize], smoothing: f64) -> (Var, usize) {
        let [n, k] = self.value(logits).dims();
        assert_eq!(n, labels.len(), "one label a sample");
        let target = {
            let labels = labels.to_vec();
            move |i: usize| smoothing / k as f64 + if labels[i / k] == i % k { 1.0 - smoothing } else { 0.0 }
        };
        let (mut loss, mut correct, mut softmax) = (0.0, 0, Tensor::zeros(&[n, k]));
        for (ni, row) in self.value(logits).data.chunks(k).enumerate() {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = largest + row.iter().map(|z| (z - largest).exp()).sum::<f64>().ln();
            for (ki, z) in row.iter().enumerate() {
                softmax.data[ni * k + ki] = (z - log_sum).exp();
                loss += target(ni * k + ki) * (log_sum - z);
            }
            correct += usize::from(row.iter().position(|&z| z == largest) == Some(labels[ni]));
        }
        let backward = move |_: &Tape, dy: &Tensor| {
            vec![(logits, Tensor::from_fn(&[n, k], |i| dy.data[0] * (softmax.data[i] - target(i))))]
        };
        (self.push(Tensor::new(&[1], vec![loss]), Some(Box::new(backward))), correct)
    }
}

/// The index in 0..n of padded position `at`, unless it lies in the padding.
fn inside(at: usize, pad: usize, n: usize) -> Option<usize> {
    at.checked_sub(pad).filter(|&i| i < n)
}

fn pairs(a: usize, b: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..a).flat_map(move |i| (0..b).map(move |j| (i, j)))
}

fn triples(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    pairs(a, b).flat_map(move |(i, j)| (0..c).map(move |k| (i, j, k)))
}

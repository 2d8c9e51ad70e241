//! The yardstick: every operation forward and backward in f64, by its formula, on a tape.
//!
//! Deliberately unlike the product: NCHW activations, KCRS filters, plain loops, no fusion, no reuse of
//! buffers. Nothing here is fast and nothing should be made so.

mod batch_norm;
mod spatial;

use std::collections::BTreeMap;

pub use batch_norm::{BatchStatistics, Statistics};

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
    /// largest (the first of equal ones). The target is (1 - smoothing) at the label plus smoothing / K
    /// everywhere.
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

fn pairs(a: usize, b: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..a).flat_map(move |i| (0..b).map(move |j| (i, j)))
}

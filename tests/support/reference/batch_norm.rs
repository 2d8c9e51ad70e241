//! Batch norm with the batch's, the running or each sample's own statistics.

use super::{Tape, Tensor, Var};

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
}

//! Scores by their definition, one sample after another, and how far a backend's may be off.

use fishmask::ops::Power;

use super::device::U;

pub const POWERS: [Power; 2] = [Power::Square, Power::Absolute];

/// Scores that samples are added to.
pub struct Scores {
    power: Power,
    pub value: Vec<f64>,
    /// What errors of the gradients make of them.
    error: Vec<f64>,
    samples: usize,
}

impl Scores {
    pub fn new(power: Power, before: &[f32]) -> Scores {
        let value: Vec<f64> = before.iter().map(|&v| f64::from(v)).collect();
        Scores { power, error: vec![0.0; value.len()], value, samples: 0 }
    }

    /// Adds a sample's gradient, whose element i the backend knows to within `off(i)`: |(g + e)^2 - g^2| is
    /// at most 2 |g| |e| + e^2.
    pub fn add(&mut self, gradient: &[f64], off: impl Fn(usize) -> f64) {
        assert_eq!(gradient.len(), self.value.len());
        self.samples += 1;
        for (i, g) in gradient.iter().enumerate() {
            let e = off(i);
            let (score, error) = match self.power {
                Power::Square => (g * g, 2.0 * g.abs() * e + e * e),
                Power::Absolute => (g.abs(), e),
            };
            self.value[i] += score;
            self.error[i] += error;
        }
    }

    /// A sum in f32 of the samples' powers and what was there before, none of them negative, is off by
    /// another (samples + 2) u of itself, a power's own rounding included; an exact one by nothing.
    #[track_caller]
    pub fn check(&self, found: &[f32], exact: bool, what: &str) {
        assert_eq!(found.len(), self.value.len(), "{what}");
        for (i, (&found, &expected)) in found.iter().zip(&self.value).enumerate() {
            let sum = (self.samples + 2) as f64 * U * (expected + self.error[i]);
            let bound = if exact { 0.0 } else { self.error[i] + sum };
            let off = (f64::from(found) - expected).abs();
            // Not `off > bound`: a NaN must fail.
            assert!(off <= bound, "{what}: score {i} is {found:e}, expected {expected:e} within {bound:e}");
        }
    }
}

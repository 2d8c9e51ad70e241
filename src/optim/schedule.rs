//! Learning-rate schedules.

/// Linear between knots (x, y), constant outside them.
#[derive(Clone, Debug, PartialEq)]
pub struct PiecewiseLinear {
    knots: Vec<(f64, f64)>,
}

impl PiecewiseLinear {
    /// From 0 at epoch 0 up to `peak` at `peak_epoch`, then down to `end` at `epochs`; a peak at either end
    /// leaves out the slope on that side.
    pub fn triangle((peak_epoch, peak): (f64, f64), (epochs, end): (f64, f64)) -> Self {
        let mut knots = vec![(peak_epoch, peak)];
        if peak_epoch > 0.0 {
            knots.insert(0, (0.0, 0.0));
        }
        if peak_epoch < epochs {
            knots.push((epochs, end));
        }
        PiecewiseLinear { knots }
    }

    /// The value at `x`.
    pub fn at(&self, x: f64) -> f64 {
        let after = self.knots.partition_point(|knot| knot.0 <= x);
        match (after.checked_sub(1).map(|i| self.knots[i]), self.knots.get(after)) {
            (Some((x0, y0)), Some(&(x1, y1))) => y0 + (y1 - y0) * (x - x0) / (x1 - x0),
            (Some((_, y)), None) => y,
            (None, first) => first.map_or(0.0, |knot| knot.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dawn_by_hand() {
        let schedule = PiecewiseLinear::triangle((5.0, 0.4), (24.0, 0.0));
        for (x, y) in [(0.0, 0.0), (2.5, 0.2), (5.0, 0.4), (14.5, 0.2), (24.0, 0.0), (30.0, 0.0)] {
            assert!((schedule.at(x) - y).abs() < 1e-15, "{x}");
        }
    }

    #[test]
    fn a_peak_at_either_end() {
        let falling = PiecewiseLinear::triangle((0.0, 1.0), (4.0, 0.0));
        assert_eq!([0.0, 1.0, 4.0].map(|x| falling.at(x)), [1.0, 0.75, 0.0]);
        let rising = PiecewiseLinear::triangle((4.0, 1.0), (4.0, 0.0));
        assert_eq!([0.0, 1.0, 4.0].map(|x| rising.at(x)), [0.0, 0.25, 1.0]);
    }

    #[test]
    fn a_final_rate_by_hand() {
        let schedule = PiecewiseLinear::triangle((2.0, 1.0), (10.0, 0.2));
        assert_eq!([0.0, 1.0, 2.0, 6.0, 10.0, 11.0].map(|x| schedule.at(x)), [0.0, 0.5, 1.0, 0.6, 0.2, 0.2]);
    }
}

//! What a cell of a cube holds: counts and a sum that can be taken back.

use serde::{Deserialize, Serialize};

/// How arguments are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    /// Whole numbers and the digits of decimals.
    Exact,
    /// Doubles, as a pair of doubles with 106 bits: what is taken back leaves at most 2⁻¹⁰⁴ of the largest
    /// sum there was (Knuth, TAOCP 4.2.2, theorem B; Dekker 1971).
    Double,
}

/// Rows of one group in one span of time. Signed, so that one may be the correction of another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Agg {
    /// Number of rows.
    pub(crate) rows: i64,
    /// Number of things: rows whose argument is not null, each as often as it counts.
    pub(crate) n: i64,
    /// Sum of the arguments; of doubles the bits of both parts.
    sum: i128,
}

impl Agg {
    /// Of rows that have no argument, or whose arguments are not added up.
    pub(crate) fn count(rows: i64, n: i64) -> Self {
        Self { rows, n, sum: 0 }
    }

    /// Of rows with an exact sum.
    pub(crate) fn exact(rows: i64, n: i64, sum: i128) -> Self {
        Self { rows, n, sum }
    }

    /// Of rows with a sum of doubles.
    pub(crate) fn double(rows: i64, n: i64, sum: f64) -> Self {
        Self { rows, n, sum: packed(sum, 0.0) }
    }

    /// Is nothing in it?
    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0 && self.n == 0
    }

    /// The exact sum.
    pub(crate) fn exact_sum(&self) -> i128 {
        self.sum
    }

    /// The sum of doubles.
    pub(crate) fn double_sum(&self) -> f64 {
        let (high, low) = parts(self.sum);
        high + low
    }

    /// Puts `other` in.
    pub(crate) fn add(&mut self, other: &Self, arithmetic: Arithmetic) {
        self.rows += other.rows;
        self.n += other.n;
        self.sum = match arithmetic {
            // Its arguments leave room for more rows than there can be (`spec.rs`).
            Arithmetic::Exact => self.sum.wrapping_add(other.sum),
            // What is left of nothing is rounding.
            Arithmetic::Double if self.rows == 0 && self.n == 0 => 0,
            Arithmetic::Double => added(self.sum, other.sum),
        };
    }

    /// What takes this out.
    pub(crate) fn negated(&self, arithmetic: Arithmetic) -> Self {
        let sum = match arithmetic {
            Arithmetic::Exact => self.sum.wrapping_neg(),
            Arithmetic::Double => {
                let (high, low) = parts(self.sum);
                packed(-high, -low)
            }
        };
        Self { rows: -self.rows, n: -self.n, sum }
    }
}

fn packed(high: f64, low: f64) -> i128 {
    // Zero is zero whatever its sign: an empty cell equals another.
    let bits = |value: f64| if value == 0.0 { 0 } else { value.to_bits() };
    ((u128::from(bits(high)) << 64) | u128::from(bits(low))) as i128
}

fn parts(sum: i128) -> (f64, f64) {
    let bits = sum as u128;
    (f64::from_bits((bits >> 64) as u64), f64::from_bits(bits as u64))
}

/// The sum of two pairs.
fn added(left: i128, right: i128) -> i128 {
    let ((a, b), (c, d)) = (parts(left), parts(right));
    let high = a + c;
    if !high.is_finite() {
        return packed(high, 0.0);
    }
    let rest = high - a;
    let low = (a - (high - rest)) + (c - rest) + b + d;
    let sum = high + low;
    packed(sum, low - (sum - high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[f64]) -> Agg {
        let mut all = Agg::default();
        for value in values {
            all.add(&Agg::double(1, 1, *value), Arithmetic::Double);
        }
        all
    }

    #[test]
    fn doubles_that_are_taken_back_leave_nothing() {
        let mut all = sum(&[0.1, 0.2, 1e12, 0.3]);
        all.add(&Agg::double(1, 1, 1e12).negated(Arithmetic::Double), Arithmetic::Double);
        assert_eq!((all.rows, all.double_sum()), (3, 0.6));
        for value in [0.1, 0.2, 0.3] {
            let gone = Agg::double(1, 1, value).negated(Arithmetic::Double);
            all.add(&gone, Arithmetic::Double);
        }
        assert_eq!(all, Agg::default());
    }

    #[test]
    fn a_sum_that_is_too_large_is_infinite() {
        assert_eq!(sum(&[f64::MAX, f64::MAX]).double_sum(), f64::INFINITY);
    }

    #[test]
    fn exact_sums_are_exact() {
        let mut all = Agg::exact(1, 1, i128::from(i64::MAX));
        all.add(&Agg::exact(1, 1, i128::from(i64::MAX)), Arithmetic::Exact);
        all.add(&Agg::exact(1, 1, -1).negated(Arithmetic::Exact), Arithmetic::Exact);
        assert_eq!((all.rows, all.exact_sum()), (1, 2 * i128::from(i64::MAX) + 1));
    }
}

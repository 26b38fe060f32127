//! Within which bounds an estimate must lie, by the exact value.
//!
//! A quantile's error is guaranteed, so anything beyond it is a difference. A count keeps to its error in a
//! stated share of the answers only: a difference is what chance does not do.

use contracts::model::{ErrorBound, Measure};

use super::compare::Expected;

/// Standard errors beyond which a count is no longer taken for chance: less than one in a million.
const STANDARD_ERRORS: f64 = 5.0;

/// Standard errors of the stated bound, which 95 % of the answers keep to.
const STATED: f64 = 2.0;

/// Of few values some may be taken for one, which no share of them bounds.
const FEW: f64 = 2.0;

/// How computing in doubles shows, as a share.
const ROUNDING: f64 = 1e-9;

/// What an estimate of `exact` distinct values must be.
pub(super) fn count(exact: &Expected) -> Expected {
    let (Some(value), Some(ErrorBound { relative, .. })) =
        (exact.number(), Measure::ApproxCountDistinct.error())
    else {
        return Expected::Null;
    };
    // Nothing is estimated as nothing, and what is there as one at least.
    if value <= 0.0 {
        return exact.clone();
    }
    let off = relative / STATED * STANDARD_ERRORS * value + FEW;
    Expected::Near { value, low: (value - off).max(1.0), high: value + off }
}

/// What an estimate of the quantile `value` must be, which lies between the values `below` and `above` of two
/// ranks.
pub(super) fn quantile(value: f64, below: f64, above: f64) -> Expected {
    let Some(ErrorBound { relative, .. }) = Measure::ApproxQuantile(0.0).error() else {
        return Expected::Null;
    };
    // On both sides of zero they are off in opposite directions.
    let size = match below < 0.0 && above > 0.0 {
        true => below.abs().max(above.abs()),
        false => value.abs(),
    };
    let off = size * relative * (1.0 + ROUNDING);
    Expected::Near { value, low: value - off, high: value + off }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    fn whole(digits: i128) -> Expected {
        Expected::Exact { digits, scale: 0 }
    }

    #[track_caller]
    fn check(expected: &Expected, fits: &[f64], differs: &[f64]) {
        for found in fits {
            assert!(expected.is(&Value::Float(*found)), "{found} is {expected}");
        }
        for found in differs {
            assert!(!expected.is(&Value::Float(*found)), "{found} is not {expected}");
        }
    }

    #[test]
    fn counts_may_be_five_standard_errors_off() {
        check(&count(&whole(0)), &[0.0], &[1.0]);
        check(&count(&whole(1)), &[1.0, 2.0, 3.0], &[0.0, 4.0]);
        check(&count(&whole(10_000)), &[9_592.0, 10_408.0], &[9_591.0, 10_409.0]);
    }

    #[test]
    fn quantiles_keep_to_their_bound() {
        check(&quantile(0.0, 0.0, 0.0), &[0.0], &[1e-300]);
        check(&quantile(200.0, 100.0, 300.0), &[198.0, 202.0], &[197.9, 202.1]);
        check(&quantile(-200.0, -300.0, -100.0), &[-198.0, -202.0], &[-197.9, -202.1]);
        check(&quantile(0.0, -100.0, 100.0), &[-1.0, 1.0], &[-1.1, 1.1]);
    }
}

//! Exact decimal arithmetic on unscaled `i128` values.
//!
//! A result that does not fit its digits is `None`. Rounding is half away from zero, everywhere.
//! Intermediate values that do not fit an `i128` go through 256 bits, so that only the result
//! decides whether there is one.

use arrow::datatypes::i256;

/// Most digits of a decimal.
pub(super) const MAX_PRECISION: u8 = 38;

/// Digits of the largest int64.
pub(super) const INT64_DIGITS: u8 = 19;

/// 10^n for n up to 38; larger powers do not fit.
pub(super) fn pow10(n: u32) -> Option<i128> {
    10_i128.checked_pow(n)
}

/// 10^n in 256 bits, for n up to 76.
fn wide_pow10(n: u32) -> Option<i256> {
    i256::from_i128(10).checked_pow(n)
}

/// `value`, when it has at most `precision` digits.
pub(super) fn fit(value: i128, precision: u8) -> Option<i128> {
    let limit = pow10(u32::from(precision))?.unsigned_abs();
    (value.unsigned_abs() < limit).then_some(value)
}

fn narrow(value: i256) -> Option<i128> {
    value.to_i128()
}

/// `value` at another scale, rounded where digits are dropped.
pub(super) fn rescale(value: i128, from: i8, to: i8) -> Option<i128> {
    let shift = i32::from(to) - i32::from(from);
    if shift >= 0 {
        return value.checked_mul(pow10(shift.unsigned_abs())?);
    }
    match pow10(shift.unsigned_abs()) {
        Some(divisor) => Some(divide_rounded(value, divisor)),
        // Past 38 dropped digits nothing is left, not even half a unit.
        None => Some(0),
    }
}

/// `a / b` rounded half away from zero; `b` must not be zero.
fn divide_rounded(a: i128, b: i128) -> i128 {
    let (quotient, remainder) = (a / b, a % b);
    let (remainder, divisor) = (remainder.unsigned_abs(), b.unsigned_abs());
    // remainder >= divisor / 2, without doubling.
    if remainder >= divisor - remainder {
        quotient + if (a < 0) == (b < 0) { 1 } else { -1 }
    } else {
        quotient
    }
}

fn wide_divide_rounded(a: i256, b: i256) -> Option<i256> {
    let (quotient, remainder) = (a.checked_div(b)?, a.checked_rem(b)?);
    let zero = i256::from_i128(0);
    let (remainder, divisor) = (remainder.checked_abs()?, b.checked_abs()?);
    if remainder >= divisor.checked_sub(remainder)? {
        let up = (a < zero) == (b < zero);
        quotient.checked_add(i256::from_i128(if up { 1 } else { -1 }))
    } else {
        Some(quotient)
    }
}

/// The factors that bring two values to the larger of their scales.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alignment {
    left: i128,
    right: i128,
}

impl Alignment {
    /// `None` never happens for scales of 0 to 38.
    pub(super) fn of(left: i8, right: i8) -> Option<Self> {
        let scale = left.max(right);
        Some(Self {
            left: pow10(u32::from(left.abs_diff(scale)))?,
            right: pow10(u32::from(right.abs_diff(scale)))?,
        })
    }

    fn wide(self, a: i128, b: i128) -> (i256, i256) {
        let wide = |value, factor| i256::from_i128(value).wrapping_mul(i256::from_i128(factor));
        // Two values below 2^127 cannot overflow 256 bits.
        (wide(a, self.left), wide(b, self.right))
    }

    fn plain(self, a: i128, b: i128) -> Option<(i128, i128)> {
        Some((a.checked_mul(self.left)?, b.checked_mul(self.right)?))
    }

    pub(super) fn add(self, a: i128, b: i128) -> Option<i128> {
        match self.plain(a, b) {
            Some((a, b)) => a.checked_add(b),
            None => {
                let (a, b) = self.wide(a, b);
                narrow(a.checked_add(b)?)
            }
        }
    }

    pub(super) fn remainder(self, a: i128, b: i128) -> Option<i128> {
        match self.plain(a, b) {
            Some((a, b)) => (b != 0).then(|| a.wrapping_rem(b)),
            None => {
                let (a, b) = self.wide(a, b);
                narrow(a.checked_rem(b)?)
            }
        }
    }

    pub(super) fn compare(self, a: i128, b: i128) -> std::cmp::Ordering {
        match self.plain(a, b) {
            Some((a, b)) => a.cmp(&b),
            None => {
                let (a, b) = self.wide(a, b);
                a.cmp(&b)
            }
        }
    }
}

/// `a * 10^shift / b`, rounded.
pub(super) fn divide(a: i128, b: i128, shift: u32) -> Option<i128> {
    if b == 0 {
        return None;
    }
    if let Some(numerator) = pow10(shift).and_then(|factor| a.checked_mul(factor)) {
        return Some(divide_rounded(numerator, b));
    }
    let numerator = i256::from_i128(a).checked_mul(wide_pow10(shift)?)?;
    narrow(wide_divide_rounded(numerator, i256::from_i128(b))?)
}

/// Plain digits with `scale` of them after the point.
pub(super) fn to_text(value: i128, scale: i8) -> String {
    let scale = scale.max(0) as usize;
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// Reads `[+-]digits[.digits]` exactly, rounded to `scale`. Anything else is `None`.
pub(super) fn from_text(text: &str, scale: i8) -> Option<i128> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    if whole.is_empty() || fraction.is_empty() {
        return None;
    }
    from_digits(negative, whole, fraction, 0, scale)
}

/// The shortest decimal that reads back as the same double, rounded to `scale`.
///
/// Going through the shortest digits makes a double behave as the number a person wrote: 1.005
/// rounds to 1.01 although its binary value lies just below.
pub(super) fn from_f64(value: f64, scale: i8) -> Option<i128> {
    if !value.is_finite() {
        return None;
    }
    let text = format!("{:e}", value.abs());
    let (mantissa, exponent) = text.split_once('e')?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    from_digits(value < 0.0, whole, fraction, exponent.parse().ok()?, scale)
}

/// `whole.fraction * 10^exponent` as an unscaled value of `scale`, rounded.
fn from_digits(
    negative: bool,
    whole: &str,
    fraction: &str,
    exponent: i32,
    scale: i8,
) -> Option<i128> {
    // How many of the digits, read in a row, stand before the cut.
    let keep = i32::try_from(whole.len()).ok()? + exponent + i32::from(scale);
    let mut value = 0_i128;
    let mut rounded_up = false;
    let mut read = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = i128::from(byte.checked_sub(b'0').filter(|digit| *digit <= 9)?);
        if read < keep {
            value = value.checked_mul(10)?.checked_add(digit)?;
        } else if read == keep {
            rounded_up = digit >= 5;
        }
        read += 1;
    }
    if keep > read {
        value = match pow10((keep - read).unsigned_abs()) {
            Some(factor) => value.checked_mul(factor)?,
            None if value == 0 => 0,
            None => return None,
        };
    }
    let value = value.checked_add(i128::from(rounded_up))?;
    Some(if negative { -value } else { value })
}

/// The double nearest to a decimal.
pub(super) fn to_f64(value: i128, scale: i8) -> Option<f64> {
    // Both parts are exact below 2^53 and 10^22, so their quotient is the nearest double.
    if value.unsigned_abs() < (1 << 53) && scale <= 22 {
        return Some(value as f64 / 10_f64.powi(i32::from(scale)));
    }
    to_text(value, scale).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_half_away_from_zero() {
        for (value, from, to, expected) in [
            (25, 1, 0, 3),
            (-25, 1, 0, -3),
            (24, 1, 0, 2),
            (-24, 1, 0, -2),
            (1005, 3, 2, 101),
            (7, 0, 3, 7000),
            (i128::MAX, 38, 0, 2),
        ] {
            assert_eq!(rescale(value, from, to), Some(expected), "{value}");
        }
        assert_eq!(rescale(i128::MAX, 0, 1), None);
    }

    #[test]
    fn division_goes_through_256_bits_when_it_must() {
        let large = 10_i128.pow(37);
        assert_eq!(divide(large, large, 6), Some(1_000_000));
        assert_eq!(divide(1, 3, 6), Some(333_333));
        assert_eq!(divide(-2, 3, 6), Some(-666_667));
        assert_eq!(divide(1, 0, 6), None);
        assert_eq!(divide(large, 1, 6), None);
    }

    #[test]
    fn text_and_decimal_agree() {
        for (text, scale, expected) in [
            ("12345678901234567.89", 2, Some(1_234_567_890_123_456_789)),
            ("1.005", 2, Some(101)),
            ("-1.005", 2, Some(-101)),
            ("+7", 2, Some(700)),
            ("0.004", 2, Some(0)),
            ("", 2, None),
            ("-", 2, None),
            ("1.", 2, None),
            (".5", 2, None),
            (" 7", 2, None),
            ("1e3", 2, None),
            ("١", 2, None),
        ] {
            assert_eq!(from_text(text, scale), expected, "{text}");
        }
        assert_eq!(to_text(-5, 2), "-0.05");
        assert_eq!(to_text(0, 0), "0");
        assert_eq!(to_text(12_345, 2), "123.45");
    }

    #[test]
    fn doubles_are_read_by_their_shortest_digits() {
        for (value, scale, expected) in [
            (1.005, 2, Some(101)),
            (-2.5, 0, Some(-3)),
            (1e20, 0, Some(10_i128.pow(20))),
            (1e-20, 2, Some(0)),
            (1e300, 0, None),
            (5e-324, 38, Some(0)),
            (0.0, 38, Some(0)),
            (f64::NAN, 0, None),
            (f64::INFINITY, 0, None),
        ] {
            assert_eq!(from_f64(value, scale), expected, "{value}");
        }
        assert_eq!(to_f64(11, 1), Some(1.1));
        assert_eq!(to_f64(i128::MAX, 38), Some(1.701_411_834_604_692_3));
    }
}

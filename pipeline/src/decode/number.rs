//! Numbers from their text, exactly.
//!
//! [`unscaled`] reads a JSON number as an integer count of `10^-scale`, without a detour through
//! `f64`: `1.10` at scale 2 is 110, so is `11e-1`. Decimals, integers and epoch times all go
//! through it; JSON has one kind of number, so `3.0` is the integer 3.

/// Why a number does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// It has digits that are not zero below the scale.
    Fraction,
    /// It is larger than 128 bits can hold.
    Overflow,
}

/// What happens to digits below the scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Below {
    /// Only zeros are allowed there.
    Refuse,
    /// They are cut, towards the past: −0.5 becomes −1.
    Cut,
}

/// The number as a count of `10^-scale`. `text` must have the form of a JSON number.
pub(super) fn unscaled(text: &str, scale: i32, below: Below) -> Result<i128, Misfit> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        None => (digits, 0),
        Some(at) => (&digits[..at], exponent(&digits[at + 1..])),
    };
    let point = mantissa.find('.').unwrap_or(mantissa.len());
    // Digits that count: those before the point, and then `scale + exponent` more.
    let mut wanted = point as i64 + i64::from(scale) + exponent;
    let mut value = 0_i128;
    let mut cut = false;
    for digit in mantissa.bytes().filter(u8::is_ascii_digit) {
        let digit = i128::from(digit - b'0');
        if wanted > 0 {
            value = push(value, digit)?;
            wanted -= 1;
        } else if digit != 0 {
            cut = true;
        }
    }
    if value != 0 {
        for _ in 0..wanted {
            value = push(value, 0)?;
        }
    }
    if cut && below == Below::Refuse {
        return Err(Misfit::Fraction);
    }
    Ok(match (negative, cut) {
        (false, _) => value,
        (true, false) => -value,
        (true, true) => -value - 1,
    })
}

/// The number as a count of `10^-scale`, if it is exactly one. `text` must have the form of a JSON
/// number.
pub(crate) fn exactly(text: &str, scale: i32) -> Option<i128> {
    unscaled(text, scale, Below::Refuse).ok()
}

/// The nearest counts of `10^-scale` at or below and at or above a decimal text, so that a bound
/// between two values of a type (`above: 0.5` on an integer) still divides them exactly.
pub(crate) fn around(text: &str, scale: i32) -> (i128, i128) {
    match (unscaled(text, scale, Below::Cut), unscaled(text, scale, Below::Refuse)) {
        (Ok(floor), Ok(_)) => (floor, floor),
        (Ok(floor), Err(_)) => (floor, floor.saturating_add(1)),
        // Further out than any value can be.
        (Err(_), _) if text.starts_with('-') => (i128::MIN, i128::MIN),
        (Err(_), _) => (i128::MAX, i128::MAX),
    }
}

#[inline]
fn push(value: i128, digit: i128) -> Result<i128, Misfit> {
    // The common case in one compare: up to 36 digits cannot overflow.
    if value < 10_i128.pow(36) {
        return Ok(value * 10 + digit);
    }
    value.checked_mul(10).and_then(|value| value.checked_add(digit)).ok_or(Misfit::Overflow)
}

/// The exponent, bounded: past ±10⁹ every number but zero is out of reach either way.
fn exponent(text: &str) -> i64 {
    const FAR: i64 = 1_000_000_000;
    let (negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let size =
        digits.iter().fold(0_i64, |size, digit| (size * 10 + i64::from(digit - b'0')).min(FAR));
    if negative { -size } else { size }
}

/// Does the text have the form of a JSON number? For digit texts, which no scanner has seen.
pub(super) fn is_number(text: &str) -> bool {
    fn digits(text: &[u8]) -> usize {
        text.iter().take_while(|byte| byte.is_ascii_digit()).count()
    }
    let mut rest = text.strip_prefix('-').unwrap_or(text).as_bytes();
    let whole = digits(rest);
    if whole == 0 {
        return false;
    }
    rest = &rest[whole..];
    if let [b'.', fraction @ ..] = rest {
        let len = digits(fraction);
        if len == 0 {
            return false;
        }
        rest = &fraction[len..];
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, scale: i32, want: Result<i128, Misfit>) {
        assert_eq!(unscaled(text, scale, Below::Refuse), want, "{text} at scale {scale}");
    }

    #[test]
    fn digits_survive_exactly() {
        check("0", 0, Ok(0));
        check("-0", 2, Ok(0));
        check("-0.0", 0, Ok(0));
        check("1.10", 2, Ok(110));
        check("-1.1", 2, Ok(-110));
        check("12345678901234567.89", 2, Ok(1_234_567_890_123_456_789));
        check("99999999999999999999999999999999999999", 0, Ok(10_i128.pow(38) - 1));
        check("0.00000000000000000000000000000000000001", 38, Ok(1));
    }

    #[test]
    fn exponents_move_the_point() {
        check("11e-1", 2, Ok(110));
        check("1.5E3", 0, Ok(1_500));
        check("1500e-2", 0, Ok(15));
        check("0.000001e+6", 0, Ok(1));
        check("0e999999999999999999999", 2, Ok(0));
        check("0.0e-999999999999999999999", 2, Ok(0));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        check("1.005", 2, Err(Misfit::Fraction));
        check("1.100", 2, Ok(110));
        check("1e-3", 2, Err(Misfit::Fraction));
        check("1e-999999999999999999999", 2, Err(Misfit::Fraction));
        check("1e39", 0, Err(Misfit::Overflow));
        check("1e999999999999999999999", 0, Err(Misfit::Overflow));
        check("999999999999999999999999999999999999999999", 0, Err(Misfit::Overflow));
    }

    #[test]
    fn cutting_goes_towards_the_past() {
        for (text, want) in [("1.999", 1), ("-1.001", -2), ("-1.000", -1), ("-0.5", -1)] {
            assert_eq!(unscaled(text, 0, Below::Cut), Ok(want), "{text}");
        }
        assert_eq!(unscaled("1769853600123456789", -3, Below::Cut), Ok(1_769_853_600_123_456));
        assert_eq!(unscaled("-1", -3, Below::Cut), Ok(-1));
    }

    #[test]
    fn digit_texts() {
        for text in ["0", "12", "-12.5", "007"] {
            assert!(is_number(text), "{text}");
        }
        for text in ["", "-", ".5", "5.", "1e3", "+1", " 1", "١"] {
            assert!(!is_number(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_integer_comes_back(value in any::<i64>(), scale in 0..5_i32) {
            let text = value.to_string();
            prop_assert_eq!(
                unscaled(&text, scale, Below::Refuse),
                Ok(i128::from(value) * 10_i128.pow(scale as u32))
            );
        }

        #[test]
        fn form_agrees_with_serde(text in "-?[0-9.eE+]{1,12}") {
            if is_number(&text) && !text.trim_start_matches('-').starts_with('0') {
                prop_assert!(serde_json::from_str::<f64>(&text).is_ok());
            }
        }
    }
}

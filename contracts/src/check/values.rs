//! Small texts inside contracts: durations, windows, numbers, names.

use regex::Regex;
use std::sync::LazyLock;

use chrono_tz::Tz;

use crate::diagnostic::{Report, closest};
use crate::model::{Period, Window};
use crate::raw::decode::{Text, shorten};

/// Microseconds in each unit of a duration.
const UNITS: &[(&str, i64)] = &[
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60 * 1_000_000),
    ("h", 3_600 * 1_000_000),
    ("d", 86_400 * 1_000_000),
    ("w", 7 * 86_400 * 1_000_000),
];

/// `5m` in microseconds; not more than 100 years.
pub fn parse_duration(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let count: i64 = text[..digits].parse().ok()?;
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == &text[digits..])?;
    let length = count.checked_mul(*unit)?;
    (length <= 36_525 * 86_400 * 1_000_000).then_some(length)
}

/// A duration; zero only where it makes sense.
pub(crate) fn duration(text: &Text, zero: bool, report: &mut Report) -> Option<i64> {
    let parsed = parse_duration(&text.value).filter(|length| zero || *length > 0);
    if parsed.is_none() {
        report.error(
            text.at,
            format!("`{}` is not a duration", shorten(&text.value)),
            "write a whole number and a unit: 250ms, 30s, 5m, 1h, 7d or 4w",
        );
    }
    parsed
}

/// Other words for something, as people say them.
pub(crate) fn phrases(texts: Option<&[Text]>, report: &mut Report) -> Vec<String> {
    let mut phrases = Vec::new();
    for text in texts.unwrap_or_default() {
        let is_phrase = !text.value.trim().is_empty()
            && text.value.chars().count() <= 60
            && text.value.chars().all(|c| c.is_alphanumeric() || " -_'".contains(c));
        if !is_phrase {
            report.error(
                text.at,
                format!("`{}` is no word or phrase", shorten(&text.value)),
                "write letters, digits and spaces, 60 at most",
            );
        }
        phrases.push(text.value.trim().to_owned());
    }
    phrases
}

/// Bytes in each unit of a size.
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// `128MiB` in bytes; not more than 1 TiB.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let count: u64 = text[..digits].parse().ok()?;
    let (_, unit) = SIZES.iter().find(|(name, _)| *name == &text[digits..])?;
    count.checked_mul(*unit).filter(|bytes| *bytes <= 1 << 40)
}

/// A size in bytes.
pub(crate) fn size(text: &Text, report: &mut Report) -> Option<u64> {
    let parsed = parse_size(&text.value);
    if parsed.is_none() {
        report.error(
            text.at,
            format!("`{}` is not a size", shorten(&text.value)),
            "write a whole number and a unit, at most 1024GiB: 64MB, 128MiB or 1GiB",
        );
    }
    parsed
}

/// Shortest trailing window, µs: windows are whole seconds.
const SECOND: i64 = 1_000_000;

/// `5m`, `day`, `all` or `now`; `zone` is where days begin.
pub(crate) fn window(text: &Text, zone: Option<Tz>, report: &mut Report) -> Option<Window> {
    let calendar: Option<fn(Tz) -> Period> = match text.value.as_str() {
        "now" => return Some(Window::now()),
        "all" => return Some(Window::to_date(Period::All)),
        "day" => Some(Period::Day),
        "week" => Some(Period::Week),
        "month" => Some(Period::Month),
        _ => None,
    };
    if let Some(period) = calendar {
        // Without a zone, the metric says what is wrong.
        return Some(Window::to_date(period(zone.unwrap_or(Tz::UTC))));
    }
    match parse_duration(&text.value) {
        Some(length) if length > 0 && length % SECOND == 0 => {
            Some(Window::trailing(text.value.clone(), length))
        }
        Some(length) if length > 0 => {
            report.error(
                text.at,
                format!("the window `{}` is no whole number of seconds", text.value),
                "write a window of 1s or more: nothing finer is kept apart",
            );
            None
        }
        _ => {
            report.error(
                text.at,
                format!("`{}` is not a window", shorten(&text.value)),
                "write a whole number and a unit (30s, 5m, 1h, 7d), `day`, `week` or `month` to \
                 date, `all`, or `now`",
            );
            None
        }
    }
}

/// Is it a window that begins where a calendar says?
pub(crate) fn is_calendar_window(text: &str) -> bool {
    matches!(text, "day" | "week" | "month")
}

/// `Europe/Moscow`.
pub(crate) fn zone(text: &Text, report: &mut Report) -> Option<Tz> {
    let found = text.value.parse::<Tz>().ok();
    if found.is_none() {
        report.error(
            text.at,
            format!("there is no zone `{}`", shorten(&text.value)),
            nearest_zone(&text.value),
        );
    }
    found
}

/// People write the city alone, other letters or blanks; only then is it a slip of the pen.
fn nearest_zone(text: &str) -> String {
    let plain = |name: &str| name.to_lowercase().replace([' ', '-'], "_");
    let wanted = plain(text);
    let same = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()).find(|name| {
        let name = plain(name);
        name == wanted || name.rsplit('/').next().is_some_and(|city| city == wanted)
    });
    if let Some(name) = same {
        return format!("did you mean `{name}`?");
    }
    match closest(text, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())) {
        Some(name) => format!("did you mean `{name}`?"),
        None => {
            "write a name of the IANA time zone database, such as `Europe/Moscow`, or `UTC`".into()
        }
    }
}

/// A decimal number as digits and scale: `-1.50` is (-150, 2).
pub(crate) fn parse_decimal(text: &str) -> Option<(i128, u32)> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(i) => (&text[..i], text[i + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, unsigned) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 76 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut value: i128 = digits.parse().ok()?;
    let mut scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    while scale < 0 {
        value = value.checked_mul(10)?;
        scale += 1;
    }
    if scale > 76 {
        return None;
    }
    Some((if negative { -value } else { value }, scale.cast_unsigned()))
}

/// Compares two decimal numbers without rounding.
pub(crate) fn compare(a: (i128, u32), b: (i128, u32)) -> std::cmp::Ordering {
    let lift =
        |(value, scale): (i128, u32), to: u32| value.checked_mul(10_i128.checked_pow(to - scale)?);
    let to = a.1.max(b.1);
    match (lift(a, to), lift(b, to)) {
        (Some(x), Some(y)) => x.cmp(&y),
        // One of them is too long to be lifted: the double is far more than exact enough there.
        _ => {
            let double = |(value, scale): (i128, u32)| value as f64 / 10_f64.powi(scale as i32);
            double(a).total_cmp(&double(b))
        }
    }
}

/// Names that the product itself adds to every scope over events.
pub(crate) const EVENT_ALIASES: [&str; 4] = ["event_type", "event_id", "event_time", "tenant"];

static COLUMN_NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^[A-Za-z][A-Za-z0-9_]{0,62}$").expect("a valid pattern"));
static COMPUTED_NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^x_[0-9a-f]{12}$").expect("a valid pattern"));
static CONTRACT_NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$").expect("a valid pattern")
});

/// Can it be the name of a field?
pub(crate) fn is_column_name(name: &str) -> bool {
    COLUMN_NAME.is_match(name)
        && !name.ends_with(crate::model::column::CLOSED_SUFFIX)
        && !COMPUTED_NAME.is_match(name)
}

/// Is it a name for a field, a dimension or an added column?
pub(crate) fn column_name(text: &Text, what: &str, report: &mut Report) -> Option<String> {
    let name = text.value.as_str();
    if !COLUMN_NAME.is_match(name) {
        report.error(
            text.at,
            format!("`{}` cannot be the name of {what}", shorten(name)),
            "names have letters, digits and underscores, start with a letter, and end by 63 characters",
        );
        return None;
    }
    if name.ends_with(crate::model::column::CLOSED_SUFFIX) || COMPUTED_NAME.is_match(name) {
        report.error(
            text.at,
            format!("the name `{name}` is kept for columns that the product adds"),
            "choose another name",
        );
        return None;
    }
    Some(name.to_owned())
}

/// Is it a name for a contract?
pub(crate) fn is_contract_name(name: &str, dots: bool) -> bool {
    CONTRACT_NAME.is_match(name) && name.len() <= 63 && (dots || !name.contains('.'))
}

/// A name for a contract; only event contracts may have dots.
pub(crate) fn contract_name(
    text: &Text,
    what: &str,
    dots: bool,
    report: &mut Report,
) -> Option<String> {
    if is_contract_name(&text.value, dots) {
        return Some(text.value.clone());
    }
    let dots = if dots { ", with dots between the words" } else { "" };
    report.error(
        text.at,
        format!("`{}` cannot be the name of {what}", shorten(&text.value)),
        format!(
            "names have small letters, digits and underscores, start with a letter, and end by 63 \
             characters{dots}"
        ),
    );
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    #[test]
    fn durations_are_whole_numbers_with_a_unit() {
        for (text, expected) in [
            ("250ms", Some(250_000)),
            ("30s", Some(30_000_000)),
            ("7d", Some(604_800_000_000)),
            ("1.5h", None),
            ("5", None),
            ("m", None),
            ("-5m", None),
            ("5 m", None),
            ("99999999999999999999d", None),
            ("9999999999d", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes_are_whole_numbers_with_a_unit() {
        for (text, expected) in [
            ("128MiB", Some(134_217_728)),
            ("64MB", Some(64_000_000)),
            ("1GiB", Some(1_073_741_824)),
            ("512KiB", Some(524_288)),
            ("1kB", Some(1_000)),
            ("7B", Some(7)),
            ("1024GiB", Some(1_099_511_627_776)),
            ("1025GiB", None),
            ("128", None),
            ("MiB", None),
            ("128 MiB", None),
            ("128mib", None),
            ("1.5GiB", None),
            ("-1MiB", None),
            ("99999999999999999999MiB", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }

    #[test]
    fn decimals_keep_their_digits() {
        for (text, expected) in [
            ("1.50", Some((150, 2))),
            ("-0.01", Some((-1, 2))),
            ("1e3", Some((1000, 0))),
            ("2.5e-1", Some((25, 2))),
            ("12345678901234567.89", Some((1_234_567_890_123_456_789, 2))),
            ("", None),
            (".", None),
            ("1,5", None),
            ("1e999", None),
            ("nan", None),
        ] {
            assert_eq!(parse_decimal(text), expected, "{text}");
        }
        assert_eq!(compare((150, 2), (15, 1)), Ordering::Equal);
        assert_eq!(compare((i128::MAX, 0), (1, 70)), Ordering::Greater);
    }
}

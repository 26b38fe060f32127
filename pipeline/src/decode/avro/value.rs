//! Values that JSON has no type of its own for, as its texts and numbers, appended to bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::reader::{Broken, Reader};
use crate::decode::json;

/// Longest decimal. No number of people has 2,400 digits; the time that it takes to write one grows
/// with the square of its length.
pub(super) const LONGEST_DECIMAL: usize = 1_024;
/// Most zeros that are written behind a point; smaller numbers have an exponent.
const MOST_SCALE: i64 = 64;

/// A text in quotes. Whether it is UTF-8 is for the caller to find out.
pub(super) fn text(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = bytes;
    loop {
        let plain = json::plain_len(rest);
        out.extend_from_slice(&rest[..plain]);
        let Some(byte) = rest.get(plain) else { break };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&hex(*other));
            }
        }
        rest = &rest[plain + 1..];
    }
    out.push(b'"');
}

fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// The digits of a whole number.
pub(super) fn whole(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// `value · 10^-scale`.
pub(super) fn scaled(value: i128, scale: u32, out: &mut Vec<u8>) {
    let digits = value.unsigned_abs().to_string();
    with_point(value < 0, digits.as_bytes(), i64::from(scale), out);
}

fn with_point(negative: bool, digits: &[u8], scale: i64, out: &mut Vec<u8>) {
    if negative {
        out.push(b'-');
    }
    if scale == 0 {
        out.extend_from_slice(digits);
        return;
    }
    if !(0..=MOST_SCALE).contains(&scale) {
        out.extend_from_slice(digits);
        out.push(b'e');
        whole(-scale, out);
        return;
    }
    let scale = scale as usize;
    let point = digits.len().saturating_sub(scale);
    match &digits[..point] {
        [] => out.push(b'0'),
        whole => out.extend_from_slice(whole),
    }
    out.push(b'.');
    out.resize(out.len() + scale.saturating_sub(digits.len()), b'0');
    out.extend_from_slice(&digits[point..]);
}

/// The number that `bytes` are in two's complement, the highest byte first, times `10^-scale`.
pub(super) fn decimal(bytes: &[u8], scale: i64, out: &mut Vec<u8>) -> Result<(), Broken> {
    let negative = match bytes {
        [] => return Err(Broken("a decimal of no bytes")),
        [first, ..] => *first >= 0x80,
    };
    // Bytes that only repeat the sign.
    let fill = if negative { 0xFF } else { 0 };
    let len = bytes.iter().position(|byte| *byte != fill).map_or(0, |at| bytes.len() - at);
    let bytes = &bytes[bytes.len() - len..];
    if len > LONGEST_DECIMAL {
        return Err(Broken("a decimal of more than 1024 bytes"));
    }
    if len < 16 {
        let start = if negative { -1_i128 } else { 0 };
        let value = bytes.iter().fold(start, |value, byte| value << 8 | i128::from(*byte));
        let digits = value.unsigned_abs().to_string();
        with_point(negative, digits.as_bytes(), scale, out);
        return Ok(());
    }
    with_point(negative, &long_digits(bytes, negative), scale, out);
    Ok(())
}

/// Digits of the magnitude of a number that has lost the bytes that only repeat its sign.
fn long_digits(bytes: &[u8], negative: bool) -> Vec<u8> {
    const CHUNK: u64 = 1_000_000_000;
    // The highest limb first.
    let mut limbs: Vec<u32> = Vec::with_capacity(bytes.len() / 4 + 2);
    // For −2^n, whose magnitude needs one bit more.
    limbs.push(0);
    let (head, whole) = bytes.split_at(bytes.len() % 4);
    let limb = |bytes: &[u8]| bytes.iter().fold(0, |limb, byte| limb << 8 | u32::from(*byte));
    let fill = if negative && !head.is_empty() { u32::MAX << (8 * head.len()) } else { 0 };
    if !head.is_empty() {
        limbs.push(fill | limb(head));
    }
    limbs.extend(whole.chunks_exact(4).map(limb));
    if negative {
        let mut carry = true;
        for limb in limbs[1..].iter_mut().rev() {
            (*limb, carry) = (!*limb).overflowing_add(u32::from(carry));
        }
        limbs[0] = u32::from(carry);
    }
    let mut chunks = Vec::new();
    let mut first = 0;
    while first < limbs.len() {
        let mut rest = 0_u64;
        for limb in &mut limbs[first..] {
            let value = rest << 32 | u64::from(*limb);
            *limb = (value / CHUNK) as u32;
            rest = value % CHUNK;
        }
        chunks.push(rest);
        while limbs.get(first) == Some(&0) {
            first += 1;
        }
    }
    let mut digits = chunks.pop().unwrap_or(0).to_string();
    chunks.iter().rev().for_each(|chunk| digits.push_str(&format!("{chunk:09}")));
    digits.into_bytes()
}

/// Avro's `big-decimal`: a number of its own scale.
pub(super) fn big_decimal(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    let mut reader = Reader(bytes);
    let unscaled = reader.bytes()?;
    let scale = reader.int()?;
    if !reader.0.is_empty() {
        return Err(Broken("bytes after a big-decimal"));
    }
    decimal(unscaled, i64::from(scale), out)
}

/// Base64 in quotes.
pub(super) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]);
    out.truncate(start + written.expect("four characters for three bytes"));
    out.push(b'"');
}

/// A UUID of 16 bytes, in quotes.
pub(super) fn uuid(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&hex(*byte));
    }
    out.push(b'"');
}

/// Avro's `duration`, months, days and milliseconds, in ISO 8601 and quotes.
pub(super) fn duration(bytes: &[u8], out: &mut Vec<u8>) {
    let part = |at: usize| {
        let bytes = bytes[4 * at..4 * at + 4].iter().rev();
        bytes.fold(0_u32, |part, byte| part << 8 | u32::from(*byte))
    };
    let millis = part(2);
    let (seconds, millis) = (millis / 1_000, millis % 1_000);
    let text = format!("\"P{}M{}DT{seconds}.{millis:03}S\"", part(0), part(1));
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text")
    }

    fn decimal_text(bytes: &[u8], scale: i64) -> Result<String, Broken> {
        let mut out = Vec::new();
        decimal(bytes, scale, &mut out)?;
        Ok(String::from_utf8(out).expect("digits"))
    }

    #[test]
    fn decimals_keep_their_digits() {
        #[track_caller]
        fn check(bytes: &[u8], scale: i64, want: &str) {
            assert_eq!(decimal_text(bytes, scale).as_deref(), Ok(want), "{bytes:?}");
        }
        check(&[0], 2, "0.00");
        check(&[5], 2, "0.05");
        check(&[0xFB], 2, "-0.05");
        check(&[0x04, 0xD2], 2, "12.34");
        check(&[0, 0, 0, 0x04, 0xD2], 4, "0.1234");
        check(&[0xFF, 0xFF, 0x85], 0, "-123");
        check(&[0x80], 0, "-128");
        check(&[7], 65, "7e-65");
        check(&[7], -3, "7e3");
        let mut most = vec![0x7F];
        most.extend([0xFF; 15]);
        check(&most, 0, &i128::MAX.to_string());
        let mut least = vec![0x80];
        least.extend([0; 15]);
        check(&least, 1, "-17014118346046923173168730371588410572.8");
        let mut huge = vec![1];
        huge.extend([0; 32]);
        check(
            &huge,
            0,
            "115792089237316195423570985008687907853269984665640564039457584007913129639936",
        );
        assert_eq!(decimal_text(&[], 0), Err(Broken("a decimal of no bytes")));
        assert!(decimal_text(&[1; LONGEST_DECIMAL], 0).is_ok());
        assert!(decimal_text(&[1; LONGEST_DECIMAL + 1], 0).is_err());
        assert_eq!(decimal_text(&[0xFF; 5_000], 0).as_deref(), Ok("-1"));
    }

    #[test]
    fn big_decimals_bring_their_scale() {
        let text = |bytes: &[u8]| {
            let mut out = Vec::new();
            big_decimal(bytes, &mut out).map(|()| String::from_utf8(out).expect("digits"))
        };
        assert_eq!(text(&[4, 0x04, 0xD2, 4]).as_deref(), Ok("12.34"));
        assert_eq!(text(&[2, 7, 3]).as_deref(), Ok("7e2"));
        assert!(text(&[2, 7]).is_err());
        assert!(text(&[2, 7, 0, 0]).is_err());
    }

    #[test]
    fn bytes_uuids_and_durations() {
        assert_eq!(shown(|out| base64(b"", out)), "\"\"");
        assert_eq!(shown(|out| base64(&[255, 254, 0, 1], out)), "\"//4AAQ==\"");
        let bytes: Vec<u8> = (0..16).map(|n| n * 17).collect();
        assert_eq!(shown(|out| uuid(&bytes, out)), "\"00112233-4455-6677-8899-aabbccddeeff\"");
        let bytes = [3, 0, 0, 0, 4, 1, 0, 0, 0x8E, 0x13, 0, 0];
        assert_eq!(shown(|out| duration(&bytes, out)), "\"P3M260DT5.006S\"");
    }

    proptest! {
        #[test]
        fn texts_come_back(value in "(\\PC|[\\x00-\\x1f\"\\\\/\u{7f}]){0,40}") {
            let json = shown(|out| text(value.as_bytes(), out));
            prop_assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), value);
        }

        #[test]
        fn whole_numbers_come_back(value in any::<i64>()) {
            prop_assert_eq!(shown(|out| whole(value, out)), value.to_string());
        }

        #[test]
        fn any_bytes_are_the_number_that_they_are(
            bytes in prop::collection::vec(any::<u8>(), 1..60),
        ) {
            // By schoolbook arithmetic on digits: slow, and nothing of ours.
            let mut digits = vec![0_u8];
            for byte in &bytes {
                let mut carry = u32::from(*byte);
                for digit in digits.iter_mut().rev() {
                    let value = u32::from(*digit) * 256 + carry;
                    *digit = (value % 10) as u8;
                    carry = value / 10;
                }
                while carry > 0 {
                    digits.insert(0, (carry % 10) as u8);
                    carry /= 10;
                }
            }
            let unsigned: String = digits.iter().map(|digit| char::from(b'0' + digit)).collect();
            let unsigned = unsigned.trim_start_matches('0');
            let mut padded = vec![0];
            padded.extend(&bytes);
            let want = if unsigned.is_empty() { "0" } else { unsigned };
            prop_assert_eq!(decimal_text(&padded, 0).expect("short enough"), want);
            // −1 − n has the same bits, turned over.
            let turned: Vec<u8> = padded.iter().map(|byte| !byte).collect();
            let negative = decimal_text(&turned, 0).expect("short enough");
            let next = plus_one(want);
            prop_assert_eq!(negative, format!("-{next}"));
        }
    }

    fn plus_one(digits: &str) -> String {
        let mut digits: Vec<u8> = digits.bytes().collect();
        for at in (0..digits.len()).rev() {
            if digits[at] != b'9' {
                digits[at] += 1;
                return String::from_utf8(digits).expect("digits");
            }
            digits[at] = b'0';
        }
        format!("1{}", String::from_utf8(digits).expect("digits"))
    }
}

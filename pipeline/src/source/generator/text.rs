//! Writing events as JSON, without the detours of `format!`.

use rand::Rng;
use rand::rngs::SmallRng;

const DIGITS: &[u8; 16] = b"0123456789abcdef";
const DAY: i64 = 86_400_000;

/// One event under construction.
#[derive(Debug, Default)]
pub(super) struct Line {
    bytes: Vec<u8>,
    /// The last day that was written, and its text.
    day: Option<(i64, [u8; 10])>,
}

impl Line {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Starts an event with a fresh id.
    pub(super) fn begin(&mut self, rng: &mut SmallRng) {
        self.bytes.clear();
        self.bytes.extend_from_slice(b"{\"event_id\":\"");
        uuid(rng.random(), &mut self.bytes);
        self.bytes.push(b'"');
    }

    /// Type, time (µs) and source.
    pub(super) fn envelope(&mut self, event_type: &str, at: i64, source: &str) -> &mut Self {
        self.text("event_type", event_type);
        self.name("timestamp");
        self.bytes.push(b'"');
        self.time(at);
        self.bytes.push(b'"');
        self.text("source", source)
    }

    pub(super) fn end(&mut self) {
        self.bytes.push(b'}');
    }

    fn name(&mut self, name: &str) {
        self.raw(",\"").raw(name).raw("\":");
    }

    /// Text as it is: the caller sees to quotes and commas.
    pub(super) fn raw(&mut self, text: &str) -> &mut Self {
        self.bytes.extend_from_slice(text.as_bytes());
        self
    }

    /// A member with a text that needs no escapes.
    pub(super) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.name(name);
        self.raw("\"").raw(value).raw("\"")
    }

    /// A member with a text made of a prefix and a padded number.
    pub(super) fn code(
        &mut self,
        name: &str,
        prefix: &str,
        number: u64,
        width: usize,
    ) -> &mut Self {
        self.name(name);
        self.raw("\"").raw(prefix).padded(number, width).raw("\"")
    }

    pub(super) fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.name(name);
        self.padded(value, 1)
    }

    pub(super) fn bool(&mut self, name: &str, value: bool) -> &mut Self {
        self.name(name);
        self.raw(if value { "true" } else { "false" })
    }

    /// A member with an amount in hundredths.
    pub(super) fn money(&mut self, name: &str, hundredths: u64) -> &mut Self {
        self.name(name);
        self.amount(hundredths)
    }

    pub(super) fn amount(&mut self, hundredths: u64) -> &mut Self {
        self.padded(hundredths / 100, 1).raw(".").padded(hundredths % 100, 2)
    }

    /// A number with zeros in front up to `width` digits.
    pub(super) fn padded(&mut self, number: u64, width: usize) -> &mut Self {
        let mut digits = [b'0'; 20];
        let mut at = digits.len();
        let mut rest = number;
        while rest > 0 || digits.len() - at < width.max(1) {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.bytes.extend_from_slice(&digits[at..]);
        self
    }

    /// 16 hexadecimal digits.
    pub(super) fn hex(&mut self, value: u64) -> &mut Self {
        for shift in (0..16).rev() {
            self.bytes.push(DIGITS[(value >> (shift * 4) & 15) as usize]);
        }
        self
    }

    /// A member whose value the caller writes with [`Self::raw`] and the like.
    pub(super) fn open(&mut self, name: &str) -> &mut Self {
        self.name(name);
        self
    }

    fn time(&mut self, us: i64) {
        let ms = us.div_euclid(1_000);
        let (day, of_day) = (ms.div_euclid(DAY), ms.rem_euclid(DAY) as u64);
        let date = self.date(day);
        self.bytes.extend_from_slice(&date);
        self.raw("T").padded(of_day / 3_600_000, 2);
        self.raw(":").padded(of_day / 60_000 % 60, 2);
        self.raw(":").padded(of_day / 1_000 % 60, 2);
        self.raw(".").padded(of_day % 1_000, 3).raw("Z");
    }

    /// `2026-01-31`.
    fn date(&mut self, day: i64) -> [u8; 10] {
        match self.day {
            Some((known, text)) if known == day => text,
            _ => {
                let text = date_text(day);
                self.day = Some((day, text));
                text
            }
        }
    }
}

fn date_text(day: i64) -> [u8; 10] {
    let date = chrono::DateTime::from_timestamp(day * 86_400, 0).unwrap_or_default();
    let mut text = *b"1970-01-01";
    let written = date.format("%Y-%m-%d").to_string();
    if written.len() == text.len() {
        text.copy_from_slice(written.as_bytes());
    }
    text
}

/// `20260131` of an instant in µs, as a number.
pub(super) fn day_number(us: i64) -> u64 {
    let text = date_text(us.div_euclid(DAY * 1_000));
    let digits = text.iter().filter(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

/// A random id in the form of a UUID of version 4.
fn uuid(random: u128, into: &mut Vec<u8>) {
    let bits = random & !(0xF << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    for nibble in 0..32 {
        if matches!(nibble, 8 | 12 | 16 | 20) {
            into.push(b'-');
        }
        into.push(DIGITS[(bits >> ((31 - nibble) * 4) & 15) as usize]);
    }
}

//! Records as text: UTF-8 is checked over many records at once.

use std::ops::Range;

use super::fault::Fault;

/// The records of a batch as text.
///
/// One look at a large buffer is several times cheaper than one per record. A record that is not
/// UTF-8 ends the look; the next one starts behind it.
#[derive(Debug)]
pub(super) struct Texts<'a> {
    bytes: &'a [u8],
    /// Where `valid` begins in `bytes`.
    start: usize,
    /// The longest text from there on.
    valid: &'a str,
}

impl<'a> Texts<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, start: 0, valid: longest_text(bytes) }
    }

    /// The record that lies at `place`, or why it is no text. To be asked in order of place.
    pub(super) fn get(&mut self, place: Range<usize>) -> Result<&'a str, Box<Fault>> {
        if place.start > self.start + self.valid.len() {
            self.start = place.start;
            self.valid = longest_text(&self.bytes[place.start..]);
        }
        let text = match self.known(&place) {
            Some(text) => text,
            // Alone: looking at all the rest again for each such record would take for ever.
            None => simdutf8::compat::from_utf8(&self.bytes[place]).map_err(|error| {
                Fault::not_json(format!("not UTF-8 at byte {}", error.valid_up_to()))
            })?,
        };
        if text.starts_with('\u{FEFF}') {
            return Err(Fault::not_json("starts with a byte order mark"));
        }
        if text.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
            return Err(Fault::not_json("empty line"));
        }
        Ok(text)
    }

    /// The record, if it lies in what is known to be text. A record that ends inside a character
    /// does not.
    fn known(&self, place: &Range<usize>) -> Option<&'a str> {
        let start = place.start.checked_sub(self.start)?;
        self.valid.get(start..place.end - self.start)
    }
}

/// The longest beginning that is text.
fn longest_text(bytes: &[u8]) -> &str {
    let len = match simdutf8::compat::from_utf8(bytes) {
        Ok(text) => return text,
        Err(error) => error.valid_up_to(),
    };
    simdutf8::basic::from_utf8(&bytes[..len]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(records: &[&[u8]], want: &[&str]) {
        let bytes = records.concat();
        let mut texts = Texts::new(&bytes);
        let mut start = 0;
        for (record, want) in records.iter().zip(want) {
            let end = start + record.len();
            let got = texts.get(start..end);
            let shown = got.map_err(|fault| fault.detail(false));
            assert_eq!(shown.as_deref().unwrap_or_else(|detail| detail), *want);
            start = end;
        }
    }

    #[test]
    fn bad_records_cost_no_others() {
        check(
            &["ä".as_bytes(), b"b\xff", b"c", b"\xff\xff", b"", "é".as_bytes(), b"f"],
            &["ä", "not UTF-8 at byte 1", "c", "not UTF-8 at byte 0", "empty line", "é", "f"],
        );
    }

    #[test]
    fn a_character_over_two_records_is_none() {
        let both = "ä".as_bytes();
        check(
            &[b"a", &both[..1], &both[1..], b"b"],
            &["a", "not UTF-8 at byte 0", "not UTF-8 at byte 0", "b"],
        );
    }
}

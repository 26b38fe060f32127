//! A strict JSON scanner that gives back places, not values.
//!
//! One pass over a record checks its whole syntax (RFC 8259) and notes where each top-level member
//! lies. Values are read from their text later, by the contract's types: a decimal needs the digits
//! of its number, `_extra` needs the members as they were sent, and neither survives a parser that
//! hands out `f64`.
//!
//! What always holds: a text is accepted exactly if `serde_json` accepts it as an object (a property
//! test says so), nesting deeper than [`MAX_DEPTH`] aside; nothing here recurses; whatever a scan
//! accepted once, a second scan of the same text accepts again. Start at [`members`].

use std::borrow::Cow;

/// Deepest nesting of objects and arrays, the record itself included.
///
/// Below the 127 levels that `serde_json` reads, so that every text that is kept as JSON can be
/// parsed again by whoever reads it.
pub(super) const MAX_DEPTH: u32 = 100;

/// What kind of value a text is, told by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string; `escaped` says whether it holds a backslash.
    String {
        escaped: bool,
    },
    Number,
    Bool(bool),
    Null,
    Array,
    Object,
}

impl Kind {
    /// The kind as people say it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::String { .. } => "text",
            Self::Number => "a number",
            Self::Bool(_) => "a boolean",
            Self::Null => "null",
            Self::Array => "a list",
            Self::Object => "an object",
        }
    }
}

/// A value that was scanned but not read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'a> {
    /// Its text without the space around it; a string with its quotes.
    pub(super) text: &'a str,
    pub(super) kind: Kind,
}

impl<'a> Raw<'a> {
    /// The string without quotes, escapes resolved; `None` when it is not a string.
    #[inline]
    pub(super) fn string(&self) -> Option<Cow<'a, str>> {
        match self.kind {
            Kind::String { escaped: false } => Some(Cow::Borrowed(self.inner())),
            Kind::String { escaped: true } => Some(Cow::Owned(unescaped(self.inner()))),
            _ => None,
        }
    }

    /// The text between the quotes of a string.
    #[inline]
    pub(super) fn inner(&self) -> &'a str {
        &self.text[1..self.text.len() - 1]
    }
}

/// A member of an object.
#[derive(Debug, Clone)]
pub(super) struct Member<'a> {
    /// Its name, escapes resolved.
    pub(super) name: Cow<'a, str>,
    /// Equal names have equal tags: a cheap first look when many names are compared.
    pub(super) tag: u32,
    /// Its name as sent, with quotes.
    pub(super) name_text: &'a str,
    pub(super) value: Raw<'a>,
}

/// Where and why a text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Syntax {
    /// Byte, from 0.
    pub(super) at: usize,
    pub(super) what: &'static str,
}

/// Scans a record that must be one JSON object and nothing else; appends its members to `into`.
pub(super) fn members<'a>(record: &'a str, into: &mut Vec<Member<'a>>) -> Result<(), Syntax> {
    let mut cursor = Cursor { text: record, at: 0 };
    cursor.skip_space();
    if cursor.peek() != Some(b'{') {
        // A broken text is reported as such, a complete one of another kind by what it is.
        cursor.value(0)?;
        cursor.end()?;
        return Err(Syntax { at: 0, what: "not an object" });
    }
    let mut members = Members::open(cursor, 1);
    while let Some(member) = members.next()? {
        into.push(member);
    }
    members.cursor.end()
}

/// Is the text one value, which may stand where `depth` objects and arrays are open around it?
pub(super) fn is_value(text: &str, depth: u32) -> bool {
    let mut cursor = Cursor { text, at: 0 };
    cursor.value(depth).is_ok() && cursor.end().is_ok()
}

/// The members of an object, one by one.
pub(super) struct Members<'a> {
    cursor: Cursor<'a>,
    depth: u32,
    first: bool,
}

impl<'a> Members<'a> {
    /// Starts at the members of a scanned object.
    pub(super) fn of(object: Raw<'a>) -> Self {
        debug_assert_eq!(object.kind, Kind::Object);
        Self::open(Cursor { text: object.text, at: 0 }, 0)
    }

    fn open(mut cursor: Cursor<'a>, depth: u32) -> Self {
        cursor.at += 1;
        Self { cursor, depth, first: true }
    }

    /// The next member; `None` behind the last one.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Member<'a>>, Syntax> {
        let cursor = &mut self.cursor;
        cursor.skip_space();
        match cursor.peek() {
            Some(b'}') => {
                cursor.at += 1;
                return Ok(None);
            }
            Some(b',') if !self.first => {
                cursor.at += 1;
                cursor.skip_space();
            }
            _ if self.first => {}
            _ => return cursor.fail("expected `,` or `}`"),
        }
        self.first = false;
        let start = cursor.at;
        let escaped = cursor.name()?;
        let name_text = &cursor.text[start..cursor.at];
        let inner = &name_text[1..name_text.len() - 1];
        let name = if escaped { Cow::Owned(unescaped(inner)) } else { Cow::Borrowed(inner) };
        cursor.colon()?;
        let value = cursor.value(self.depth)?;
        let tag = tag(&name);
        Ok(Some(Member { name, tag, name_text, value }))
    }
}

/// The elements of an array, one by one.
pub(super) struct Elements<'a> {
    cursor: Cursor<'a>,
    first: bool,
}

impl<'a> Elements<'a> {
    /// Starts at the elements of a scanned array.
    pub(super) fn of(array: Raw<'a>) -> Self {
        debug_assert_eq!(array.kind, Kind::Array);
        Self { cursor: Cursor { text: array.text, at: 1 }, first: true }
    }

    /// The next element; `None` behind the last one.
    pub(super) fn next(&mut self) -> Result<Option<Raw<'a>>, Syntax> {
        let cursor = &mut self.cursor;
        cursor.skip_space();
        match cursor.peek() {
            Some(b']') => {
                cursor.at += 1;
                return Ok(None);
            }
            Some(b',') if !self.first => cursor.at += 1,
            _ if self.first => {}
            _ => return cursor.fail("expected `,` or `]`"),
        }
        self.first = false;
        cursor.value(0).map(Some)
    }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn fail<T>(&self, what: &'static str) -> Result<T, Syntax> {
        let what = if self.at >= self.text.len() { "ends too early" } else { what };
        Err(Syntax { at: self.at, what })
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Nothing but space may follow.
    fn end(&mut self) -> Result<(), Syntax> {
        self.skip_space();
        if self.at < self.text.len() {
            return self.fail("text after the end of the record");
        }
        Ok(())
    }

    /// A member's name; says whether it holds a backslash.
    #[inline]
    fn name(&mut self) -> Result<bool, Syntax> {
        if self.peek() != Some(b'"') {
            return self.fail("expected a member name in double quotes");
        }
        self.string()
    }

    #[inline]
    fn colon(&mut self) -> Result<(), Syntax> {
        self.skip_space();
        if self.peek() != Some(b':') {
            return self.fail("expected `:`");
        }
        self.at += 1;
        Ok(())
    }

    /// One value with everything in it; `depth` objects and arrays are open around it.
    #[inline]
    fn value(&mut self, depth: u32) -> Result<Raw<'a>, Syntax> {
        self.skip_space();
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{') => {
                self.container(depth)?;
                Kind::Object
            }
            Some(b'[') => {
                self.container(depth)?;
                Kind::Array
            }
            _ => self.scalar()?,
        };
        Ok(Raw { text: &self.text[start..self.at], kind })
    }

    #[inline]
    fn scalar(&mut self) -> Result<Kind, Syntax> {
        match self.peek() {
            Some(b'"') => Ok(Kind::String { escaped: self.string()? }),
            Some(b'-' | b'0'..=b'9') => self.number().map(|()| Kind::Number),
            Some(b't') => self.literal("true", Kind::Bool(true)),
            Some(b'f') => self.literal("false", Kind::Bool(false)),
            Some(b'n') => self.literal("null", Kind::Null),
            _ => self.fail("expected a value"),
        }
    }

    fn literal(&mut self, word: &'static str, kind: Kind) -> Result<Kind, Syntax> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return self.fail("expected `true`, `false` or `null`");
        }
        self.at += word.len();
        Ok(kind)
    }

    /// An object or array with everything in it, without recursion: one bit per open level says
    /// which of the two it is.
    fn container(&mut self, around: u32) -> Result<(), Syntax> {
        let limit = MAX_DEPTH - around.min(MAX_DEPTH);
        let mut depth = 0_u32;
        let mut objects = 0_u128;
        'value: loop {
            self.skip_space();
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    if depth >= limit {
                        return self.fail("nested deeper than 100 levels");
                    }
                    let object = open == b'{';
                    self.at += 1;
                    self.skip_space();
                    if self.peek() == Some(if object { b'}' } else { b']' }) {
                        self.at += 1;
                    } else {
                        depth += 1;
                        objects = objects << 1 | u128::from(object);
                        if object {
                            self.name()?;
                            self.colon()?;
                        }
                        continue 'value;
                    }
                }
                _ => {
                    self.scalar()?;
                }
            }
            while depth > 0 {
                let object = objects & 1 == 1;
                self.skip_space();
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if object {
                            self.skip_space();
                            self.name()?;
                            self.colon()?;
                        }
                        continue 'value;
                    }
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    _ if object => return self.fail("expected `,` or `}`"),
                    _ => return self.fail("expected `,` or `]`"),
                }
                self.at += 1;
                depth -= 1;
                objects >>= 1;
            }
            return Ok(());
        }
    }

    fn number(&mut self) -> Result<(), Syntax> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.fail("expected a digit"),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Ok(())
    }

    #[inline]
    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Result<(), Syntax> {
        let start = self.at;
        self.digits();
        if self.at == start {
            return self.fail("expected a digit");
        }
        Ok(())
    }

    /// A string from its opening to behind its closing quote; says whether it holds a backslash.
    #[inline]
    fn string(&mut self) -> Result<bool, Syntax> {
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        self.at += 1;
        loop {
            // Eight bytes at a time, as long as none of them ends or changes the string.
            while let Some(word) = bytes.get(self.at..self.at + 8) {
                let mut eight = [0; 8];
                eight.copy_from_slice(word);
                let special = special(u64::from_le_bytes(eight));
                if special != 0 {
                    self.at += special.trailing_zeros() as usize / 8;
                    break;
                }
                self.at += 8;
            }
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0..0x20) => return self.fail("control character in a string"),
                Some(_) => self.at += 1,
                None => return self.fail("ends too early"),
            }
        }
    }

    /// An escape from its backslash on; a surrogate must come as a pair, for alone it stands for no
    /// character.
    fn escape(&mut self) -> Result<(), Syntax> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                let unit = self.hex()?;
                match unit {
                    0xDC00..=0xDFFF => self.fail("half of a surrogate pair"),
                    0xD800..=0xDBFF => {
                        if !self.text.as_bytes()[self.at..].starts_with(b"\\u") {
                            return self.fail("half of a surrogate pair");
                        }
                        self.at += 2;
                        match self.hex()? {
                            0xDC00..=0xDFFF => Ok(()),
                            _ => self.fail("half of a surrogate pair"),
                        }
                    }
                    _ => Ok(()),
                }
            }
            _ => self.fail("unknown escape"),
        }
    }

    fn hex(&mut self) -> Result<u16, Syntax> {
        match self.text.as_bytes().get(self.at..self.at + 4).and_then(hex4) {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => self.fail("expected four hexadecimal digits"),
        }
    }
}

/// Length and three bytes of a name.
#[inline]
fn tag(name: &str) -> u32 {
    match name.as_bytes() {
        [] => 0,
        bytes => u32::from_le_bytes([
            bytes.len() as u8,
            bytes[0],
            bytes[bytes.len() / 2],
            bytes[bytes.len() - 1],
        ]),
    }
}

/// Marks (in its highest bit) each byte that is a quote, a backslash or a control character. A mark
/// above the lowest one may be wrong; the lowest is exact.
#[inline]
fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (equal(b'"') | equal(b'\\') | below(word, 0x20)) & (ONES << 7)
}

/// Length of the beginning that a JSON string can hold as it is.
#[inline]
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = bytes.get(at..at + 8) {
        let mut eight = [0; 8];
        eight.copy_from_slice(word);
        match special(u64::from_le_bytes(eight)) {
            0 => at += 8,
            special => return at + special.trailing_zeros() as usize / 8,
        }
    }
    let plain = |byte: &u8| !matches!(byte, b'"' | b'\\' | 0..0x20);
    at + bytes[at..].iter().take_while(|byte| plain(byte)).count()
}

fn hex4(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0, |unit, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | value as u16)
    })
}

fn unescaped(inner: &str) -> String {
    let mut text = String::with_capacity(inner.len());
    unescape(inner, &mut text);
    text
}

/// Appends the text between the quotes of a scanned string, escapes resolved.
pub(super) fn unescape(inner: &str, into: &mut String) {
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        into.push_str(&rest[..at]);
        let escape = &rest.as_bytes()[at + 1..];
        let (character, len) = match escape.first() {
            Some(b'u') => {
                let unit = |from: usize| escape.get(from..from + 4).and_then(hex4).unwrap_or(0);
                let (high, low) = (unit(1), unit(7));
                match char::from_u32(u32::from(high)) {
                    Some(character) => (character, 6),
                    None => {
                        let mut pair = char::decode_utf16([high, low]);
                        (pair.next().and_then(Result::ok).unwrap_or('\u{FFFD}'), 12)
                    }
                }
            }
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(b'n') => ('\n', 2),
            Some(b'r') => ('\r', 2),
            Some(b't') => ('\t', 2),
            Some(other) => (char::from(*other), 2),
            None => ('\\', 1),
        };
        into.push(character);
        rest = rest.get(at + len..).unwrap_or_default();
    }
    into.push_str(rest);
}

/// Appends a scanned text without the space between its tokens.
pub(super) fn compact(text: &str, into: &mut String) {
    let bytes = text.as_bytes();
    let is_space = |byte: u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
    let mut kept = 0;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            byte if is_space(byte) => {
                into.push_str(&text[kept..at]);
                while at < bytes.len() && is_space(bytes[at]) {
                    at += 1;
                }
                kept = at;
            }
            _ => at += 1,
        }
    }
    into.push_str(&text[kept..]);
}

//! Headers of a record, as bytes beside its payload.
//!
//! A header is a name and a value that may be absent; names may repeat, and their order is kept.
//! Encoded one after another: length of the name (u32, little endian), name, length of the value
//! (`u32::MAX`: none), value. The form lives in memory only; dead letters keep headers as JSON.

/// No value, as a length.
const NONE: u32 = u32::MAX;

/// Appends one header.
pub fn push(into: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    into.extend_from_slice(&(name.len() as u32).to_le_bytes());
    into.extend_from_slice(name.as_bytes());
    match value {
        None => into.extend_from_slice(&NONE.to_le_bytes()),
        Some(value) => {
            into.extend_from_slice(&(value.len() as u32).to_le_bytes());
            into.extend_from_slice(value);
        }
    }
}

/// Headers of one record, in their order.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a>(&'a [u8]);

impl<'a> Headers<'a> {
    /// Over what [`push`] wrote.
    pub fn new(encoded: &'a [u8]) -> Self {
        Self(encoded)
    }

    /// Is there none?
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The value of the last header of that name (as Kafka's own clients look one up). Names
    /// are compared without regard to the case of ASCII letters, since some bridges change it.
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.filter(|(known, _)| known.eq_ignore_ascii_case(name)).last()?.1
    }

    /// A JSON array with `{"name": …, "value": …}` per header; a value that is not UTF-8 stands
    /// under `value_base64`, an absent one is null.
    pub fn to_json(self) -> serde_json::Value {
        use base64::Engine as _;
        let members = self.map(|(name, value)| match value.map(std::str::from_utf8) {
            None => serde_json::json!({"name": name, "value": null}),
            Some(Ok(text)) => serde_json::json!({"name": name, "value": text}),
            Some(Err(_)) => {
                let text = base64::engine::general_purpose::STANDARD.encode(value.unwrap_or(&[]));
                serde_json::json!({"name": name, "value_base64": text})
            }
        });
        serde_json::Value::Array(members.collect())
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn length(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let len = self.length()?;
        let name = std::str::from_utf8(self.take(len as usize)?).ok()?;
        match self.length()? {
            NONE => Some((name, None)),
            len => Some((name, Some(self.take(len as usize)?))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_in_order() {
        let mut bytes = Vec::new();
        let all: [(&str, Option<&[u8]>); 5] = [
            ("a", Some(b"1")),
            ("", Some(b"")),
            ("b", None),
            ("a", Some(b"2")),
            ("c", Some(&[255])),
        ];
        all.iter().for_each(|(name, value)| push(&mut bytes, name, *value));
        assert_eq!(Headers::new(&bytes).collect::<Vec<_>>(), all);
        assert_eq!(Headers::new(&bytes).get("A"), Some(&b"2"[..]));
        assert_eq!(Headers::new(&bytes).get("b"), None);
        let json = r#"[{"name":"a","value":"1"},{"name":"","value":""},{"name":"b","value":null},{"name":"a","value":"2"},{"name":"c","value_base64":"/w=="}]"#;
        assert_eq!(Headers::new(&bytes).to_json().to_string(), json);
    }

    #[test]
    fn bytes_that_are_cut_off_end_the_list() {
        let mut bytes = Vec::new();
        push(&mut bytes, "name", Some(b"value"));
        for len in 0..bytes.len() {
            assert_eq!(Headers::new(&bytes[..len]).count(), 0);
        }
    }
}

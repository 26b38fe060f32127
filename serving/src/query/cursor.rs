//! Cursors: where the next page begins, for one statement of one tenant.
//!
//! A cursor is opaque to clients: `offset:check` in URL-safe base64. The check binds it to what it was
//! given for, so it can neither be used for another question nor by another tenant.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Bytes of the check.
const CHECK: usize = 12;

/// Longest cursor that is looked at.
const LONGEST: usize = 128;

/// A cursor to row `offset` of what `tenant` asked with `question`.
pub fn write(tenant: &str, question: &str, offset: u64) -> String {
    let mut bytes = offset.to_be_bytes().to_vec();
    bytes.extend_from_slice(&check(tenant, question, offset));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The row that a cursor leads to; `None` when it is no cursor or one of something else.
pub fn read(tenant: &str, question: &str, cursor: &str) -> Option<u64> {
    if cursor.len() > LONGEST {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor.trim_end_matches('=')).ok()?;
    let (offset, given) = bytes.split_first_chunk::<8>()?;
    let offset = u64::from_be_bytes(*offset);
    (given == check(tenant, question, offset)).then_some(offset)
}

fn check(tenant: &str, question: &str, offset: u64) -> [u8; CHECK] {
    let mut hash = Sha256::new();
    // Lengths keep the parts apart.
    for part in [tenant.as_bytes(), question.as_bytes(), &offset.to_be_bytes()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_row_and_to_nothing_else() {
        let cursor = write("acme", "select 1", 500);
        assert_eq!(read("acme", "select 1", &cursor), Some(500));
        assert_eq!(read("acme", "select 1", &format!("{cursor}==")), Some(500));
        assert_eq!(read("other", "select 1", &cursor), None);
        assert_eq!(read("acme", "select 2", &cursor), None);
        assert_eq!(read("acmes", "elect 1", &write("acme", "select 1", 500)), None);
        let mut forged = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
        forged[7] += 1;
        assert_eq!(read("acme", "select 1", &URL_SAFE_NO_PAD.encode(forged)), None);
        for wrong in ["", "x", "!!!", &"A".repeat(1000), "é"] {
            assert_eq!(read("acme", "select 1", wrong), None, "{wrong}");
        }
    }
}

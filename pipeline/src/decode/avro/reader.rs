//! Avro's binary encoding of primitive values.
//!
//! Nothing here allocates, and nothing is read twice: a length that is longer than what is left is
//! an error before anything is made of it.

use crate::decode::fault::Fault;

/// What is wrong with the bytes, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken(pub(super) &'static str);

impl From<Broken> for Box<Fault> {
    fn from(broken: Broken) -> Self {
        Fault::not_avro(broken.0)
    }
}

const SHORT: Broken = Broken("ends too early");

/// Bytes that are left to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'b>(pub(super) &'b [u8]);

impl<'b> Reader<'b> {
    /// The next `len` bytes.
    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'b [u8], Broken> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A `long`: zigzag, seven bits a byte, the lowest first.
    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, Broken> {
        if let [byte @ 0..0x80, rest @ ..] = self.0 {
            self.0 = rest;
            return Ok(unzigzag(u64::from(*byte)));
        }
        let mut value = 0_u64;
        for (at, byte) in self.0.iter().enumerate() {
            // The tenth byte holds one bit.
            if at == 9 && *byte > 1 {
                return Err(Broken("a number longer than 64 bits"));
            }
            value |= u64::from(byte & 0x7F) << (7 * at);
            if *byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Ok(unzigzag(value));
            }
        }
        Err(SHORT)
    }

    /// An `int`.
    #[inline]
    pub(super) fn int(&mut self) -> Result<i32, Broken> {
        i32::try_from(self.long()?).map_err(|_| Broken("an int of more than 32 bits"))
    }

    #[inline]
    pub(super) fn boolean(&mut self) -> Result<bool, Broken> {
        match self.take(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Broken("a boolean that is neither 0 nor 1")),
        }
    }

    #[inline]
    pub(super) fn float(&mut self) -> Result<f32, Broken> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.take(4)?);
        Ok(f32::from_le_bytes(bytes))
    }

    #[inline]
    pub(super) fn double(&mut self) -> Result<f64, Broken> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(f64::from_le_bytes(bytes))
    }

    /// Length and content of `bytes` or a `string`.
    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'b [u8], Broken> {
        let len = usize::try_from(self.long()?).map_err(|_| Broken("a negative length"))?;
        self.take(len)
    }

    /// Number of items in the next block of an array or map; 0 behind the last block.
    pub(super) fn block(&mut self) -> Result<u64, Broken> {
        let count = self.long()?;
        if count < 0 {
            // The size in bytes follows, for readers that want to skip the block.
            self.long()?;
        }
        Ok(count.unsigned_abs())
    }
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], want: Result<i64, Broken>) {
        let mut reader = Reader(bytes);
        assert_eq!(reader.long(), want, "{bytes:?}");
        if want.is_ok() {
            assert!(reader.0.is_empty(), "{bytes:?}");
        }
    }

    #[test]
    fn longs() {
        check(&[0], Ok(0));
        check(&[1], Ok(-1));
        check(&[2], Ok(1));
        check(&[0x7F], Ok(-64));
        check(&[0x80, 0x01], Ok(64));
        check(&[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], Ok(i64::MAX));
        check(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], Ok(i64::MIN));
        // A longer way to write 0 is a way to write it.
        check(&[0x80, 0x00], Ok(0));
        check(&[], Err(SHORT));
        check(&[0x80], Err(SHORT));
        let long = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02];
        check(&long, Err(Broken("a number longer than 64 bits")));
        check(&[0xFF; 11], Err(Broken("a number longer than 64 bits")));
    }

    #[test]
    fn lengths_are_believed_only_as_far_as_there_are_bytes() {
        assert_eq!(Reader(&[4, b'a', b'b']).bytes(), Ok(&b"ab"[..]));
        assert_eq!(Reader(&[4, b'a']).bytes(), Err(SHORT));
        assert_eq!(Reader(&[1]).bytes(), Err(Broken("a negative length")));
        let huge = [0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
        assert_eq!(Reader(&huge).bytes(), Err(SHORT));
        let least = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01, 0];
        assert_eq!(Reader(&least).block(), Ok(1 << 63));
    }
}

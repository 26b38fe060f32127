//! Keys as digests: what can be looked up without being the key.
//!
//! A key that is shown is put through HMAC-SHA256 (RFC 2104) under a pepper that stands in no file of
//! keys. The digest finds the entry in one step; that its timing may tell something about the digest
//! tells nothing about a key, because nobody without the pepper can choose digests. Argon2id (RFC 9106)
//! vouches for an entry the first time; it costs tens of milliseconds, a digest about a microsecond.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Bytes of a pepper and of the random part of a key.
const RANDOM_BYTES: usize = 32;

/// The digest of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// Are both the same? Takes the same time whether they are or not.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// From the form in a file of keys.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() || !text.is_ascii() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The form in a file of keys.
    pub(crate) fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

/// The secret under which keys are digested.
#[derive(Clone)]
pub struct Pepper(Hmac<Sha256>);

impl Pepper {
    /// One that lasts as long as this process.
    pub fn random() -> Self {
        Self::of(&random())
    }

    /// A given one.
    pub fn of(secret: &[u8]) -> Self {
        // HMAC takes a key of any length.
        Self(Hmac::new_from_slice(secret).unwrap_or_else(|_| unreachable!("any length will do")))
    }

    /// That of a file, which is made (for its owner only) when it is not there.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        match std::fs::read(path) {
            Ok(secret) if secret.len() >= 16 => Ok(Self::of(secret.trim_ascii_end())),
            Ok(_) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "holds fewer than 16 bytes; remove it and make new keys",
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secret = URL_SAFE_NO_PAD.encode(random());
                match write_whole(path, secret.as_bytes()) {
                    // Another process was first.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        Self::of_file(path)
                    }
                    written => written.map(|()| Self::of(secret.as_bytes())),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The digest of a key.
    pub(crate) fn digest(&self, key: &str) -> Digest {
        let mut mac = self.0.clone();
        mac.update(key.as_bytes());
        Digest(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

/// Writes a file that only its owner may read; `replace`: over one that is there.
pub(crate) fn write_private(path: &Path, bytes: &[u8], replace: bool) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).mode(0o600);
    let mut file = match replace {
        true => options.create(true).truncate(true).open(path)?,
        false => options.create_new(true).open(path)?,
    };
    file.write_all(bytes)?;
    file.sync_all()
}

/// The same, and nobody sees a part of it: written beside, then named. Fails if the name is taken.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    write_private(Path::new(&beside), bytes, true)?;
    let linked = std::fs::hard_link(&beside, path);
    let _ = std::fs::remove_file(&beside);
    linked
}

/// 256 bits that nobody can guess.
fn random() -> [u8; RANDOM_BYTES] {
    let mut bytes = [0; RANDOM_BYTES];
    // Without randomness there are no secrets: better no server than one with keys to guess.
    getrandom::fill(&mut bytes).unwrap_or_else(|error| panic!("no randomness: {error}"));
    bytes
}

/// A new secret as text: 43 characters of the URL-safe alphabet.
pub fn new_secret() -> String {
    URL_SAFE_NO_PAD.encode(random())
}

/// The Argon2id hash of a key in PHC form, with the parameters that RFC 9106 and the field recommend
/// for interactive use (19 MiB, two passes, one lane).
pub(crate) fn hash(key: &str) -> Result<String, String> {
    let salt = SaltString::encode_b64(&random()[..16]).map_err(|error| error.to_string())?;
    let hash = Argon2::default().hash_password(key.as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(|error| error.to_string())
}

/// Is that text an Argon2id hash that can be checked?
pub(crate) fn is_hash(text: &str) -> bool {
    PasswordHash::new(text).is_ok_and(|hash| hash.algorithm == argon2::ARGON2ID_IDENT)
}

/// Is `hash` that of `key`? Takes tens of milliseconds.
pub(crate) fn proves(hash: &str, key: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(key.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 2 of RFC 4231.
    #[test]
    fn the_digest_is_hmac_sha256() {
        let digest = Pepper::of(b"Jefe").digest("what do ya want for nothing?");
        let hex = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(digest.to_hex(), hex);
        assert!(Digest::from_hex(hex).unwrap().is(&digest));
        for bad in ["", "5b", &hex[1..], &hex.replace('5', "x"), &"é".repeat(32)] {
            assert!(Digest::from_hex(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_hash_proves_its_key_alone() {
        let stored = hash("a key").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(is_hash(&stored) && proves(&stored, "a key"));
        assert!(!proves(&stored, "a kez") && !proves("nonsense", "a key"));
        assert!(!is_hash("$2b$12$abcdefghijklmnopqrstuv"));
    }

    #[test]
    fn the_pepper_of_a_file_stays_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pepper");
        let first = Pepper::of_file(&path).unwrap().digest("key");
        assert!(Pepper::of_file(&path).unwrap().digest("key").is(&first));
        assert!(!Pepper::random().digest("key").is(&first));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "short").unwrap();
        assert!(Pepper::of_file(&path).is_err());
    }
}

//! Who a data directory is to the outside: an id that it keeps for its whole life.
//!
//! `identity.json` is written once, before anything is told to others under its id. A copy of the
//! directory has the same identity, and so has a copy that is put back: to the brokers it is the same
//! publisher, which is what keeps it from publishing a second time.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::data_dir::DataDir;
use super::error::OpenError;

const FILE: &str = "identity.json";

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    id: Uuid,
    created_at: String,
}

impl DataDir {
    /// The id of the directory, made at the first call of its life.
    pub fn identity(&self) -> Result<Uuid, OpenError> {
        if let Some(id) = identity_of(self.path())? {
            return Ok(id);
        }
        self.write_identity(Uuid::new_v4())
    }

    /// Gives a directory that has none yet the identity of the one whose lake it is made from.
    pub fn adopt(&self, id: Uuid) -> Result<(), OpenError> {
        self.write_identity(id).map(|_| ())
    }

    fn write_identity(&self, id: Uuid) -> Result<Uuid, OpenError> {
        let file = self.path().join(FILE);
        let not_usable = |source: io::Error| match source.kind() {
            ErrorKind::StorageFull => OpenError::DiskFull { dir: self.path().to_path_buf() },
            _ => OpenError::NotWritable { dir: self.path().to_path_buf(), source },
        };
        let identity =
            Identity { id, created_at: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true) };
        // Under another name until it is whole: half an identity would be none for ever.
        let unborn = self.path().join(format!("{FILE}.new"));
        let write = || -> io::Result<()> {
            let mut text = serde_json::to_vec(&identity).map_err(io::Error::other)?;
            text.push(b'\n');
            let mut new = File::create(&unborn)?;
            new.write_all(&text)?;
            new.sync_all()?;
            fs::rename(&unborn, &file)?;
            File::open(self.path())?.sync_all()
        };
        write().map_err(not_usable)?;
        Ok(identity.id)
    }
}

/// The id of a data directory that somebody else may hold; `None` when it has none yet.
pub fn identity_of(dir: &Path) -> Result<Option<Uuid>, OpenError> {
    let file = dir.join(FILE);
    match fs::read(&file) {
        Ok(text) => match serde_json::from_slice::<Identity>(&text) {
            Ok(identity) => Ok(Some(identity.id)),
            Err(error) => Err(OpenError::NoIdentity { file, message: error.to_string() }),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::NotWritable { dir: dir.to_path_buf(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_identity_and_another_one_has_its_own() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = DataDir::lock(one.path(), "run", None).unwrap().identity().unwrap();
        // What a process left that died while it wrote.
        fs::write(one.path().join("identity.json.new"), "{").unwrap();
        let again = DataDir::lock(one.path(), "serve", None).unwrap().identity().unwrap();
        assert_eq!(again, first);
        let second = DataDir::lock(other.path(), "run", None).unwrap().identity().unwrap();
        assert_ne!(second, first);
    }

    #[test]
    fn an_identity_that_is_none_is_not_replaced_silently() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        fs::write(&file, "{}").unwrap();
        let error = DataDir::lock(dir.path(), "run", None).unwrap().identity().unwrap_err();
        assert!(error.to_string().contains("identity.json"), "{error}");
        assert!(error.hint().is_some());
        assert_eq!(fs::read(&file).unwrap(), b"{}");
    }
}

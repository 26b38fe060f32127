//! `backup.json`: what belongs to a finished backup.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::BackupError;
use super::copy::Copied;

/// Name of the manifest.
pub const FILE: &str = "backup.json";

/// Version of the manifest and of how a folder of backups is laid out.
const FORMAT: u32 = 1;

/// A finished backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this document.
    pub format: u32,
    /// Names the backup.
    pub id: Uuid,
    /// The release that made it.
    pub version: String,
    /// When it was finished (RFC 3339, UTC).
    pub finished_at: String,
    /// It holds every event up to this journal position.
    pub position: i64,
    /// The lake in it; `null` where it was not in the data directory.
    pub lake: Option<LakePart>,
    /// All files, by their place in a data directory.
    pub files: Vec<Entry>,
}

/// The lake in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LakePart {
    /// The location that its files name each other below; `null` without tables.
    pub root: Option<String>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place in a data directory.
    pub path: String,
    /// Its place in the folder of backups.
    pub stored: String,
    /// Length.
    pub bytes: u64,
    /// XXH3 of its contents, 128 bits in hexadecimal.
    pub xxh3: String,
}

impl Entry {
    /// An entry for what was copied.
    pub fn new(path: String, stored: String, copied: Copied) -> Self {
        Self { path, stored, bytes: copied.bytes, xxh3: copied.xxh3 }
    }
}

impl Manifest {
    /// A manifest in the newest format.
    pub fn new(
        id: Uuid,
        finished_at: String,
        position: i64,
        lake: Option<LakePart>,
        files: Vec<Entry>,
    ) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { format: FORMAT, id, version, finished_at, position, lake, files }
    }

    /// The finished backup in `dir`.
    pub fn read(dir: &Path) -> Result<Self, BackupError> {
        let file = dir.join(FILE);
        let text = match fs::read(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(BackupError::Unfinished { dir: dir.to_owned() });
            }
            text => text.map_err(BackupError::io("read", &file))?,
        };
        Self::parse(&text).map_err(|message| BackupError::Manifest { file, message })
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let Head { format } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if format != FORMAT {
            return Err(format!(
                "it has format {format}, this release reads format {FORMAT}: use the one that wrote it"
            ));
        }
        let manifest: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let is_inside = |path: &str| {
            let mut parts = Path::new(path).components();
            parts.all(|part| matches!(part, std::path::Component::Normal(_)))
        };
        match manifest.files.iter().find(|e| !is_inside(&e.path) || !is_inside(&e.stored)) {
            Some(entry) => Err(format!("the file `{}` lies outside of it", entry.path)),
            None => Ok(manifest),
        }
    }

    /// Makes it the finished backup in `dir`, whose files are on the disk.
    pub fn publish(&self, dir: &Path) -> Result<(), BackupError> {
        let file = dir.join(FILE);
        let unborn = dir.join(format!("{FILE}.new"));
        let failed = || BackupError::io("write", &unborn);
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| failed()(std::io::Error::from(error)))?;
        text.push(b'\n');
        let mut new = File::create(&unborn).map_err(failed())?;
        new.write_all(&text).and_then(|()| new.sync_all()).map_err(failed())?;
        fs::rename(&unborn, &file).map_err(failed())?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(BackupError::io("write", dir))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|entry| entry.bytes).sum()
    }

    /// Looks whether all files are there and have their lengths: quick, and before anything is written.
    pub fn check_lengths(&self, dir: &Path) -> Result<(), BackupError> {
        for entry in &self.files {
            let file = dir.join(&entry.stored);
            let problem = match fs::metadata(&file) {
                Ok(meta) if meta.len() == entry.bytes => continue,
                Ok(meta) => format!("has {} bytes, the manifest says {}", meta.len(), entry.bytes),
                Err(error) => format!("cannot be read: {error}"),
            };
            return Err(BackupError::Damaged { file, problem });
        }
        Ok(())
    }

    /// Where an entry's copy is.
    pub fn stored(dir: &Path, entry: &Entry) -> PathBuf {
        dir.join(&entry.stored)
    }
}

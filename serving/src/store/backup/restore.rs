//! A backup put back: in an empty directory, which is no data directory until all of it is there.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::BackupError;
use super::copy::{self, Step};
use super::manifest::{Entry, Manifest};
use crate::store::OpenError;
use crate::store::data_dir::{DataDir, RESTORING};

/// Why a restore could not begin or end.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup, or a copy.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The directory cannot be had.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// A directory that a backup is put into. Until [`Target::finish`] no other command takes it.
#[derive(Debug)]
pub struct Target {
    directory: DataDir,
}

impl Target {
    /// Takes an empty directory, created if need be, or one that an interrupted restore of the same
    /// backup left.
    pub fn take(dir: &Path, manifest: &Manifest) -> Result<Self, RestoreError> {
        let id = manifest.id.to_string();
        check_empty(dir, &id)?;
        let directory = DataDir::lock_for_restore(dir)?;
        // Once more: somebody may have been quicker.
        check_empty(dir, &id)?;
        let marker = dir.join(RESTORING);
        fs::write(&marker, id).map_err(BackupError::io("write", &marker))?;
        copy::sync_folder(dir)?;
        Ok(Self { directory })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Puts a file of the backup in `backups` in its place, if what it holds is what the manifest says.
    pub fn put(
        &self,
        backups: &Path,
        entry: &Entry,
        step: &mut Step<'_>,
    ) -> Result<(), BackupError> {
        let (from, to) = (Manifest::stored(backups, entry), self.path().join(&entry.path));
        let is = |copied: &copy::Copied| copied.bytes == entry.bytes && copied.xxh3 == entry.xxh3;
        if fs::metadata(&to).is_ok_and(|meta| meta.len() == entry.bytes)
            && is(&copy::measure(&to, &mut |_| Ok(()))?)
        {
            return step(entry.bytes);
        }
        let (copied, partial) = copy::partial(&from, &to, None, step)?;
        if !is(&copied) {
            let _ = fs::remove_file(&partial);
            let problem = if copied.bytes == entry.bytes {
                "holds other bytes than the manifest says".to_owned()
            } else {
                format!("has {} bytes, the manifest says {}", copied.bytes, entry.bytes)
            };
            return Err(BackupError::Damaged { file: from, problem });
        }
        copy::finish(&partial, &to)
    }

    /// Everything is in its place: makes it a data directory.
    pub fn finish(self) -> Result<PathBuf, BackupError> {
        let dir = self.path().to_owned();
        copy::sync_folder(&dir)?;
        let marker = dir.join(RESTORING);
        fs::remove_file(&marker).map_err(BackupError::io("remove", &marker))?;
        copy::sync_folder(&dir)?;
        Ok(dir)
    }
}

fn check_empty(dir: &Path, id: &str) -> Result<(), BackupError> {
    let marker = fs::read_to_string(dir.join(RESTORING)).ok();
    // An empty marker: the process died while it wrote it, before anything else.
    if marker.as_deref().is_some_and(|marker| marker == id || marker.is_empty()) {
        return Ok(());
    }
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(BackupError::io("read", dir))?,
    };
    for entry in entries {
        let name = entry.map_err(BackupError::io("read", dir))?.file_name();
        let name = name.to_string_lossy();
        if !["LOCK", "lost+found"].contains(&&*name) {
            let found = match &marker {
                Some(_) => "another backup, half restored".to_owned(),
                None => name.into_owned(),
            };
            return Err(BackupError::NotEmpty { dir: dir.to_owned(), found });
        }
    }
    Ok(())
}

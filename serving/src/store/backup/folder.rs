//! A folder of backups: what is in it, whose it is, and what goes when a new one is finished.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::BackupError;
use super::copy::{self, Step};
use super::manifest::{self, Entry, Manifest};

const LOCK: &str = "backup.lock";
const LEASE: &str = "backup.lease";
const FILES: &str = "files";
const STORE: &str = "store-";

/// A folder that this process makes a backup in, until the value is dropped.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    /// Checksums by place in the folder, as the last finished backup says.
    known: BTreeMap<String, Entry>,
    previous: Option<Manifest>,
    _lock: File,
}

/// What became of a file that never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The file.
    pub entry: Entry,
    /// It was there already.
    pub was_there: bool,
}

impl Folder {
    /// Takes a folder, created if need be, unless it holds something else than backups.
    pub fn take(dir: &Path) -> Result<Self, BackupError> {
        fs::create_dir_all(dir).map_err(BackupError::io("create", dir))?;
        for entry in fs::read_dir(dir).map_err(BackupError::io("read", dir))? {
            let name = entry.map_err(BackupError::io("read", dir))?.file_name();
            let name = name.to_string_lossy();
            let is_ours = name.starts_with("backup.")
                || name.starts_with(STORE)
                || [FILES, "lost+found"].contains(&&*name);
            if !is_ours {
                return Err(BackupError::NotOurs { dir: dir.to_owned(), found: name.into_owned() });
            }
        }
        let file = dir.join(LOCK);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&file);
        let lock = lock.map_err(BackupError::io("create", &file))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(BackupError::Busy { dir: dir.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(BackupError::io("lock", &file)(source)),
        }
        let previous = match Manifest::read(dir) {
            Err(BackupError::Unfinished { .. }) => None,
            manifest => Some(manifest?),
        };
        let files = previous.iter().flat_map(|manifest| &manifest.files);
        let known = files.map(|entry| (entry.stored.clone(), entry.clone())).collect();
        Ok(Self { dir: dir.to_owned(), known, previous, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The last finished backup.
    pub fn previous(&self) -> Option<&Manifest> {
        self.previous.as_ref()
    }

    /// An empty folder inside for what changes from one backup to the next. What an unfinished one left
    /// there goes.
    pub fn begin(&self, id: Uuid) -> Result<String, BackupError> {
        self.remove_stores()?;
        let name = format!("{STORE}{id}");
        let folder = self.dir.join(&name);
        fs::create_dir_all(&folder).map_err(BackupError::io("create", &folder))?;
        Ok(name)
    }

    /// Copies a file that never changes, unless it is there. `path` is its place in a data directory.
    pub fn keep(
        &self,
        path: String,
        from: &Path,
        step: &mut Step<'_>,
    ) -> Result<Kept, BackupError> {
        let stored = format!("{FILES}/{path}");
        let to = self.dir.join(&stored);
        let length = |file: &Path| fs::metadata(file).map(|meta| meta.len());
        let wanted = length(from).map_err(|source| match source.kind() {
            ErrorKind::NotFound => BackupError::Vanished { path: from.to_owned() },
            _ => BackupError::io("read", from)(source),
        })?;
        if length(&to).is_ok_and(|found| found == wanted) {
            let entry = match self.known.get(&stored) {
                Some(entry) if entry.bytes == wanted => {
                    step(wanted)?;
                    entry.clone()
                }
                // An unfinished backup left it; its length alone is not trusted, the source's
                // checksum is taken.
                _ => {
                    let copied = copy::measure(&to, &mut |_| Ok(()))?;
                    let source = copy::measure(from, step)?;
                    if copied != source {
                        return self.copied(path, stored, from, &to, &mut |_| Ok(()));
                    }
                    Entry::new(path, stored, copied)
                }
            };
            return Ok(Kept { entry, was_there: true });
        }
        self.copied(path, stored, from, &to, step)
    }

    fn copied(
        &self,
        path: String,
        stored: String,
        from: &Path,
        to: &Path,
        step: &mut Step<'_>,
    ) -> Result<Kept, BackupError> {
        let copied = copy::file(from, to, None, step)?;
        Ok(Kept { entry: Entry::new(path, stored, copied), was_there: false })
    }

    /// Makes `manifest` the finished backup, once everything it names is on the disk, and removes what
    /// does not belong to it.
    pub fn finish(mut self, manifest: Manifest) -> Result<(), BackupError> {
        copy::sync_folder(&self.dir)?;
        manifest.publish(&self.dir)?;
        self.previous = Some(manifest);
        self.remove_stores()?;
        let files = self.dir.join(FILES);
        if files.is_dir() {
            remove_others(&files, &self.belonging())?;
        }
        Ok(())
    }

    fn belonging(&self) -> HashSet<PathBuf> {
        let files = self.previous.iter().flat_map(|manifest| &manifest.files);
        files.map(|entry| self.dir.join(&entry.stored)).collect()
    }

    /// Removes the folders `store-…` that the finished backup does not name.
    fn remove_stores(&self) -> Result<(), BackupError> {
        let belonging = self.belonging();
        let entries = fs::read_dir(&self.dir).map_err(BackupError::io("read", &self.dir))?;
        for entry in entries {
            let entry = entry.map_err(BackupError::io("read", &self.dir))?;
            let folder = entry.path();
            if entry.file_name().to_string_lossy().starts_with(STORE)
                && !belonging.iter().any(|file| file.starts_with(&folder))
            {
                fs::remove_dir_all(&folder).map_err(BackupError::io("remove", &folder))?;
            }
        }
        Ok(())
    }

    /// Notes the lease that this backup has, so that the next one can end it should this one be killed.
    pub fn note_lease(&self, id: Option<&str>) -> Result<(), BackupError> {
        let file = self.dir.join(LEASE);
        match id {
            Some(id) => fs::write(&file, id).map_err(BackupError::io("write", &file)),
            None => match fs::remove_file(&file) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(BackupError::io("remove", &file)(error))
                }
                _ => Ok(()),
            },
        }
    }

    /// The lease that a killed backup left.
    pub fn left_lease(&self) -> Option<String> {
        let id = fs::read_to_string(self.dir.join(LEASE)).ok()?;
        id.parse::<Uuid>().ok().map(|id| id.to_string())
    }

    /// Where the manifest is.
    pub fn manifest(&self) -> PathBuf {
        self.dir.join(manifest::FILE)
    }
}

/// Removes the files below `folder` that do not belong, and folders that become empty.
fn remove_others(folder: &Path, belonging: &HashSet<PathBuf>) -> Result<(), BackupError> {
    for entry in fs::read_dir(folder).map_err(BackupError::io("read", folder))? {
        let entry = entry.map_err(BackupError::io("read", folder))?;
        let path = entry.path();
        if entry.file_type().map_err(BackupError::io("read", &path))?.is_dir() {
            remove_others(&path, belonging)?;
            match fs::remove_dir(&path) {
                Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => {
                    return Err(BackupError::io("remove", &path)(error));
                }
                _ => {}
            }
        } else if !belonging.contains(&path) {
            fs::remove_file(&path).map_err(BackupError::io("remove", &path))?;
        }
    }
    Ok(())
}

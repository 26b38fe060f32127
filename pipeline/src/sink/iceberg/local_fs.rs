//! Local files that are still there after a power cut.
//!
//! The library's local storage syncs data files and manifests when they are closed, but neither
//! `metadata.json` nor any directory. A catalog row could then name a file that is empty or gone.
//! Here every file is synced before its writer returns, and so is each directory that gained an
//! entry. Everything else is left to the library.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use iceberg::io::{
    FileMetadata, FileRead, FileWrite, InputFile, LocalFsStorage, OutputFile, Storage,
    StorageConfig, StorageFactory,
};
use iceberg::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// Makes [`DurableLocalFs`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct DurableLocalFsFactory;

#[typetag::serde]
impl StorageFactory for DurableLocalFsFactory {
    fn build(&self, _config: &StorageConfig) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(DurableLocalFs::default()))
    }
}

/// Local storage that syncs files and directories.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct DurableLocalFs {
    inner: LocalFsStorage,
}

#[async_trait]
#[typetag::serde]
impl Storage for DurableLocalFs {
    async fn write(&self, path: &str, bytes: Bytes) -> Result<()> {
        let mut writer = self.writer(path).await?;
        writer.write(bytes).await?;
        writer.close().await
    }

    async fn writer(&self, path: &str) -> Result<Box<dyn FileWrite>> {
        let parent = parent(path);
        create_dirs(&parent).map_err(|error| failed("create directory", &parent, error))?;
        let inner = self.inner.writer(path).await?;
        Ok(Box::new(DurableFileWrite { inner, parent }))
    }

    async fn exists(&self, path: &str) -> Result<bool> {
        self.inner.exists(path).await
    }

    async fn metadata(&self, path: &str) -> Result<FileMetadata> {
        self.inner.metadata(path).await
    }

    async fn read(&self, path: &str) -> Result<Bytes> {
        self.inner.read(path).await
    }

    async fn reader(&self, path: &str) -> Result<Box<dyn FileRead>> {
        self.inner.reader(path).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.inner.delete(path).await
    }

    async fn delete_prefix(&self, path: &str) -> Result<()> {
        self.inner.delete_prefix(path).await
    }

    async fn delete_stream(&self, paths: BoxStream<'static, String>) -> Result<()> {
        self.inner.delete_stream(paths).await
    }

    fn new_input(&self, path: &str) -> Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), path.to_owned()))
    }

    fn new_output(&self, path: &str) -> Result<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_owned()))
    }
}

/// A file whose directory entry is synced when it is closed; the inner writer syncs the contents.
struct DurableFileWrite {
    inner: Box<dyn FileWrite>,
    parent: PathBuf,
}

#[async_trait]
impl FileWrite for DurableFileWrite {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.inner.write(bytes).await
    }

    async fn close(&mut self) -> Result<()> {
        self.inner.close().await?;
        sync_dir(&self.parent).map_err(|error| failed("sync directory", &self.parent, error))
    }
}

/// A location as the library reads it: with or without `file:` before the path.
pub(super) fn path_of(location: &str) -> PathBuf {
    let path = location.strip_prefix("file:").unwrap_or(location);
    PathBuf::from(format!("/{}", path.trim_start_matches('/')))
}

/// The directory of a location.
fn parent(location: &str) -> PathBuf {
    path_of(location).parent().map(Path::to_owned).unwrap_or_else(|| PathBuf::from("/"))
}

/// Creates a directory with its parents and syncs each directory that gains an entry.
pub(super) fn create_dirs(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_dirs(parent)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_dir(parent)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn failed(action: &str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Unexpected, format!("{action} {}: {error}", path.display()))
        .with_source(error)
}

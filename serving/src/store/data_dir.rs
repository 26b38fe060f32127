//! Who may work on a data directory: at most one process at a time.
//!
//! The file `LOCK` carries an advisory lock of the operating system, which the kernel takes back
//! when its process ends in whatever way, `kill -9` included. So a `LOCK` file without a lock is
//! just an old note. Its JSON text says who holds the directory, for error messages and so that
//! `agentflow read` finds the running server.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::error::OpenError;
use crate::access::digest::write_private;

/// Name of the lock file.
const LOCK: &str = "LOCK";

/// Name of the file with the token of the process that serves.
const TOKEN: &str = "operator.token";

/// Name of the file that a directory has while a backup is put back into it.
pub(super) const RESTORING: &str = "RESTORING";

/// Name of the folder in which the lake lies.
const LAKE: &str = "lake";

/// What the lock file says about the process that holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// The command: `serve`, `run`, …
    pub role: String,
    /// When it took the directory (RFC 3339, UTC).
    pub started_at: String,
    /// Where it answers HTTP, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Is that HTTPS?
    #[serde(default)]
    pub tls: bool,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == 0 {
            return f.write_str("another process");
        }
        write!(f, "`agentflow {}`, process {}, since {}", self.role, self.pid, self.started_at)?;
        match self.listen {
            Some(address) => write!(f, ", listening on {address}"),
            None => Ok(()),
        }
    }
}

/// A data directory that this process holds, until the value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    holder: Holder,
    /// Owns the lock.
    lock: File,
}

impl DataDir {
    /// Creates the directory if need be and takes it for this process.
    pub fn lock(dir: &Path, role: &str, listen: Option<SocketAddr>) -> Result<Self, OpenError> {
        let held = Self::lock_any(dir, role, listen)?;
        if dir.join(RESTORING).exists() {
            return Err(OpenError::HalfRestored { dir: dir.to_path_buf() });
        }
        Ok(held)
    }

    /// The same for a directory that may be half restored: to put a backup into it.
    pub(super) fn lock_for_restore(dir: &Path) -> Result<Self, OpenError> {
        Self::lock_any(dir, "restore", None)
    }

    fn lock_any(dir: &Path, role: &str, listen: Option<SocketAddr>) -> Result<Self, OpenError> {
        let not_writable = |source| OpenError::NotWritable { dir: dir.to_path_buf(), source };
        fs::create_dir_all(dir).map_err(not_writable)?;
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join(LOCK))
            .map_err(not_writable)?;
        if !try_lock(&lock).map_err(not_writable)? {
            let holder = Box::new(read(&dir.join(LOCK)));
            return Err(OpenError::Held { dir: dir.to_path_buf(), holder });
        }
        let holder = Holder {
            pid: std::process::id(),
            role: role.to_owned(),
            started_at: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
            listen,
            tls: false,
        };
        let mut held = Self { path: dir.to_path_buf(), holder, lock };
        held.write().map_err(not_writable)?;
        Ok(held)
    }

    /// Notes where this process answers HTTP, or HTTPS, once the socket is bound.
    pub fn set_listen(&mut self, address: SocketAddr, tls: bool) -> Result<(), OpenError> {
        self.holder.listen = Some(address);
        self.holder.tls = tls;
        self.write().map_err(|source| OpenError::NotWritable { dir: self.path.clone(), source })
    }

    /// Leaves a token by which commands of whoever may read the directory are known to this process.
    pub fn put_token(&self, token: &str) -> Result<(), OpenError> {
        let path = self.path.join(TOKEN);
        // With the rights of a new file, whatever those of the old one were.
        let _ = fs::remove_file(&path);
        write_private(&path, token.as_bytes(), false)
            .map_err(|source| OpenError::NotWritable { dir: self.path.clone(), source })
    }

    /// The token of the process that holds `dir`, for those who may read it.
    pub fn token(dir: &Path) -> Option<String> {
        fs::read_to_string(dir.join(TOKEN)).ok()
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the lake keeps its files.
    pub fn lake(&self) -> PathBuf {
        self.path.join(LAKE)
    }

    /// Who holds `dir` now; `None` when nobody does.
    pub fn holder(dir: &Path) -> Option<Holder> {
        holder(dir)
    }

    fn write(&mut self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.holder).map_err(io::Error::other)?;
        self.lock.rewind()?;
        self.lock.write_all(&text)?;
        self.lock.set_len(text.len() as u64)?;
        self.lock.sync_data()
    }
}

/// Who holds `dir` now; `None` when nobody does.
pub(super) fn holder(dir: &Path) -> Option<Holder> {
    let path = dir.join(LOCK);
    let file = File::open(&path).ok()?;
    // A shared lock asks without getting in the way of others who ask.
    match file.try_lock_shared() {
        Ok(()) => None,
        Err(_) => Some(read(&path)),
    }
}

/// Takes the lock unless a process has it. Someone who only asks for the holder has it shared for
/// an instant, so one refusal is not yet an answer.
fn try_lock(file: &File) -> io::Result<bool> {
    for _ in 0..10 {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}

/// What the lock file says; an unknown holder when it says nothing (yet).
fn read(path: &Path) -> Holder {
    let mut text = String::new();
    for _ in 0..10 {
        text.clear();
        let done = File::open(path).and_then(|mut file| file.read_to_string(&mut text));
        if done.is_ok()
            && let Ok(holder) = serde_json::from_str(&text)
        {
            return holder;
        }
        // The other process has the lock and is about to write.
        std::thread::sleep(Duration::from_millis(5));
    }
    Holder::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_directory_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(DataDir::holder(dir.path()), None);

        let mut held = DataDir::lock(dir.path(), "serve", None).unwrap();
        held.set_listen("127.0.0.1:8080".parse().unwrap(), false).unwrap();

        let holder = DataDir::holder(dir.path()).unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert_eq!(holder.listen, Some("127.0.0.1:8080".parse().unwrap()));

        let error = DataDir::lock(dir.path(), "run", None).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`agentflow serve`"), "{text}");
        assert!(text.contains(&std::process::id().to_string()), "{text}");
        assert!(text.contains("127.0.0.1:8080"), "{text}");
        assert!(error.hint().unwrap().contains("http://127.0.0.1:8080"));
    }

    #[test]
    fn a_directory_is_free_again_once_let_go() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::lock(dir.path(), "run", None).unwrap());
        assert_eq!(DataDir::holder(dir.path()), None, "the file is still there, the lock is not");
        drop(DataDir::lock(dir.path(), "run", None).unwrap());
    }

    #[test]
    fn an_old_or_broken_note_without_a_lock_is_no_obstacle() {
        for note in [
            "",
            "{\"pid\":1}",
            "not json",
            "{\"pid\":4000000,\"role\":\"serve\",\"started_at\":\"x\"}",
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(LOCK), note).unwrap();
            assert_eq!(DataDir::holder(dir.path()), None, "{note}");
            let held = DataDir::lock(dir.path(), "run", None).unwrap();
            assert_eq!(DataDir::holder(dir.path()).unwrap().pid, std::process::id());
            drop(held);
        }
    }

    #[test]
    fn a_place_where_no_directory_can_be_is_a_clear_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = DataDir::lock(&file.join("data"), "run", None).unwrap_err();
        assert!(matches!(error, OpenError::NotWritable { .. }), "{error}");
    }
}

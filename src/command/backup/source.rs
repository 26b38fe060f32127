//! Who holds the store still while it is copied: the running server, by a lease on its checkpoints, or
//! we ourselves, because nobody else works on the directory.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde::Deserialize;
use serving::http::BackupBody;
use serving::store::backup::copy::Copied;
use serving::store::backup::folder::Folder;
use serving::store::backup::{self, BackupError, LEASE, cut};
use serving::store::data_dir::DataDir;

use super::{Trouble, Work};
use crate::failure::Failure;
use crate::opened::{self, Access, Server};

/// A lease is renewed after a quarter of its time.
const RENEW_AFTER: Duration = Duration::from_secs(LEASE.as_secs() / 4);

/// How long a checkpoint under way is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The store of a data directory.
pub(super) enum Source<'a> {
    /// A server works on it.
    Server { server: Server, data: &'a Path },
    /// We hold it.
    Directory(DataDir),
}

/// A lease that the server gave us.
struct Lease<'a> {
    server: &'a Server,
    body: BackupBody,
    renewed: Instant,
}

/// The API's error body, as far as it is told here.
#[derive(Debug, Deserialize)]
struct ErrorBody {
    detail: String,
    #[serde(default)]
    hint: Option<String>,
}

impl<'a> Source<'a> {
    pub(super) fn of(data: &'a Path, folder: &Folder) -> Result<Self, Trouble> {
        match opened::access(data, "backup").map_err(Trouble::Final)? {
            Access::Directory(directory) => Ok(Self::Directory(directory)),
            Access::Server(server) => {
                if let Some(id) = folder.left_lease() {
                    // That of a backup into this folder that was killed. It may be over: that is fine.
                    let _ = server.ask(Method::DELETE, &["v1", "backup", &id], &[]);
                    folder.note_lease(None)?;
                }
                Ok(Self::Server { server, data })
            }
        }
    }

    /// Copies the store into the folder `into`; tells each file, and gives the position of its last
    /// event.
    pub(super) fn copy(
        &self,
        folder: &Folder,
        into: &Path,
        work: &mut Work<'_>,
        mut tell: impl FnMut(String, Copied),
    ) -> Result<i64, Trouble> {
        let (copy, position) = match self {
            Self::Directory(directory) => {
                let dir = directory.path();
                let position = backup::position(dir)
                    .map_err(|error| Trouble::Final(opened::refused(&error)))?;
                // Opening it may have folded its log.
                let log_bytes = cut::log_bytes(dir);
                let mut step = |bytes| work.step("store", bytes);
                (cut::store(dir, into, log_bytes, &mut step)?, position)
            }
            Self::Server { server, data } => {
                let mut lease = Lease::begin(server, work)?;
                folder.note_lease(Some(&lease.body.id))?;
                let (log_bytes, position) = (lease.body.log_bytes, lease.body.position);
                let copied = cut::store(data, into, log_bytes, &mut |bytes| {
                    lease.keep()?;
                    work.step("store", bytes)
                });
                pipeline::fail_point::hit("backup_store_copied");
                let held = lease.renew();
                lease.end();
                folder.note_lease(None)?;
                let copy = copied?;
                held?;
                (copy, position)
            }
        };
        copy.finish()?.into_iter().for_each(|(name, copied)| tell(name, copied));
        Ok(position)
    }
}

impl<'a> Lease<'a> {
    fn begin(server: &'a Server, work: &mut Work<'_>) -> Result<Self, Trouble> {
        let started = Instant::now();
        loop {
            let answer = server.ask(Method::POST, &["v1", "backup"], &[]);
            let (status, text) = answer.map_err(|_| Trouble::Again(gone()))?;
            let body: Option<ErrorBody> = serde_json::from_str(&text).ok();
            let (detail, hint) = body.map_or((text.clone(), None), |body| (body.detail, body.hint));
            match status {
                200 => {
                    let body = serde_json::from_str(&text).map_err(|error| {
                        let message = format!("the running server answered `{text}`: {error}");
                        Trouble::Final(Failure::ours(message))
                    })?;
                    return Ok(Self { server, body, renewed: Instant::now() });
                }
                409 => return Err(Trouble::Final(Failure::input(detail).maybe_hint(hint))),
                // A checkpoint takes a moment.
                503 if started.elapsed() < PATIENCE => {
                    work.step("store", 0)?;
                    std::thread::sleep(Duration::from_millis(100));
                }
                404 => {
                    let message = "the running server is of a release that cannot be backed up \
                                   while it runs";
                    return Err(Trouble::Final(
                        Failure::input(message).hint("stop it, then run the backup again"),
                    ));
                }
                _ => {
                    let message = format!("the running server answered {status}: {detail}");
                    return Err(Trouble::Final(Failure::ours(message).maybe_hint(hint)));
                }
            }
        }
    }

    /// Renews it now and then.
    fn keep(&mut self) -> Result<(), BackupError> {
        if self.renewed.elapsed() < RENEW_AFTER { Ok(()) } else { self.renew() }
    }

    fn renew(&mut self) -> Result<(), BackupError> {
        let path = ["v1", "backup", &self.body.id];
        let (status, text) = self.server.ask(Method::POST, &path, &[]).map_err(|_| gone())?;
        self.renewed = Instant::now();
        let why = serde_json::from_str::<ErrorBody>(&text).map_or(text, |body| body.detail);
        if status == 200 { Ok(()) } else { Err(BackupError::Changed(why)) }
    }

    fn end(self) {
        // One that cannot be ended ends by itself.
        let _ = self.server.ask(Method::DELETE, &["v1", "backup", &self.body.id], &[]);
    }
}

fn gone() -> BackupError {
    BackupError::Changed("the server that worked on it is gone".to_owned())
}

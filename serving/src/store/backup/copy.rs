//! Copying files: with a checksum on the way, whole or not at all.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::BackupError;

const CHUNK: usize = 1 << 20;

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Length.
    pub bytes: u64,
    /// XXH3 of all of it, 128 bits in hexadecimal.
    pub xxh3: String,
}

/// Is told that so many bytes more were read; an error ends the copy.
pub type Step<'a> = dyn FnMut(u64) -> Result<(), BackupError> + 'a;

/// Copies the first `length` bytes of a file, or all that it has. Until it is whole the copy has the
/// name `.partial`. Its contents are on the disk when this returns, its name after [`sync_folder`].
pub fn file(
    from: &Path,
    to: &Path,
    length: Option<u64>,
    step: &mut Step<'_>,
) -> Result<Copied, BackupError> {
    let (copied, partial) = partial(from, to, length, step)?;
    finish(&partial, to)?;
    Ok(copied)
}

/// The same, before the copy is on the disk and has its name: [`finish`] does that.
pub(super) fn partial(
    from: &Path,
    to: &Path,
    length: Option<u64>,
    step: &mut Step<'_>,
) -> Result<(Copied, PathBuf), BackupError> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(BackupError::io("create", folder))?;
    }
    let mut source = open(from)?;
    let mut name = to.as_os_str().to_owned();
    name.push(".partial");
    let partial = PathBuf::from(name);
    let mut target = File::create(&partial).map_err(BackupError::io("create", &partial))?;
    let copied = run(from, &mut source, length, step, |chunk| {
        target.write_all(chunk).map_err(BackupError::io("write", &partial))
    })?;
    Ok((copied, partial))
}

/// Brings a partial copy to the disk and gives it its name.
pub(super) fn finish(partial: &Path, to: &Path) -> Result<(), BackupError> {
    File::open(partial)
        .and_then(|file| file.sync_all())
        .map_err(BackupError::io("write", partial))?;
    fs::rename(partial, to).map_err(BackupError::io("rename", partial))
}

/// Brings a file that somebody else wrote to the disk; length and checksum of it.
pub fn adopt(file: &Path) -> Result<Copied, BackupError> {
    let synced = File::open(file).and_then(|file| file.sync_all());
    synced.map_err(BackupError::io("write", file))?;
    measure(file, &mut |_| Ok(()))
}

/// Length and checksum of a file.
pub fn measure(file: &Path, step: &mut Step<'_>) -> Result<Copied, BackupError> {
    run(file, &mut open(file)?, None, step, |_| Ok(()))
}

fn open(file: &Path) -> Result<File, BackupError> {
    File::open(file).map_err(|source| match source.kind() {
        ErrorKind::NotFound => BackupError::Vanished { path: file.to_owned() },
        _ => BackupError::io("read", file)(source),
    })
}

fn run(
    from: &Path,
    source: &mut File,
    length: Option<u64>,
    step: &mut Step<'_>,
    mut write: impl FnMut(&[u8]) -> Result<(), BackupError>,
) -> Result<Copied, BackupError> {
    let mut buffer = vec![0; CHUNK];
    let mut hash = Xxh3::new();
    let mut bytes = 0;
    loop {
        let most = length.map_or(CHUNK as u64, |length| (length - bytes).min(CHUNK as u64));
        let n = match source.read(&mut buffer[..most as usize]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            n => n.map_err(BackupError::io("read", from))?,
        };
        if n == 0 {
            break;
        }
        write(&buffer[..n])?;
        hash.update(&buffer[..n]);
        bytes += n as u64;
        step(n as u64)?;
    }
    Ok(Copied { bytes, xxh3: format!("{:032x}", hash.digest128()) })
}

/// Brings the names of all folders below `folder`, and in it, to the disk.
pub fn sync_folder(folder: &Path) -> Result<(), BackupError> {
    fn sync(folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // The system's own folder at the root of a disk is not for everybody to look into.
            if entry.file_type()?.is_dir() && entry.file_name() != "lost+found" {
                sync(&entry.path())?;
            }
        }
        File::open(folder)?.sync_all()
    }
    sync(folder).map_err(BackupError::io("write", folder))
}

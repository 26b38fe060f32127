//! Room on the disk of the data directory: the one place that decides whether there is enough.
//!
//! A commit on a full disk is harmless, but the disk is not ours alone: the lake, the brokers' and the
//! system's own files may lie on it. So the writer stops while there is still some left.

use std::path::PathBuf;

use pipeline::store::StoreError;

/// The disk that a folder is on.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    folder: PathBuf,
    /// Space that nobody writes into.
    keep_free: u64,
}

/// Too little space for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shortage {
    /// Bytes that are free.
    pub free: u64,
    /// Bytes that have to be.
    pub needed: u64,
}

impl Disk {
    pub(super) fn of(folder: PathBuf, keep_free: u64) -> Self {
        Self { folder, keep_free }
    }

    /// Bytes that this user may still write; `None` where the system does not tell.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.folder).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Is less free than has to stay free?
    pub(super) fn shortage(&self) -> Option<Shortage> {
        // Where nothing has to stay free nobody is asked.
        if self.keep_free == 0 { None } else { shortage(self.free_bytes(), self.keep_free) }
    }
}

/// Is less than `needed` free? A system that does not tell how much is has enough.
pub(super) fn shortage(free: Option<u64>, needed: u64) -> Option<Shortage> {
    free.filter(|free| *free < needed).map(|free| Shortage { free, needed })
}

impl Shortage {
    /// As the failure of `context`.
    pub(super) fn failure(self, context: &str) -> StoreError {
        StoreError::DiskLow {
            context: context.to_owned(),
            free_bytes: self.free,
            needed_bytes: self.needed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_is_needed_is_a_shortage() {
        assert_eq!(shortage(Some(99), 100), Some(Shortage { free: 99, needed: 100 }));
        assert_eq!(shortage(Some(100), 100), None);
        assert_eq!(shortage(None, 100), None);
    }

    #[test]
    fn both_figures_are_told() {
        let told =
            Shortage { free: 3 << 20, needed: 512 << 20 }.failure("commit batch").to_string();
        assert_eq!(
            told,
            "commit batch: 3 MiB are free on the disk of the data directory, 512 MiB have to be"
        );
    }

    #[test]
    fn the_disk_of_a_folder_is_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = |keep_free| Disk::of(folder.path().to_owned(), keep_free);
        assert_eq!(disk(0).shortage(), None);
        assert_eq!(disk(1).shortage(), None);
        assert!(disk(u64::MAX).shortage().is_some_and(|shortage| shortage.free > 0));
    }
}

//! What a folder of backups promises, whatever happens to it or to the process that writes it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::BackupError;
use super::copy;
use super::folder::Folder;
use super::manifest::{Entry, FILE, Manifest};
use super::restore::{RestoreError, Target};
use crate::store::OpenError;
use crate::store::data_dir::DataDir;

/// A data directory in which every file is a text.
struct World {
    root: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir(world.source()).unwrap();
        world.write("a.parquet", "first");
        world.write("b.parquet", "second");
        world.write("serving.duckdb", "store 1");
        world
    }

    fn source(&self) -> PathBuf {
        self.root.path().join("data")
    }

    fn backups(&self) -> PathBuf {
        self.root.path().join("backups")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.source().join(name), text).unwrap();
    }

    fn keep(&self, folder: &Folder, name: &str) -> Result<(Entry, bool), BackupError> {
        let kept = folder.keep(name.into(), &self.source().join(name), &mut |_| Ok(()))?;
        Ok((kept.entry, kept.was_there))
    }

    /// A backup of the store and of these files; says which were copied.
    fn back_up(&self, files: &[&str]) -> Vec<String> {
        let folder = Folder::take(&self.backups()).unwrap();
        let id = Uuid::new_v4();
        let name = folder.begin(id).unwrap();
        let mut copied = Vec::new();
        let mut entries = Vec::new();
        for file in files {
            let (entry, was_there) = self.keep(&folder, file).unwrap();
            if !was_there {
                copied.push((*file).to_owned());
            }
            entries.push(entry);
        }
        let store = self.source().join("serving.duckdb");
        let to = folder.path().join(&name).join("serving.duckdb");
        let store = copy::file(&store, &to, None, &mut |_| Ok(())).unwrap();
        let stored = format!("{name}/serving.duckdb");
        entries.push(Entry::new("serving.duckdb".into(), stored, store));
        folder.finish(Manifest::new(id, "now".into(), 7, None, entries)).unwrap();
        copied
    }

    fn restore(&self, to: &Path) -> Result<(), RestoreError> {
        let manifest = Manifest::read(&self.backups())?;
        manifest.check_lengths(&self.backups())?;
        let target = Target::take(to, &manifest)?;
        for entry in &manifest.files {
            target.put(&self.backups(), entry, &mut |_| Ok(()))?;
        }
        target.finish()?;
        Ok(())
    }

    fn target(&self) -> PathBuf {
        self.root.path().join("new")
    }
}

/// All files below a folder but locks.
fn files(folder: &Path) -> BTreeSet<String> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else if !path.ends_with("LOCK") && !path.ends_with("backup.lock") {
                found.insert(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(folder, folder, &mut found);
    found
}

#[test]
fn a_second_backup_copies_what_is_new_and_drops_what_is_gone() {
    let world = World::new();
    assert_eq!(world.back_up(&["a.parquet", "b.parquet"]), ["a.parquet", "b.parquet"]);
    world.write("c.parquet", "third");
    world.write("serving.duckdb", "store 2");
    assert_eq!(world.back_up(&["b.parquet", "c.parquet"]), ["c.parquet"]);
    let manifest = Manifest::read(&world.backups()).unwrap();
    let mut belonging: BTreeSet<String> =
        manifest.files.iter().map(|entry| entry.stored.clone()).collect();
    belonging.insert(FILE.to_owned());
    assert_eq!(files(&world.backups()), belonging);
    world.restore(&world.target()).unwrap();
    let names = ["b.parquet", "c.parquet", "serving.duckdb"].map(str::to_owned);
    assert_eq!(files(&world.target()), names.into());
    assert_eq!(fs::read(world.target().join("serving.duckdb")).unwrap(), b"store 2");
}

#[test]
fn until_a_backup_is_finished_the_one_before_it_is_whole() {
    let world = World::new();
    world.back_up(&["a.parquet"]);
    world.write("serving.duckdb", "store 2");
    let folder = Folder::take(&world.backups()).unwrap();
    let name = folder.begin(Uuid::new_v4()).unwrap();
    fs::write(world.backups().join(&name).join("serving.duckdb.partial"), "sto").unwrap();
    world.keep(&folder, "b.parquet").unwrap();
    assert!(matches!(Folder::take(&world.backups()), Err(BackupError::Busy { .. })));
    // The process is killed here.
    drop(folder);
    world.restore(&world.target()).unwrap();
    assert_eq!(fs::read(world.target().join("serving.duckdb")).unwrap(), b"store 1");
    // The next one goes on: one file is there already, what was half written goes.
    assert_eq!(world.back_up(&["a.parquet", "b.parquet"]), Vec::<String>::new());
    assert!(!world.backups().join(&name).exists());
}

#[test]
fn a_file_that_an_unfinished_backup_left_is_kept_only_with_the_same_contents() {
    let world = World::new();
    let folder = Folder::take(&world.backups()).unwrap();
    world.keep(&folder, "a.parquet").unwrap();
    world.keep(&folder, "b.parquet").unwrap();
    fs::write(world.backups().join("files/b.parquet"), "sec\0nd").unwrap();
    drop(folder);
    assert!(matches!(
        world.restore(&world.target()),
        Err(RestoreError::Backup(BackupError::Unfinished { .. }))
    ));
    assert_eq!(world.back_up(&["a.parquet", "b.parquet"]), ["b.parquet"]);
    world.restore(&world.target()).unwrap();
    assert_eq!(fs::read(world.target().join("b.parquet")).unwrap(), b"second");
}

#[test]
fn a_damaged_backup_becomes_no_data_directory() {
    for damage in ["changed", "shorter", "missing"] {
        let world = World::new();
        world.back_up(&["a.parquet", "b.parquet"]);
        let file = world.backups().join("files/b.parquet");
        match damage {
            "changed" => fs::write(&file, "secone").unwrap(),
            "shorter" => fs::write(&file, "secon").unwrap(),
            _ => fs::remove_file(&file).unwrap(),
        }
        let error = world.restore(&world.target()).unwrap_err();
        assert!(matches!(error, RestoreError::Backup(BackupError::Damaged { .. })), "{error}");
        assert!(error.to_string().contains("b.parquet"), "{error}");
        if damage == "changed" {
            let refused = DataDir::lock(&world.target(), "serve", None).unwrap_err();
            assert!(matches!(refused, OpenError::HalfRestored { .. }), "{refused}");
            assert!(refused.hint().is_some());
            // With the file in order again it goes on.
            fs::write(&file, "second").unwrap();
            world.restore(&world.target()).unwrap();
            DataDir::lock(&world.target(), "serve", None).unwrap();
        } else {
            assert!(!world.target().exists(), "{damage}");
        }
    }
}

#[test]
fn a_backup_is_put_into_nothing_that_is_in_use() {
    let world = World::new();
    world.back_up(&["a.parquet"]);
    let error = world.restore(&world.source()).unwrap_err();
    assert!(matches!(error, RestoreError::Backup(BackupError::NotEmpty { .. })), "{error}");
    let held = DataDir::lock(&world.target(), "serve", None).unwrap();
    let error = world.restore(&world.target()).unwrap_err();
    assert!(matches!(error, RestoreError::Open(OpenError::Held { .. })), "{error}");
    drop(held);
    world.restore(&world.target()).unwrap();

    let error = Folder::take(&world.source()).unwrap_err();
    assert!(matches!(error, BackupError::NotOurs { .. }), "{error}");
}

#[test]
fn a_manifest_that_is_none_is_refused() {
    for text in [
        "",
        "{}",
        "{\"format\":2}",
        r#"{"format":1,"id":"7b0e1c9e-5f0f-4d3a-9c5f-0d6b4f3f0a11","version":"1","finished_at":"",
            "position":1,"lake":null,
            "files":[{"path":"../x","stored":"files/x","bytes":1,"xxh3":""}]}"#,
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), text).unwrap();
        let error = Manifest::read(dir.path()).unwrap_err();
        assert!(matches!(error, BackupError::Manifest { .. }), "{text}: {error}");
        assert!(matches!(Folder::take(dir.path()), Err(BackupError::Manifest { .. })));
    }
}

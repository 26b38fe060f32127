//! A lake that is copied beside its writer, and put back in another folder, is a lake like any other.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use apache_avro::Reader;

use super::super::{is_moved, relocate, root as lake_root, survey, tables};
use super::maintain::{everything, fill, last, run, thorough};
use super::support::{MemoryJournal, config, domain, spawn};

/// Copies the lake of `from` to `to` as a backup does.
fn copy(from: &Path, to: &Path) -> String {
    let lake = to.join("lake");
    fs::create_dir_all(&lake).unwrap();
    let survey = survey(&config(from), &lake.join("catalog.sqlite")).unwrap().unwrap();
    for (below, file) in &survey.files {
        let place = lake.join("warehouse").join(below);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(file, place).unwrap();
    }
    survey.root.unwrap()
}

fn location(data_dir: &Path) -> String {
    format!("file://{}", data_dir.join("lake/warehouse").display())
}

#[test]
fn a_lake_in_another_folder_has_the_same_rows_and_goes_on() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    fill(old.path(), &journal, &domain, 4);
    let root = copy(old.path(), new.path());
    assert_eq!(root, location(old.path()));
    let expected = everything(old.path());
    let warehouse = new.path().join("lake/warehouse");
    let before = schemas(&warehouse);
    let catalog = new.path().join("lake/catalog.sqlite");
    let relocated = relocate(&catalog, &warehouse, &root, &location(new.path())).unwrap();
    assert!(relocated.files > 8, "{relocated:?}");
    // As after an interruption.
    assert_eq!(relocate(&catalog, &warehouse, &root, &location(new.path())).unwrap(), relocated);
    assert_eq!(schemas(&warehouse), before, "field ids and all else of the schemas stay");
    // Nothing of it is read from the old folder.
    fs::rename(old.path().join("lake"), old.path().join("gone")).unwrap();
    assert_eq!(lake_root(&config(new.path())).unwrap(), Some(location(new.path())));
    assert!(!is_moved(&config(new.path())));
    assert_eq!(everything(new.path()), expected);
    for table in tables(&config(new.path())).unwrap() {
        assert!(table.metadata_location.starts_with(&location(new.path())), "{table:?}");
        assert!(table.location.starts_with(&location(new.path())), "{table:?}");
    }
    // Writer and maintenance take it for their own.
    fill(new.path(), &journal, &domain, 3);
    run(new.path(), &thorough());
    let lake = spawn(config(new.path()), &journal, &domain);
    lake.flush(last(&journal)).unwrap();
    lake.stop();
}

#[test]
fn a_lake_that_is_not_there_is_nothing_to_copy() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(survey(&config(dir.path()), &dir.path().join("copy")).unwrap(), None);
    assert!(!dir.path().join("copy").exists());
}

/// The schema and the properties in the head of each manifest and manifest list.
fn schemas(warehouse: &Path) -> BTreeMap<String, (serde_json::Value, BTreeMap<String, Vec<u8>>)> {
    fn walk(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(warehouse, &mut found);
    found.retain(|path| path.extension().is_some_and(|extension| extension == "avro"));
    let read = |path: std::path::PathBuf| {
        let bytes = fs::read(&path).unwrap();
        let reader = Reader::new(&bytes[..]).unwrap();
        let properties = reader.user_metadata().clone().into_iter().collect();
        (path.display().to_string(), (head_schema(&bytes), properties))
    };
    found.into_iter().map(read).collect()
}

/// The schema as it stands in the file, not as a library understands it.
fn head_schema(bytes: &[u8]) -> serde_json::Value {
    let key = b"avro.schema";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    // A length as a zigzag number, then the text.
    let (mut length, mut shift, mut at) = (0_u64, 0, at);
    loop {
        let byte = bytes[at];
        at += 1;
        length |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    serde_json::from_slice(&bytes[at..at + (length / 2) as usize]).unwrap()
}

//! Files of every form, read, stopped, grown, cut and replaced.

use std::fs::{self, OpenOptions};
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::store::PartitionState;

const SMALL: Limits = Limits { records: 3, bytes: 1 << 20 };

fn options(path: &Path) -> FileOptions {
    FileOptions {
        path: path.to_owned(),
        tenant: "default".into(),
        arrived_at: 5,
        at_end: AtEnd::Stop,
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("memory")
}

fn stored(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("events.ndjson");
    fs::write(&path, bytes).expect("can be written");
    (folder, path)
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).open(path).expect("is there");
    file.write_all(bytes).expect("can be written");
}

/// What a run over the file gave.
#[derive(Debug, Default)]
struct Run {
    lines: Vec<(u64, Vec<u8>)>,
    state: PartitionState,
    error: Option<String>,
}

impl Run {
    fn texts(&self) -> Vec<&str> {
        self.lines.iter().map(|(_, line)| std::str::from_utf8(line).expect("text")).collect()
    }
}

/// Reads at most `batches` batches behind `committed`.
fn read(path: &Path, committed: Option<&PartitionState>, batches: usize) -> Run {
    let mut run = Run { state: committed.cloned().unwrap_or_default(), ..Default::default() };
    let mut go = || -> Result<(), SourceError> {
        let mut source = FileSource::open(options(path))?;
        source.resume(&Positions::new(
            committed
                .map(|state| PartitionState { name: source.name().to_owned(), ..state.clone() }),
        ))?;
        for _ in 0..batches {
            let Next::Batch(delivery) = source.next(SMALL, Duration::ZERO)? else {
                break;
            };
            let batch = delivery.batch;
            for (ordinal, record) in batch.records.iter().enumerate() {
                run.lines.push((record.offset, batch.payload(ordinal as u32).to_vec()));
            }
            run.state.next_offset = batch.next_offset;
            run.state.fingerprint = batch.fingerprint;
        }
        Ok(())
    };
    let result = go();
    run.error = result.err().map(|error| error.to_string());
    run
}

const ALL: usize = usize::MAX;

#[test]
fn plain_gzip_and_zstd_give_the_same_lines() {
    let text = b"one\ntwo\n\n  four \r\nfive";
    let mut members = gzip(&text[..6]);
    members.extend(gzip(&text[6..]));
    let mut frames = zstd(&text[..6]);
    frames.extend(zstd(&text[6..]));
    for bytes in [text.to_vec(), gzip(text), members, zstd(text), frames] {
        let (_folder, path) = stored(&bytes);
        let run = read(&path, None, ALL);
        assert_eq!(run.error, None);
        assert_eq!(run.texts(), ["one", "two", "", "  four \r", "five"]);
        let offsets: Vec<u64> = run.lines.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, [0, 4, 8, 9, 18]);
        assert_eq!(run.state.next_offset, 22);
    }
}

#[test]
fn an_empty_file_has_no_records() {
    let (_folder, path) = stored(b"");
    let run = read(&path, None, ALL);
    assert_eq!((run.lines.len(), run.error), (0, None));
}

#[test]
fn a_run_continues_where_the_last_was_committed() {
    let text: String = (0..10).map(|n| format!("line {n}\n")).collect();
    for bytes in [text.clone().into_bytes(), gzip(text.as_bytes()), zstd(text.as_bytes())] {
        let (_folder, path) = stored(&bytes);
        let first = read(&path, None, 2);
        assert_eq!(first.lines.len(), 6);
        let second = read(&path, Some(&first.state), ALL);
        assert_eq!(second.texts(), ["line 6", "line 7", "line 8", "line 9"]);
        let third = read(&path, Some(&second.state), ALL);
        assert_eq!((third.lines.len(), third.error), (0, None));
    }
}

#[test]
fn a_file_that_grew_continues() {
    let (_folder, path) = stored(b"one\ntwo\n");
    let first = read(&path, None, ALL);
    append(&path, b"three\n");
    let second = read(&path, Some(&first.state), ALL);
    assert_eq!((second.texts(), &second.error), (vec!["three"], &None));
    assert_ne!(first.state.fingerprint, second.state.fingerprint, "the new one is over more bytes");

    let (_folder, path) = stored(&gzip(b"one\n"));
    let first = read(&path, None, ALL);
    append(&path, &gzip(b"two\n"));
    assert_eq!(read(&path, Some(&first.state), ALL).texts(), ["two"]);
}

#[test]
fn a_line_feed_that_comes_later_starts_no_line() {
    for end in ["", "\n"] {
        let (_folder, path) = stored(b"one\ntwo");
        let first = read(&path, None, ALL);
        assert_eq!(first.texts(), ["one", "two"]);
        append(&path, format!("\nthree{end}").as_bytes());
        let second = read(&path, Some(&first.state), ALL);
        assert_eq!(second.lines, [(8, b"three".to_vec())]);
    }
    // An empty line after a whole one is a line.
    let (_folder, path) = stored(b"one\n");
    let first = read(&path, None, ALL);
    append(&path, b"\nthree\n");
    assert_eq!(read(&path, Some(&first.state), ALL).texts(), ["", "three"]);
}

#[test]
fn another_file_of_that_name_is_refused() {
    let (_folder, path) = stored(b"one\ntwo\nthree\n");
    let first = read(&path, None, ALL);
    fs::write(&path, b"eins\nzwei\ndrei\n").expect("can be written");
    let error = read(&path, Some(&first.state), ALL).error.expect("refused");
    assert!(error.contains("events.ndjson` is another file"), "{error}");
    assert!(error.contains(first.state.fingerprint.as_deref().expect("stored")), "{error}");

    fs::write(&path, b"one\n").expect("can be written");
    let error = read(&path, Some(&first.state), ALL).error.expect("refused");
    assert!(error.contains("is another file"), "{error}");
}

#[test]
fn a_file_that_shrank_behind_its_beginning_is_refused() {
    let line = format!("{}\n", "x".repeat(1 << 10));
    let (_folder, path) = stored(line.repeat(200).as_bytes());
    let first = read(&path, None, ALL);
    fs::write(&path, line.repeat(100)).expect("can be written");
    let error = read(&path, Some(&first.state), ALL).error.expect("refused");
    assert!(error.contains("has 102500 bytes"), "{error}");
    assert!(error.contains("up to byte 205000"), "{error}");
}

#[test]
fn what_a_cut_file_still_has_is_delivered() {
    let text: String = (0..100_000).map(|n| format!("{{\"line\":{n}}}\n")).collect();
    for whole in [gzip(text.as_bytes()), zstd(text.as_bytes())] {
        let (_folder, path) = stored(&whole[..whole.len() * 2 / 3]);
        let run = read(&path, None, ALL);
        let error = run.error.as_deref().expect("cut off");
        assert!(error.contains("events.ndjson` past byte"), "{error}");
        assert!(run.lines.len() > 10_000, "{}", run.lines.len());
        let read_so_far: u64 = run.lines.iter().map(|(_, line)| line.len() as u64 + 1).sum();
        assert_eq!(run.state.next_offset, read_so_far, "no half line");
        // Once it is whole, the run goes on.
        fs::write(&path, &whole).expect("can be written");
        let rest = read(&path, Some(&run.state), ALL);
        assert_eq!((run.lines.len() + rest.lines.len(), rest.error), (100_000, None));
    }
}

#[test]
fn what_is_no_file_is_said_clearly() {
    let folder = TempDir::new().expect("a folder");
    let error = read(folder.path(), None, ALL).error.expect("refused");
    assert!(error.contains("is a directory, not a regular file"), "{error}");
    let error = read(&folder.path().join("none"), None, ALL).error.expect("refused");
    assert!(error.starts_with("cannot open `") && error.contains("No such file"), "{error}");
}

#[test]
fn a_followed_file_waits_for_whole_lines() {
    let (_folder, path) = stored(b"one\ntw");
    let mut source =
        FileSource::open(FileOptions { at_end: AtEnd::Follow, ..options(&path) }).expect("opens");
    let mut next = || match source.next(SMALL, Duration::ZERO).expect("can be read") {
        Next::Batch(delivery) => Some(delivery.batch.payload(0).to_vec()),
        Next::Idle => None,
        Next::End => panic!("a followed file has no end"),
    };
    assert_eq!(next(), Some(b"one".to_vec()));
    assert_eq!(next(), None);
    append(&path, b"o\n");
    assert_eq!(next(), Some(b"two".to_vec()));
    assert_eq!(next(), None);
}

#[test]
fn progress_reaches_the_stored_length() {
    let (_folder, path) = stored(&gzip(b"one\ntwo\n"));
    let mut source = FileSource::open(options(&path)).expect("opens");
    let total = fs::metadata(&path).expect("is there").len();
    while let Next::Batch(_) = source.next(SMALL, Duration::ZERO).expect("can be read") {}
    assert_eq!(source.progress(), Some(Progress { done: total, total }));
}

#[test]
fn a_line_beyond_the_limit_is_named_after_those_before_it() {
    let text = format!("short\n{}\n", "x".repeat(1 << 20));
    let mut lines =
        Lines::new(Box::new(std::io::Cursor::new(text.into_bytes())), 0).with_max_line(1 << 18);
    let piece = lines.next(Limits::default(), true).expect("the short one").expect("is there");
    assert_eq!(piece.lines.len(), 1);
    let error = lines.next(Limits::default(), true).expect_err("too long").at(Path::new("f"));
    assert!(error.to_string().starts_with("line at byte 6 of `f` is longer than"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_come_back_whatever_the_batches(
        bytes in prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(b'\n')], 0..200),
        records in 1..5_usize,
        size in 1..50_usize,
    ) {
        let mut lines = Lines::new(Box::new(std::io::Cursor::new(bytes.clone())), 0);
        let mut got = Vec::new();
        let mut next_offset = 0;
        while let Some(piece) = lines.next(Limits { records, bytes: size }, true).expect("memory") {
            prop_assert!(!piece.lines.is_empty() && piece.lines.len() <= records);
            prop_assert_eq!(piece.offset, next_offset);
            next_offset = piece.next_offset;
            for line in piece.lines {
                got.push(piece.bytes[line.start..line.start + line.len].to_vec());
            }
        }
        let mut want: Vec<Vec<u8>> =
            bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        if want.last().is_some_and(Vec::is_empty) {
            want.pop();
        }
        prop_assert_eq!(got, want);
        prop_assert_eq!(next_offset, bytes.len() as u64);
    }
}

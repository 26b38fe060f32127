//! A data directory looked at without its contracts: what a person may ask when they are not at
//! hand. The caller holds the directory.

use std::path::Path;

use super::dead_letters::{DeadLetterFilter, Page, StoredDeadLetter, page};
use super::schema::{DEAD_LETTERS, Table};
use super::{OpenError, Store, StoreOptions, database, failed};
use pipeline::store::dead_letter_schema;

impl Store {
    /// Is there a store in `dir`?
    pub fn exists(dir: &Path) -> bool {
        database::file(dir).is_file()
    }
}

/// Calls `each` with all dead letters in order of rejection, or those with `reason`.
pub fn read_dead_letters<E>(
    dir: &Path,
    reason: Option<&str>,
    mut each: impl FnMut(StoredDeadLetter) -> Result<(), E>,
) -> Result<Result<(), E>, OpenError> {
    /// Letters read at a time; payloads may be large.
    const CHUNK: usize = 1_000;

    let conn = database::open(dir, &StoreOptions::default())?;
    database::check_format(&conn, dir)?;
    let mut table = Table::new(DEAD_LETTERS, dead_letter_schema());
    table.learn_order(&conn)?;
    let filter = DeadLetterFilter { tenant: None, reason: reason.map(str::to_owned) };
    let mut after = None;
    loop {
        let chunk = Page { newest_first: false, after, limit: CHUNK };
        let letters = page(&conn, &table, &filter, &chunk)
            .map_err(|error| failed("read dead letters", &error))?;
        let Some(last) = letters.last() else { return Ok(Ok(())) };
        after = Some(last.id);
        for letter in letters {
            if let Err(error) = each(letter) {
                return Ok(Err(error));
            }
        }
    }
}

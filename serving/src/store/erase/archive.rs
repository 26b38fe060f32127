//! Rows that only the lake has, as an erasure leaves them, also while the lake has still more.

use std::sync::Arc;

use pipeline::sink::iceberg::{HistoryRange, HistoryTable};

use super::super::archive::{Archive, ArchiveError, Take};
use super::super::trimmed::Trimmed;
use super::Erasures;

/// An archive behind the erasures that are not done in it yet.
pub(in crate::store) struct ErasedArchive {
    pub(in crate::store) lake: Arc<dyn Archive>,
    pub(in crate::store) erasures: Erasures,
}

impl Archive for ErasedArchive {
    fn each(
        &self,
        trimmed: &Trimmed,
        table: HistoryTable,
        range: &HistoryRange<'_>,
        take: &mut Take<'_>,
    ) -> Result<(), ArchiveError> {
        // The store gives only counts of dead letters from the lake.
        let HistoryTable::Family(family) = table else {
            return self.lake.each(trimmed, table, range, take);
        };
        if let Some(error) = self.erasures.unknown() {
            return Err(ArchiveError::Erasing(error));
        }
        let mut erasers = self.erasures.pending();
        erasers.retain(|eraser| eraser.concerns(family));
        if erasers.is_empty() {
            return self.lake.each(trimmed, table, range, take);
        }
        // Whose a row is may be told by columns that nobody asked for.
        let whole = HistoryRange { columns: None, ..range.clone() };
        self.lake.each(trimmed, table, &whole, &mut |rows| {
            let mut rows = rows.clone();
            for eraser in &erasers {
                let erased = eraser.erase(family, &rows).map_err(|source| ArchiveError::Rows {
                    table: self.erasures.domain().families[family].table(),
                    source,
                })?;
                if let Some(erased) = erased {
                    rows = erased.rows;
                }
            }
            take(&rows)
        })
    }
}

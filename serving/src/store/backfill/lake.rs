//! Old events out of the lake, read on a thread of their own: the writer takes what is there.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use contracts::model::column;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use pipeline::sink::iceberg::{HistoryRange, HistoryTable};

use crate::store::archive::{Archive, ArchiveError};
use crate::store::trimmed::Trimmed;

/// Sequence numbers that are read at once. Two such stretches may be in memory.
const SEQS_PER_READ: i64 = if cfg!(test) { 60 } else { 65_536 };

/// Reads ahead of the writer.
pub(super) struct LakeReader {
    ask: Sender<Ask>,
    told: Receiver<Result<Old, ArchiveError>>,
    asked: bool,
    ready: Option<Old>,
}

struct Ask {
    trimmed: Arc<Trimmed>,
    families: Vec<usize>,
    after: i64,
    until: i64,
}

/// The events with `after < _seq <= until` of the families asked for, each ascending.
pub(super) struct Old {
    pub after: i64,
    pub until: i64,
    pub families: Vec<(usize, RecordBatch)>,
}

impl LakeReader {
    pub(super) fn start(archive: Arc<dyn Archive>) -> std::io::Result<Self> {
        let (ask, asked) = bounded::<Ask>(1);
        let (tell, told) = bounded(1);
        std::thread::Builder::new().name("backfill-lake".into()).spawn(move || {
            for ask in asked {
                if tell.send(read(&*archive, &ask)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { ask, told, asked: false, ready: None })
    }

    /// The stretch that goes on after `after`, when it is there.
    pub(super) fn take(
        &mut self,
        trimmed: &Arc<Trimmed>,
        families: &[usize],
        after: i64,
    ) -> Result<Option<&Old>, ArchiveError> {
        let fits = |old: &Old| old.after <= after && after < old.until;
        if !self.ready.as_ref().is_some_and(fits) {
            self.ready = None;
            if self.asked {
                match self.told.try_recv() {
                    Ok(told) => {
                        self.asked = false;
                        self.ready = Some(told?).filter(fits);
                    }
                    Err(TryRecvError::Empty) => return Ok(None),
                    Err(TryRecvError::Disconnected) => return Err(ArchiveError::Enough),
                }
            }
        }
        let next = self.ready.as_ref().map_or(after, |old| old.until);
        if !self.asked && next < trimmed.seq {
            let until = trimmed.seq.min(next.saturating_add(SEQS_PER_READ));
            let families = families.to_vec();
            let ask = Ask { trimmed: Arc::clone(trimmed), families, after: next, until };
            self.asked = self.ask.try_send(ask).is_ok();
        }
        Ok(self.ready.as_ref())
    }
}

impl Old {
    /// The rows with `after < _seq <= until`.
    pub(super) fn within(&self, after: i64, until: i64) -> Vec<(usize, RecordBatch)> {
        let part = |rows: &RecordBatch| {
            let seqs = seqs(rows);
            let from = seqs.partition_point(|seq| *seq <= after);
            let to = seqs.partition_point(|seq| *seq <= until);
            rows.slice(from, to - from)
        };
        let parts = self.families.iter().map(|(family, rows)| (*family, part(rows)));
        parts.filter(|(_, rows)| rows.num_rows() > 0).collect()
    }
}

fn seqs(rows: &RecordBatch) -> &[i64] {
    let column = rows.column_by_name(column::SEQ);
    column.map_or(&[], |column| column.as_primitive::<Int64Type>().values())
}

fn read(archive: &dyn Archive, ask: &Ask) -> Result<Old, ArchiveError> {
    let mut families = Vec::new();
    for &family in &ask.families {
        let range = HistoryRange { after: ask.after, until: ask.until, ..HistoryRange::default() };
        let mut found = Vec::new();
        archive.each(&ask.trimmed, HistoryTable::Family(family), &range, &mut |rows| {
            found.push(rows.clone());
            Ok(())
        })?;
        let Some(first) = found.first() else { continue };
        let rows = in_order(first, &found)
            .map_err(|source| ArchiveError::Rows { table: format!("family {family}"), source })?;
        families.push((family, rows));
    }
    Ok(Old { after: ask.after, until: ask.until, families })
}

fn in_order(first: &RecordBatch, found: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let all = concat_batches(&first.schema(), found)?;
    let order = sort_to_indices(all.column(all.schema().index_of(column::SEQ)?), None, None)?;
    take_record_batch(&all, &order)
}

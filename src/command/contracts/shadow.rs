//! `agentflow contracts diff --shadow`: how the numbers of a data directory would move.
//!
//! The directory itself is not touched: its store is copied, and everything happens in the copy, which is
//! gone afterwards. Memory is bounded by what the store may take.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ::contracts::meaning::{Change, Loaded};
use serde::Serialize;
use serving::shadow::{self, Answers, Moment, Moved};
use serving::store::data_dir::DataDir;
use serving::store::{LakeArchive, Store, StoreOptions};

use crate::failure::{Context, Failure, chain};
use crate::lake_args::LakeArgs;
use crate::opened::{self, Access};
use crate::{lake_args, progress};

/// Memory that DuckDB may take meanwhile: nothing else runs on the copy.
const MEMORY_MIB: u32 = 768;

/// What moved.
#[derive(Debug, Serialize)]
pub(super) struct Shadow {
    /// The moment that was asked for: the newest event, as RFC 3339.
    as_of: Option<String>,
    /// Whose numbers.
    tenant: String,
    /// The metrics that the changes affect.
    metrics: Vec<Moved>,
}

/// Computes both meanings over the rows of `data`.
pub(super) fn run(
    (old, new): (&Loaded, &Loaded),
    changes: &[Change],
    data: &Path,
    place: &LakeArgs,
    tenant: &str,
) -> Result<Shadow, Failure> {
    let mut metrics: Vec<String> = changes.iter().flat_map(|c| c.affects.clone()).collect();
    metrics.sort_unstable();
    metrics.dedup();
    let directory = match opened::access(data, "contracts diff")? {
        Access::Directory(directory) => directory,
        Access::Server(_) => {
            return Err(Failure::input(format!("a server works on `{}`", data.display())).hint(
                "make a backup with `agentflow backup`, restore it elsewhere, and give that directory",
            ));
        }
    };
    let copy = tempfile::Builder::new()
        .prefix("agentflow-shadow-")
        .tempdir()
        .ours(|| "make a temporary directory".to_owned())?;
    copy_store(directory.path(), copy.path())?;
    let under =
        Under { copy: copy.path(), directory: &directory, place, metrics: &metrics, tenant };
    let (before, moment) = under.ask(old, None).map_err(|failure| of("OLD", failure))?;
    let Some(moment) = moment else {
        return Ok(Shadow { as_of: None, tenant: tenant.to_owned(), metrics: Vec::new() });
    };
    let (after, _) = under.ask(new, Some(moment)).map_err(|failure| of("NEW", failure))?;
    Ok(Shadow {
        as_of: Some(serving::value::time_text(moment.event)),
        tenant: tenant.to_owned(),
        metrics: shadow::compare(&before, &after),
    })
}

fn of(which: &str, failure: Failure) -> Failure {
    let (message, hint) = failure.first();
    Failure::input(format!("the stored rows cannot follow {which}: {message}")).maybe_hint(hint)
}

/// The store's files as they are: nobody writes them while we hold the directory.
fn copy_store(from: &Path, to: &Path) -> Result<(), Failure> {
    for name in ["serving.duckdb", "serving.duckdb.wal"] {
        let source = from.join(name);
        if source.exists() {
            fs::copy(&source, to.join(name)).ours(|| {
                format!(
                    "copy `{}` to `{}` (TMPDIR names another place)",
                    source.display(),
                    to.display()
                )
            })?;
        }
    }
    Ok(())
}

struct Under<'a> {
    copy: &'a Path,
    directory: &'a DataDir,
    place: &'a LakeArgs,
    metrics: &'a [String],
    tenant: &'a str,
}

impl Under<'_> {
    /// Opens the copy under these contracts and asks, as of `moment` or the newest event.
    fn ask(
        &self,
        loaded: &Loaded,
        moment: Option<Moment>,
    ) -> Result<(Answers, Option<Moment>), Failure> {
        let domain = Arc::clone(&loaded.domain);
        let lake = lake_args::config(self.directory, self.place.catalog()?)?;
        let options = StoreOptions {
            memory_limit_mib: MEMORY_MIB,
            query_time_limit: std::time::Duration::from_secs(300),
            progress: Some(progress::of_store()),
            archive: Some(Arc::new(LakeArchive::new(lake, Arc::clone(&domain)))),
            ..StoreOptions::default()
        };
        let store = Store::open(self.copy, Arc::clone(&domain), options)
            .map_err(|error| opened::refused(&error))?;
        let readers = store.readers();
        let newest = Moment::of(&readers).map_err(|error| Failure::ours(chain(&error)))?;
        let Some(moment) = moment.or(newest) else { return Ok((Answers::new(), None)) };
        let answers = shadow::ask(&domain, &readers, self.metrics, self.tenant, moment);
        Ok((answers, Some(moment)))
    }
}

impl Shadow {
    /// For people.
    pub(super) fn text(&self) -> String {
        let Some(as_of) = &self.as_of else {
            return "there are no events yet, so no number moves".to_owned();
        };
        if self.metrics.is_empty() {
            return "no metric that was there is affected, so no number moves".to_owned();
        }
        let mut lines = vec![format!("as of {as_of}, tenant `{}`:", self.tenant)];
        for metric in &self.metrics {
            for window in &metric.windows {
                let mut line = format!(
                    "{}, {}: {} → {} ({})",
                    metric.metric, window.window, window.old, window.new, window.difference
                );
                if let Some(problem) = &window.problem {
                    line += &format!(": {problem}");
                }
                lines.push(line);
                for (dimension, movers) in &window.movers {
                    for mover in movers {
                        let value = mover.value.as_deref().unwrap_or("null");
                        lines.push(format!(
                            "  {dimension}={value}: {} → {} ({})",
                            mover.old, mover.new, mover.difference
                        ));
                    }
                }
            }
        }
        lines.join("\n")
    }
}

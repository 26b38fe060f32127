//! `agentflow rebuild`: the serving store made anew from the lake.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::{Args, ValueEnum};
use pipeline::sink::iceberg::{History, LakeCatalog, LakeConfig};
use serde::Serialize;
use serving::store::data_dir::DataDir;
use serving::store::erase::is_pending_in;
use serving::store::{LakeRebuild, RebuildError, Store, StoreOptions, identity_of};
use uuid::Uuid;

use super::{ContractsArg, DataArg};
use crate::failure::{Failure, chain};
use crate::lake_args::LakeArgs;
use crate::output::{self, Output, OutputArgs};
use crate::{domain, opened, progress, signals};

/// Memory that DuckDB may take meanwhile: nothing else runs on the directory.
const MEMORY_MIB: u32 = 1_536;

#[derive(Debug, Args)]
pub(super) struct Rebuild {
    /// What the store is made from.
    #[arg(long, value_enum)]
    from: From,
    #[command(flatten)]
    contracts: ContractsArg,
    #[command(flatten)]
    data: DataArg,
    #[command(flatten)]
    place: LakeArgs,
    /// Make it although there is a store. That one is kept beside it under another name.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum From {
    /// The Iceberg tables of the data directory, or of a REST catalog.
    Lake,
}

/// What was made, for programs.
#[derive(Serialize)]
struct Report {
    events: u64,
    position: i64,
    dead_letters: u64,
    ingest_rows: u64,
    partitions: usize,
    beyond_the_last_complete_point: u64,
    replaced: Option<String>,
    seconds: f64,
}

impl Rebuild {
    pub(super) fn run(self) -> Result<(), Failure> {
        let From::Lake = self.from;
        let started = Instant::now();
        let domain = domain::load(&self.contracts.contracts)?;
        let data = &self.data.data;
        let directory =
            DataDir::lock(data, "rebuild", None).map_err(|error| opened::refused(&error))?;
        if Store::exists(data) && !self.replace {
            return Err(Failure::input(format!("there is a store in `{}`", data.display()))
                .hint("it needs no rebuild while it opens; --replace makes it anew all the same"));
        }
        // A store that cannot be read any more may be why it is made anew.
        if Store::exists(data) && is_pending_in(data).unwrap_or(false) {
            return Err(Failure::input(
                "an erasure is not done in the lake yet: the new store would have again what was erased",
            )
            .hint("`agentflow erase` for the same key, or `agentflow serve`, ends it; then rebuild"));
        }
        let config = LakeConfig { catalog: self.place.catalog()?, ..LakeConfig::new(data) };
        let history = History::open(&config, &domain).map_err(|error| {
            Failure::input(chain(&error)).hint(
                "the lake is looked for in the data directory, or where --lake-catalog says; its \
                 tables are those of the contracts' domain",
            )
        })?;
        if let Some(owner) = history.owner() {
            self.adopt(&directory, owner, &config)?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        signals::on_end(move || asked.store(true, Ordering::Relaxed))?;
        let options = StoreOptions {
            memory_limit_mib: MEMORY_MIB,
            progress: Some(progress::of_store()),
            ..StoreOptions::default()
        };
        let rebuild = LakeRebuild {
            dir: data,
            domain,
            history: &history,
            options,
            stop: &|| stop.load(Ordering::Relaxed),
        };
        let rebuilt = rebuild.run().map_err(refused)?;
        let report = Report {
            events: rebuilt.events,
            position: rebuilt.last_seq,
            dead_letters: rebuilt.dead_letters,
            ingest_rows: rebuilt.ingest_rows,
            partitions: rebuilt.partitions,
            beyond_the_last_complete_point: rebuilt.beyond,
            replaced: rebuilt.replaced.map(|path| path.display().to_string()),
            seconds: started.elapsed().as_secs_f64(),
        };
        match self.output.output {
            Output::Json => output::json(&report),
            Output::Text => output::line(&report.text()),
        }
    }
}

impl Rebuild {
    /// The directory becomes the one that wrote the lake, if it is not another one already. A local
    /// lake belongs to whoever has its folder.
    fn adopt(&self, directory: &DataDir, owner: Uuid, config: &LakeConfig) -> Result<(), Failure> {
        let own = identity_of(directory.path()).map_err(|error| opened::refused(&error))?;
        match own {
            Some(own) if own != owner && config.catalog != LakeCatalog::Local => {
                Err(Failure::input(format!(
                    "`{}` has the identity {own}, the lake belongs to the data directory {owner}",
                    directory.path().display()
                ))
                .hint("make the store in a new data directory, which takes over that identity"))
            }
            Some(_) => Ok(()),
            None => directory.adopt(owner).map_err(|error| opened::refused(&error)),
        }
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!(
            "{} events up to position {}, {} dead letters, {} source partitions in {:.1} s",
            self.events, self.position, self.dead_letters, self.partitions, self.seconds
        );
        if self.beyond_the_last_complete_point > 0 {
            text.push_str(&format!(
                "\n{} of the events are beyond the point at which the lake was last complete; their \
                 sources go on from that point and may send them again, as duplicates",
                self.beyond_the_last_complete_point
            ));
        }
        if let Some(replaced) = &self.replaced {
            text.push_str(&format!("\nthe store that was there is `{replaced}` now"));
        }
        text
    }
}

fn refused(error: RebuildError) -> Failure {
    match &error {
        RebuildError::Stopped => Failure::interrupted("stopped before the store was whole")
            .hint("run it again: it goes on where it was"),
        RebuildError::Open(error) => opened::refused(error),
        RebuildError::Lake(_) => Failure::ours(chain(&error))
            .hint("run it again once the lake can be read: it goes on where it was"),
        RebuildError::Rows { .. } => Failure::input(chain(&error))
            .hint("rebuild with the contracts that the lake was written with"),
        RebuildError::Incomplete { .. } => Failure::input(chain(&error)).hint(
            "set the table to the snapshot that has them, or start the server on its old store, \
             which writes them again",
        ),
    }
}

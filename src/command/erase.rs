//! `agentflow erase`: what belongs to one key of an entity, out of the store and the lake.
//!
//! Through the running server when one holds the data directory; otherwise the directory is held
//! meanwhile, and an erasure that was cut off before is ended first.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::contracts::model::Domain;
use clap::Args;
use pipeline::erase::{EraseError, Subject};
use pipeline::sink::iceberg::{Lake, LakeConfig};
use pipeline::store::Journal;
use serde::{Deserialize, Serialize};
use serving::http::ErasureBody;
use serving::store::data_dir::DataDir;
use serving::store::erase::{EraseFailure, EraseRequest, Erasure};
use serving::store::{LakeArchive, Store, StoreOptions, Writer};

use super::DataArg;
use crate::erasing;
use crate::failure::{Context, Failure, chain};
use crate::lake_args::{self, LakeArgs};
use crate::opened::{self, Access, Server};
use crate::output::{self, Output, OutputArgs};
use crate::progress::{self, Bar};
use crate::{domain, logging, signals};

/// The tenant that the command line means, as HTTP does while there are no keys.
const TENANT: &str = "default";

/// Between two looks at how far the server is.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(
    after_help = "Events keep their id, their place and what is not personal; their fields with \
`pii: true`, the columns that name the key and members that no contract knows become null, also in \
what was computed from them. Entities are folded again. Dead letters that name the key lose their \
bytes. In the lake the files are written anew, and older snapshots of those tables expire.\n\
Not reached: backups, Kafka topics, and copies that others made of the lake.\n\nExamples:
  agentflow erase --data DIR --contracts DIR --entity user --key USR-10001 --dry-run
  agentflow erase --data DIR --contracts DIR --entity user --key USR-10001 --reason 'ticket 42'
  agentflow erase --data DIR --contracts DIR --history"
)]
pub(super) struct Erase {
    #[command(flatten)]
    data: DataArg,
    /// Folder with the contracts (`*.yaml`); not needed beside a running server, which has its own.
    #[arg(long, value_name = "DIR", env = "AGENTFLOW_CONTRACTS")]
    contracts: Option<PathBuf>,
    #[command(flatten)]
    place: LakeArgs,
    /// Name of the entity.
    #[arg(long, required_unless_present = "history")]
    entity: Option<String>,
    /// Its key.
    #[arg(long, required_unless_present = "history")]
    key: Option<String>,
    /// Why, for the record. It is kept, so it should not name anybody.
    #[arg(long, value_name = "TEXT", conflicts_with = "history")]
    reason: Option<String>,
    /// Only count what would be erased.
    #[arg(long, conflicts_with = "history")]
    dry_run: bool,
    /// Show the record of erasures; with --entity and --key only those of that key.
    #[arg(long)]
    history: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// As the API takes it.
#[derive(Serialize)]
struct Asked<'a> {
    entity: &'a str,
    key: &'a str,
    reason: Option<&'a str>,
    dry_run: bool,
}

#[derive(Deserialize)]
struct Listed {
    erasures: Vec<ErasureBody>,
}

/// The API's error body, as far as it is told here.
#[derive(Deserialize)]
struct Refusal {
    detail: String,
    #[serde(default)]
    hint: Option<String>,
}

impl Erase {
    pub(super) fn run(self) -> Result<(), Failure> {
        logging::start("warn");
        match opened::access(&self.data.data, "erase")? {
            Access::Server(server) if self.history => {
                let (status, body) = server.get(&["v1", "erasures"], &[])?;
                let listed: Listed = answer(status, 200, &body)?;
                self.tell_all(listed.erasures)
            }
            Access::Server(server) => self.through(&server),
            Access::Directory(directory) => self.in_directory(&directory),
        }
    }

    fn through(&self, server: &Server) -> Result<(), Failure> {
        let (status, body) = server.post(
            &["v1", "erasures"],
            &Asked {
                entity: self.entity(),
                key: self.key(),
                reason: self.reason.as_deref(),
                dry_run: self.dry_run,
            },
        )?;
        if self.dry_run {
            return self.tell(&answer(status, 200, &body)?);
        }
        let mut erasure: ErasureBody = answer(status, 202, &body)?;
        let stop = asked_to_end()?;
        let mut told = None;
        while erasure.state != "done" {
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::interrupted(format!(
                    "the server goes on with the erasure {} in the lake",
                    erasure.id
                )));
            }
            if erasure.problem.is_some() && erasure.problem != told {
                eprintln!("warning: {}", erasure.problem.as_deref().unwrap_or_default());
                told = erasure.problem.take();
            }
            std::thread::sleep(LOOK);
            let (status, body) = server.get(&["v1", "erasures", &erasure.id], &[])?;
            erasure = answer(status, 200, &body)?;
        }
        self.tell(&erasure)
    }

    fn in_directory(&self, directory: &DataDir) -> Result<(), Failure> {
        let Some(contracts) = &self.contracts else {
            return Err(Failure::input(
                "no server runs on the directory, so --contracts is needed",
            )
            .hint("give the folder with the contracts that it was written with"));
        };
        let domain = domain::load(contracts)?;
        let config = lake_args::config(directory, self.place.catalog()?)?;
        let options = StoreOptions {
            progress: Some(progress::of_store()),
            archive: Some(Arc::new(LakeArchive::new(config.clone(), Arc::clone(&domain)))),
            ..StoreOptions::default()
        };
        let store = opened::open_with(directory, Arc::clone(&domain), options)?;
        if self.history {
            let all = store.readers().erasures().ours(|| "read the erasures".to_owned())?;
            return self.tell_all(all.into_iter().map(|e| ErasureBody::new(e, None)).collect());
        }
        let mut writer = store.writer().ours(|| "open the store for writing".to_owned())?;
        let stop = asked_to_end()?;
        let mut work = Work { store: &store, writer: &mut writer, domain, config, stop };
        // What was cut off before.
        work.finish()?;
        let request = EraseRequest {
            subject: Subject {
                tenant: TENANT.to_owned(),
                entity: self.entity().to_owned(),
                key: self.key().to_owned(),
            },
            reason: self.reason.clone(),
            dry_run: self.dry_run,
        };
        let erased = work.writer.erase(&request).map_err(refused)?;
        if self.dry_run {
            return self.tell(&ErasureBody::new(erased, None));
        }
        work.finish()?;
        let id = erased.id;
        let done = store.readers().erasure(id).ours(|| "read the erasure".to_owned())?;
        self.tell(&ErasureBody::new(done.unwrap_or(erased), None))
    }

    fn entity(&self) -> &str {
        self.entity.as_deref().unwrap_or_default()
    }

    fn key(&self) -> &str {
        self.key.as_deref().unwrap_or_default()
    }

    fn tell(&self, erasure: &ErasureBody) -> Result<(), Failure> {
        match self.output.output {
            Output::Json => output::json(erasure),
            Output::Text => output::line(&text(erasure)),
        }
    }

    fn tell_all(&self, mut all: Vec<ErasureBody>) -> Result<(), Failure> {
        if let (Some(entity), Some(key)) = (&self.entity, &self.key) {
            all.retain(|erasure| &erasure.entity == entity && is_of(erasure, key));
        }
        match self.output.output {
            Output::Json => output::json(&all),
            Output::Text if all.is_empty() => output::line("nothing was erased"),
            Output::Text => {
                let mut rows = vec![
                    ["id", "asked for", "state", "entity", "rows", "why"]
                        .map(str::to_owned)
                        .to_vec(),
                ];
                rows.extend(all.into_iter().map(|erasure| {
                    let count: u64 = erasure.store_rows.values().sum();
                    vec![
                        erasure.id,
                        erasure.requested_at,
                        erasure.state,
                        erasure.entity,
                        count.to_string(),
                        erasure.reason.unwrap_or_default(),
                    ]
                }));
                output::line(output::table(&rows).trim_end())
            }
        }
    }
}

/// A store that is held, and its lake.
struct Work<'a> {
    store: &'a Store,
    writer: &'a mut Writer,
    domain: Arc<Domain>,
    config: LakeConfig,
    stop: Arc<AtomicBool>,
}

impl Work<'_> {
    /// Erases in the lake whatever is left.
    fn finish(&mut self) -> Result<(), Failure> {
        let again = "the store is done; run it again to go on with the lake";
        loop {
            let pending = self.store.readers().pending_erasures();
            let mut pending = pending.ours(|| "read the erasures".to_owned())?.into_iter();
            let Some((erasure, order)) = pending.next() else { return Ok(()) };
            let journal: Arc<dyn Journal> = Arc::new(self.store.readers());
            let lake = Lake::spawn(self.config.clone(), journal, Arc::clone(&self.domain))
                .ours(|| "start the lake".to_owned())?;
            let flushed = lake.flush(order.until_seq);
            lake.stop();
            flushed.map_err(|error| Failure::ours(chain(&error)).hint(again))?;
            let bar = Bar::new("erase");
            let stop = Arc::clone(&self.stop);
            let writer = &mut *self.writer;
            let rows = erasing::in_lake(
                &self.config,
                &self.domain,
                &order,
                &move || stop.load(Ordering::Relaxed),
                &mut |files| writer.erasing(erasure.id, files).map_err(|error| chain(&error)),
                &mut |at| bar.step(&at.table, at.done_files, at.total_files),
            );
            bar.finish();
            match rows.map_err(|problem| Failure::ours(problem).hint(again))? {
                None => return Err(Failure::interrupted(again)),
                Some(rows) => self
                    .writer
                    .erased(erasure.id, &rows)
                    .ours(|| "note that the erasure is done".to_owned())?,
            }
        }
    }
}

fn asked_to_end() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    signals::on_end(move || asked.store(true, Ordering::Relaxed))?;
    Ok(stop)
}

fn answer<T: serde::de::DeserializeOwned>(
    status: u16,
    wanted: u16,
    body: &str,
) -> Result<T, Failure> {
    let unexpected = || Failure::ours(format!("the running server answered {status}: {body}"));
    if status == wanted {
        return serde_json::from_str(body).map_err(|_| unexpected());
    }
    let Ok(refusal) = serde_json::from_str::<Refusal>(body) else { return Err(unexpected()) };
    let failure = match status {
        400..500 => Failure::input(refusal.detail),
        _ => Failure::ours(refusal.detail),
    };
    Err(failure.maybe_hint(refusal.hint))
}

fn refused(error: EraseFailure) -> Failure {
    match error {
        EraseFailure::Request(EraseError::UnknownEntity(_)) => {
            Failure::input(error.to_string()).hint("`agentflow contracts graph` shows all entities")
        }
        EraseFailure::Request(_) => Failure::input(error.to_string()),
        error => Failure::ours(chain(&error)).hint("nothing was erased"),
    }
}

/// Is it the record of that key?
fn is_of(erasure: &ErasureBody, key: &str) -> bool {
    Erasure::digest_of(&erasure.id, TENANT, &erasure.entity, key) == erasure.key_digest
}

fn text(erasure: &ErasureBody) -> String {
    let what = match erasure.state.as_str() {
        "dry_run" => "would be erased",
        _ => "erased",
    };
    let tables: std::collections::BTreeSet<&String> =
        erasure.store_rows.keys().chain(erasure.lake_rows.keys()).collect();
    if tables.is_empty() {
        return format!("nothing of that key of `{}` is here", erasure.entity);
    }
    let mut rows = vec![["table", "rows"].map(str::to_owned).to_vec()];
    let of = |place: &str, rows: &std::collections::BTreeMap<String, u64>| -> Vec<Vec<String>> {
        let rows = rows.iter();
        rows.map(|(table, count)| vec![format!("{place} {table}"), count.to_string()]).collect()
    };
    rows.extend(of("store", &erasure.store_rows));
    rows.extend(of("lake", &erasure.lake_rows));
    let mut text = format!("{what}, as {}:\n{}", erasure.id, output::table(&rows).trim_end());
    if erasure.state == "done" {
        text.push_str("\nbackups, Kafka topics and copies elsewhere still have what they had");
    }
    text
}

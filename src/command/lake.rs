//! `agentflow lake`: the Iceberg tables of a data directory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, Subcommand};
use pipeline::sink::iceberg::{self, LakeCatalog, LakeConfig, LakeError, Maintenance, TableReport};
use serving::store::data_dir::DataDir;
use serving::store::identity_of;

use super::{DataArg, restore};
use crate::failure::{Failure, chain};
use crate::lake_args::LakeArgs;
use crate::opened;
use crate::output::{self, Output, OutputArgs};
use crate::progress::Bar;
use crate::signals;

#[derive(Debug, Args)]
pub(super) struct Lake {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the tables: where their metadata is, rows, snapshot, and how far they follow the
    /// journal. Works beside a running server.
    Tables(Tables),
    /// Merge small files, expire old snapshots and remove files that no snapshot needs. Works beside a
    /// running server; Ctrl-C ends it after the merge under way, and the next run goes on.
    Maintain(Maintain),
    /// Make the tables those of the folder that they lie in, after the data directory was moved: their
    /// files name each other by absolute paths. Nobody may work on the directory meanwhile; interrupted,
    /// it is run again.
    Relocate(Relocate),
}

#[derive(Debug, Args)]
struct Relocate {
    #[command(flatten)]
    data: DataArg,
}

#[derive(Debug, Args)]
struct Maintain {
    #[command(flatten)]
    data: DataArg,
    #[command(flatten)]
    place: LakeArgs,
    /// Only this table.
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Size that data files should have.
    #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=16_384))]
    target_mib: u64,
    /// Small files of a partition (a day, unless the contract says otherwise) that is still written to are
    /// merged once there are so many.
    #[arg(long, value_name = "FILES", default_value_t = 8, value_parser = clap::value_parser!(u64).range(2..))]
    min_files: u64,
    /// Snapshots younger than this stay, and with them the history that readers can go back to.
    #[arg(long, value_name = "HOURS", default_value_t = 120)]
    keep_hours: u64,
    /// So many of the newest snapshots stay, however old.
    #[arg(long, value_name = "SNAPSHOTS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    keep_snapshots: u64,
    /// Files that no snapshot needs stay this long: a commit may be on its way, or a reader on them.
    #[arg(long, value_name = "HOURS", default_value_t = 72, value_parser = clap::value_parser!(u64).range(1..))]
    grace_hours: u64,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct Tables {
    #[command(flatten)]
    data: DataArg,
    #[command(flatten)]
    place: LakeArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Lake {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Tables(tables) => tables.run(),
            Action::Maintain(maintain) => maintain.run(),
            Action::Relocate(relocate) => relocate.run(),
        }
    }
}

impl Tables {
    fn run(self) -> Result<(), Failure> {
        exists(&self.data.data)?;
        let config = config(&self.data.data, &self.place)?;
        let tables = iceberg::tables(&config).map_err(|e| unreadable(&config, &e))?;
        if self.output.output == Output::Json {
            return output::json(&tables);
        }
        let mut rows =
            vec![["table", "rows", "position", "snapshot", "metadata"].map(str::to_owned).to_vec()];
        let or_none = |number: Option<i64>| number.map_or("-".to_owned(), |n| n.to_string());
        rows.extend(tables.into_iter().map(|table| {
            vec![
                format!("{}.{}", table.namespace, table.name),
                table.rows.to_string(),
                or_none(table.position),
                or_none(table.snapshot),
                table.metadata_location,
            ]
        }));
        output::line(output::table(&rows).trim_end())
    }
}

impl Maintain {
    fn run(self) -> Result<(), Failure> {
        exists(&self.data.data)?;
        let hours = |hours: u64| Duration::from_secs(hours.saturating_mul(3_600));
        let maintenance = Maintenance {
            target_file_bytes: self.target_mib << 20,
            min_files: usize::try_from(self.min_files).unwrap_or(usize::MAX),
            keep_for: hours(self.keep_hours),
            keep_snapshots: usize::try_from(self.keep_snapshots).unwrap_or(usize::MAX),
            grace: hours(self.grace_hours),
            dry_run: self.dry_run,
            ..Maintenance::default()
        };
        let config = config(&self.data.data, &self.place)?;
        let known = || iceberg::tables(&config).map_err(|e| unreadable(&config, &e));
        if let Some(wanted) = &self.table {
            let names: Vec<String> = known()?.into_iter().map(|table| table.name).collect();
            if !names.contains(wanted) {
                return Err(Failure::input(format!("the lake has no table `{wanted}`"))
                    .hint(format!("it has {}", names.join(", "))));
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        signals::on_end(move || asked.store(true, Ordering::Relaxed))?;
        let bar = Bar::new("merge");
        let reports = iceberg::maintain(
            &config,
            &maintenance,
            self.table.as_deref(),
            &|| stop.load(Ordering::Relaxed),
            &mut |progress| {
                bar.step(&progress.table, progress.done_bytes, progress.total_bytes);
            },
        );
        bar.finish();
        let reports = reports.map_err(|error| unreadable(&config, &error))?;
        if self.output.output == Output::Json {
            output::json(&reports)?;
        } else {
            output::line(output::table(&rows(&reports)).trim_end())?;
        }
        for report in &reports {
            for skipped in &report.skipped {
                eprintln!("warning: table `{}`: {skipped}", report.table);
            }
        }
        match reports.iter().all(|report| report.skipped.is_empty()) {
            true => Ok(()),
            false => Err(Failure::ours("some of it could not be done; see above")
                .hint("the rest was done, and nothing is lost: run it again")),
        }
    }
}

impl Relocate {
    fn run(self) -> Result<(), Failure> {
        exists(&self.data.data)?;
        let directory = DataDir::lock(&self.data.data, "lake relocate", None)
            .map_err(|error| opened::refused(&error))?;
        let config = LakeConfig::new(directory.path());
        let root = iceberg::root(&config).map_err(|error| Failure::ours(chain(&error)))?;
        let files = match root {
            Some(root) => restore::relocate(&config, &root)?,
            None => 0,
        };
        output::line(&match files {
            0 => "the tables lie where their files say".to_owned(),
            files => format!("{files} files rewritten"),
        })
    }
}

/// Why the tables cannot be read, with what to do if they were moved.
pub(super) fn unreadable(config: &LakeConfig, error: &LakeError) -> Failure {
    let is_moved = config.catalog == LakeCatalog::Local && iceberg::is_moved(config);
    let hint = is_moved.then(|| {
        "the data directory was moved, and the tables' files name each other by absolute paths: run \
         `agentflow lake relocate --data DIR`, or move it back"
            .to_owned()
    });
    Failure::ours(chain(error)).maybe_hint(hint)
}

/// The lake of a data directory that a server may hold.
fn config(data: &Path, place: &LakeArgs) -> Result<LakeConfig, Failure> {
    let owner = identity_of(data).map_err(|error| opened::refused(&error))?;
    Ok(LakeConfig { catalog: place.catalog()?, owner, ..LakeConfig::new(data) })
}

/// A line per table: before → after.
fn rows(reports: &[TableReport]) -> Vec<Vec<String>> {
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let head =
        ["table", "files", "MiB", "manifests", "snapshots", "merged", "removed", "MiB removed"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(reports.iter().map(|report| {
        let (before, after) = (&report.before, &report.after);
        vec![
            report.table.clone(),
            format!("{} → {}", before.files, after.files),
            format!("{} → {}", mib(before.bytes), mib(after.bytes)),
            format!("{} → {}", before.manifests, after.manifests),
            format!("{} → {}", before.snapshots, after.snapshots),
            report.merged_files.to_string(),
            report.removed_files.to_string(),
            mib(report.removed_bytes),
        ]
    }));
    rows
}

/// Commands that only read make no data directory.
pub(super) fn exists(data: &Path) -> Result<(), Failure> {
    if data.is_dir() {
        return Ok(());
    }
    Err(Failure::input(format!("there is no data directory `{}`", data.display()))
        .hint("give the directory that `agentflow run` or `agentflow serve` wrote with --data"))
}

//! `agentflow restore`: a backup as a new data directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Args;
use pipeline::fail_point;
use pipeline::sink::iceberg::{self, LakeConfig};
use serde::Serialize;
use serving::store::backup::BackupError;
use serving::store::backup::manifest::{Entry, LakePart, Manifest};
use serving::store::backup::restore::{RestoreError, Target};

use super::DataArg;
use super::backup::told;
use crate::failure::{Context, Failure, chain};
use crate::output::{self, Output, OutputArgs};
use crate::progress::Bar;
use crate::{logging, opened, signals};

#[derive(Debug, Args)]
#[command(
    after_help = "The new directory is the old one as of the backup, with the same identity: to \
Kafka the same consumer group and the same publisher, to the lake the same owner. The original must \
not run on at the same time.\nUntil all of it is there no other command takes the directory. Ctrl-C \
leaves what was copied; run it again to go on."
)]
pub(super) struct Restore {
    /// Folder that `agentflow backup` wrote.
    #[arg(long, value_name = "BACKUP_DIR")]
    from: PathBuf,
    #[command(flatten)]
    data: DataArg,
    /// Leave the lake out: it is written anew from the journal.
    #[arg(long)]
    without_lake: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Report {
    /// The directory holds every event up to this journal position.
    position: i64,
    /// When the backup was finished.
    finished_at: String,
    files: u64,
    bytes: u64,
    /// Files of the lake that were written anew because its folder is another one.
    relocated_files: u64,
    seconds: f64,
}

impl Restore {
    pub(super) fn run(self) -> Result<(), Failure> {
        logging::start("warn");
        let started = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        signals::on_end(move || asked.store(true, Ordering::Relaxed))?;
        let manifest = Manifest::read(&self.from).map_err(|error| told(&error))?;
        manifest.check_lengths(&self.from).map_err(|error| told(&error))?;
        let wanted = |entry: &&Entry| !(self.without_lake && entry.path.starts_with("lake/"));
        let entries: Vec<&Entry> = manifest.files.iter().filter(wanted).collect();
        let bytes = entries.iter().map(|entry| entry.bytes).sum();

        let target = Target::take(&self.data.data, &manifest).map_err(|error| match error {
            RestoreError::Backup(error) => told(&error),
            RestoreError::Open(error) => opened::refused(&error),
        })?;
        let bar = Bar::new("restore");
        let mut done = 0;
        for entry in &entries {
            let put = target.put(&self.from, entry, &mut |n| {
                done += n;
                bar.step("", done, bytes);
                if stop.load(Ordering::Relaxed) { Err(BackupError::Stopped) } else { Ok(()) }
            });
            put.map_err(|error| told(&error))?;
            fail_point::hit("restore_file_copied");
        }
        let relocated_files = match &manifest.lake {
            Some(LakePart { root: Some(root) }) if !self.without_lake => {
                relocate(&LakeConfig::new(target.path()), root)?
            }
            _ => 0,
        };
        target.finish().map_err(|error| told(&error))?;
        bar.finish();
        self.tell(&Report {
            position: manifest.position,
            finished_at: manifest.finished_at.clone(),
            files: entries.len() as u64,
            bytes,
            relocated_files,
            seconds: (started.elapsed().as_secs_f64() * 1e3).round() / 1e3,
        })
    }

    fn tell(&self, report: &Report) -> Result<(), Failure> {
        if self.output.output == Output::Json {
            return output::json(report);
        }
        output::line(&format!(
            "{} files, {:.1} MiB in `{}`: every event up to position {}\nfrom the backup of {}, {:.1} s",
            report.files,
            report.bytes as f64 / f64::from(1 << 20),
            self.data.data.display(),
            report.position,
            report.finished_at,
            report.seconds
        ))
    }
}

/// Makes the lake one of its new folder, if that is another one than its files say; says how many files
/// were rewritten.
pub(super) fn relocate(config: &LakeConfig, root: &str) -> Result<u64, Failure> {
    let wanted = iceberg::root_wanted(config).ours(|| "resolve the lake's folder".to_owned())?;
    if wanted == root {
        return Ok(0);
    }
    let relocated = iceberg::relocate(&config.catalog_file(), &config.warehouse(), root, &wanted)
        .map_err(|error| Failure::ours(chain(&error)))?;
    Ok(relocated.files)
}

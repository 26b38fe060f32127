//! `agentflow backup`: a consistent copy of a data directory, beside a running server or without one.
//!
//! The lake first, then the store: so the lake that is put back is never ahead of the journal that it
//! follows. Start at [`Backup::run`]; [`source`] says what holds still while the store is copied.

mod source;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use clap::Args;
use pipeline::fail_point;
use pipeline::sink::iceberg::{self, LakeConfig, LakeSurvey};
use serde::Serialize;
use serving::store::backup::folder::Folder;
use serving::store::backup::manifest::{Entry, LakePart, Manifest};
use serving::store::backup::{BackupError, copy, cut};
use uuid::Uuid;

use super::{DataArg, lake};
use crate::failure::{Context, Failure, chain};
use crate::output::{self, Output, OutputArgs};
use crate::progress::Bar;
use crate::{logging, signals};

use self::source::Source;

/// How often a part is begun again that did not hold still.
const TRIES: u32 = 4;

/// How long before that.
const PAUSE: Duration = Duration::from_secs(1);

/// Place of the lake's catalog in a data directory.
const CATALOG: &str = "lake/catalog.sqlite";

/// Place of the lake's files in a data directory.
const WAREHOUSE: &str = "lake/warehouse";

#[derive(Debug, Args)]
#[command(
    after_help = "A server that works on the directory goes on: only its checkpoints wait until \
the store is copied. Without one the directory is held meanwhile.\nA second backup into the same \
folder copies only the lake's new files, and takes the place of the first once it is finished. \
Ctrl-C leaves what was copied; run it again to go on. Tables in a REST catalog are not part of it."
)]
pub(super) struct Backup {
    #[command(flatten)]
    data: DataArg,
    /// Folder of the backup: a new or empty one, or that of earlier backups of this directory.
    #[arg(long, value_name = "BACKUP_DIR")]
    to: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// The backup holds every event up to this journal position.
    position: i64,
    files: u64,
    bytes: u64,
    /// Those that an earlier backup had not left in the folder.
    copied_files: u64,
    copied_bytes: u64,
    seconds: f64,
    /// Times that a part was begun again, because it did not hold still.
    retries: u32,
}

/// How far it is, and whether to go on.
struct Work<'a> {
    bar: Bar,
    stop: &'a AtomicBool,
    done: u64,
    total: u64,
}

impl Work<'_> {
    fn step(&mut self, what: &str, bytes: u64) -> Result<(), BackupError> {
        self.done += bytes;
        self.bar.step(what, self.done, self.total.max(self.done));
        if self.stop.load(Ordering::Relaxed) { Err(BackupError::Stopped) } else { Ok(()) }
    }
}

/// Why a try did not end with a backup.
enum Trouble {
    /// Something did not hold still.
    Again(BackupError),
    /// Trying again does not help.
    Final(Failure),
}

impl From<BackupError> for Trouble {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Changed(_) | BackupError::Vanished { .. } => Self::Again(error),
            _ => Self::Final(told(&error)),
        }
    }
}

impl Backup {
    pub(super) fn run(self) -> Result<(), Failure> {
        logging::start("warn");
        let started = Instant::now();
        lake::exists(&self.data.data)?;
        self.check_apart()?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        signals::on_end(move || asked.store(true, Ordering::Relaxed))?;
        let mut folder = Folder::take(&self.to).map_err(|error| told(&error))?;
        let bar = Bar::new("backup");
        let mut tries = 0;
        let mut report = loop {
            let work = Work { bar: bar.clone(), stop: &stop, done: 0, total: 0 };
            match self.once(&folder, work) {
                Ok((report, manifest)) => {
                    folder.finish(manifest).map_err(|error| told(&error))?;
                    break report;
                }
                Err(Trouble::Again(error)) if tries + 1 < TRIES => {
                    tracing::warn!(%error, "beginning this part again");
                    tries += 1;
                    // A server that is ending takes a moment to let go.
                    std::thread::sleep(PAUSE);
                    drop(folder);
                    folder = Folder::take(&self.to).map_err(|error| told(&error))?;
                }
                Err(Trouble::Again(error)) => return Err(told(&error)),
                Err(Trouble::Final(failure)) => return Err(failure),
            }
        };
        bar.finish();
        report.retries = tries;
        report.seconds = (started.elapsed().as_secs_f64() * 1e3).round() / 1e3;
        match self.output.output {
            Output::Json => output::json(&report),
            Output::Text => output::line(&report.text(&self.to)),
        }
    }

    /// Neither folder inside the other.
    fn check_apart(&self) -> Result<(), Failure> {
        let (data, to) = (whole(&self.data.data)?, whole(&self.to)?);
        if data.starts_with(&to) || to.starts_with(&data) {
            let message = format!("`{}` and `{}` lie in one another", data.display(), to.display());
            return Err(Failure::input(message).hint("give a folder apart, best on another disk"));
        }
        Ok(())
    }

    fn once(&self, folder: &Folder, mut work: Work<'_>) -> Result<(Report, Manifest), Trouble> {
        let data = &self.data.data;
        let source = Source::of(data, folder)?;
        let id = Uuid::new_v4();
        let name = folder.begin(id)?;
        let fresh = folder.path().join(&name);
        let mut report = Report::default();
        let mut entries = Vec::new();

        let config = LakeConfig::new(data);
        let survey = iceberg::survey(&config, &fresh.join("catalog.sqlite"))
            .map_err(|error| Trouble::Final(lake::unreadable(&config, &error)))?;
        work.total = cut::store_bytes(data, cut::log_bytes(data));
        if let Some(survey) = &survey {
            copy_lake(folder, survey, &mut work, &mut report, &mut entries)?;
            let catalog = copy::adopt(&fresh.join("catalog.sqlite"))?;
            entries.push(Entry::new(CATALOG.into(), format!("{name}/catalog.sqlite"), catalog));
        }

        let position = source.copy(folder, &fresh, &mut work, |file, copied| {
            let stored = format!("{name}/{file}");
            entries.push(Entry::new(file, stored, copied));
        })?;
        if survey.as_ref().and_then(|survey| survey.position).is_some_and(|lake| lake > position) {
            return Err(BackupError::Changed("the lake was ahead of it".to_owned()).into());
        }
        // Written once in the life of a directory, and before anything is told under its id.
        let identity = data.join("identity.json");
        if identity.exists() {
            let copied =
                copy::file(&identity, &fresh.join("identity.json"), None, &mut |_| Ok(()))?;
            entries.push(Entry::new(
                "identity.json".into(),
                format!("{name}/identity.json"),
                copied,
            ));
        }
        let lake = survey.map(|survey| LakePart { root: survey.root });
        let finished_at = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        let manifest = Manifest::new(id, finished_at, position, lake, entries);
        report.position = position;
        let fresh = |entry: &&Entry| entry.stored.starts_with(&name);
        for entry in manifest.files.iter().filter(fresh) {
            report.copied_files += 1;
            report.copied_bytes += entry.bytes;
        }
        report.files = manifest.files.len() as u64;
        report.bytes = manifest.bytes();
        Ok((report, manifest))
    }
}

/// A path without links, as far as it exists.
fn whole(path: &Path) -> Result<PathBuf, Failure> {
    let path = std::path::absolute(path).input(|| format!("resolve `{}`", path.display()))?;
    let real = path.ancestors().find_map(|there| {
        let rest = path.strip_prefix(there).ok()?;
        // Joining nothing would add a slash.
        there.canonicalize().ok().map(|real| real.components().chain(rest.components()).collect())
    });
    Ok(real.unwrap_or(path))
}

fn copy_lake(
    folder: &Folder,
    survey: &LakeSurvey,
    work: &mut Work<'_>,
    report: &mut Report,
    entries: &mut Vec<Entry>,
) -> Result<(), BackupError> {
    let length = |file: &PathBuf| std::fs::metadata(file).map_or(0, |meta| meta.len());
    work.total += survey.files.values().map(length).sum::<u64>();
    for (below, file) in &survey.files {
        let path = format!("{WAREHOUSE}/{below}");
        match folder.keep(path, file, &mut |bytes| work.step("lake", bytes)) {
            Ok(kept) => {
                if !kept.was_there {
                    report.copied_files += 1;
                    report.copied_bytes += kept.entry.bytes;
                    fail_point::hit("backup_file_copied");
                }
                entries.push(kept.entry);
            }
            Err(BackupError::Vanished { .. }) if survey.optional.contains(below) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Report {
    fn text(&self, to: &Path) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        format!(
            "{} files, {:.1} MiB in `{}`: every event up to position {}\n\
             {} files, {:.1} MiB copied in {:.1} s",
            self.files,
            mib(self.bytes),
            to.display(),
            self.position,
            self.copied_files,
            mib(self.copied_bytes),
            self.seconds
        )
    }
}

/// Tells what went wrong with a backup.
pub(super) fn told(error: &BackupError) -> Failure {
    let text = chain(error);
    let failure = match error {
        BackupError::Stopped => Failure::interrupted(text),
        BackupError::Io { .. }
        | BackupError::DiskFull { .. }
        | BackupError::Vanished { .. }
        | BackupError::Changed(_) => Failure::ours(text),
        _ => Failure::input(text),
    };
    failure.maybe_hint(error.hint().map(str::to_owned))
}

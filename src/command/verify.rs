//! `agentflow verify`: every number a second time, in plain SQL over the journal's rows.
//!
//! Through the running server when one holds the data directory or is named; otherwise the directory is
//! held meanwhile.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use serving::http::VerificationBody;
use serving::metric::{MetricEngine, parse_at};
use serving::question::ReadError;
use serving::store::data_dir::DataDir;
use serving::store::{LakeArchive, StoreOptions};
use serving::verify::{Difference, Report, VerifyOptions, verify};

use crate::failure::{Failure, chain};
use crate::lake_args::{self, LakeArgs};
use crate::opened::{self, Access, Server};
use crate::output::{self, Output, OutputArgs};
use crate::{domain, logging};

/// Between two looks at how far the server is.
const LOOK: Duration = Duration::from_millis(100);

/// Most memory of DuckDB while nothing else runs on the directory, MiB.
const MEMORY_MIB: u32 = 1_536;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing differs, 1 something does (or your input is wrong), 2 our \
failure.\nWhat SQL cannot recompute is listed as not verified; see docs/verify.md.\n\nExamples:
  agentflow verify --contracts DIR --data DIR
  agentflow verify --contracts DIR --data DIR --metric revenue --as-of 2026-01-31T10:00:00Z
  AGENTFLOW_ADMIN_KEY=… agentflow verify --server https://HOST --tenant acme --output json"
)]
pub(super) struct Verify {
    /// Folder with the contracts (`*.yaml`); not needed beside a running server, which has its own.
    #[arg(long, value_name = "DIR", env = "AGENTFLOW_CONTRACTS")]
    contracts: Option<PathBuf>,
    /// Data directory: serving store, lake and positions live here. One process at a time owns it.
    #[arg(long, value_name = "DIR", env = "AGENTFLOW_DATA", required_unless_present = "server")]
    data: Option<PathBuf>,
    /// A running server, instead of a data directory of this machine; the environment variable
    /// AGENTFLOW_ADMIN_KEY has its admin key.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    #[command(flatten)]
    lake: LakeArgs,
    /// Only this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// Only this metric, with what it stands on.
    #[arg(long)]
    metric: Option<String>,
    /// Answers as of this time (RFC 3339, a date, or seconds since 1970) instead of live ones.
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
    /// Longest time that it may take; what was not reached by then is listed as not verified.
    #[arg(long, value_name = "SECONDS", default_value_t = 600,
          value_parser = clap::value_parser!(u64).range(1..=21_600))]
    time_limit: u64,
    #[command(flatten)]
    output: OutputArgs,
}

/// The API's error body, as far as it is told here.
#[derive(Deserialize)]
struct Refusal {
    detail: String,
    #[serde(default)]
    hint: Option<String>,
}

impl Verify {
    pub(super) fn run(self) -> Result<(), Failure> {
        logging::start("warn");
        let report = match (&self.server, &self.data) {
            (Some(url), _) => {
                let key = std::env::var("AGENTFLOW_ADMIN_KEY").ok().filter(|key| !key.is_empty());
                self.through(&Server::at(url, key)?)?
            }
            (None, Some(data)) => match opened::access(data, "verify")? {
                Access::Server(server) => self.through(&server)?,
                Access::Directory(directory) => self.in_directory(&directory)?,
            },
            (None, None) => return Err(Failure::input("neither --data nor --server is given")),
        };
        match self.output.output {
            Output::Json => output::json(&report)?,
            Output::Text => output::line(text(&report).trim_end())?,
        }
        if report.agrees() { Ok(()) } else { Err(Failure::told()) }
    }

    fn through(&self, server: &Server) -> Result<Report, Failure> {
        let asked = json!({
            "tenant": self.tenant,
            "metric": self.metric,
            "as_of": self.as_of,
            "time_limit_seconds": self.time_limit,
        });
        let (status, body) = server.post(&["v1", "verify"], &asked)?;
        let mut verification: VerificationBody = answer(status, 202, &body)?;
        // The server ends by itself; somewhat later than that it is not waited for.
        let until = Instant::now() + Duration::from_secs(self.time_limit + 60);
        while verification.state == "running" {
            if Instant::now() > until {
                return Err(Failure::ours(format!(
                    "the server is still at the verification {}",
                    verification.id
                )));
            }
            std::thread::sleep(LOOK);
            let (status, body) = server.get(&["v1", "verify", &verification.id], &[])?;
            verification = answer(status, 200, &body)?;
        }
        verification.report.ok_or_else(|| {
            Failure::ours(verification.problem.unwrap_or_else(|| "there is no report".to_owned()))
        })
    }

    fn in_directory(&self, directory: &DataDir) -> Result<Report, Failure> {
        let Some(contracts) = &self.contracts else {
            return Err(Failure::input(
                "no server runs on the directory, so --contracts is needed",
            )
            .hint("give the folder with the contracts that it was written with"));
        };
        let domain = domain::load(contracts)?;
        let config = lake_args::config(directory, self.lake.catalog()?)?;
        let options = StoreOptions {
            memory_limit_mib: MEMORY_MIB,
            archive: Some(Arc::new(LakeArchive::new(config, Arc::clone(&domain)))),
            ..StoreOptions::default()
        };
        let store = opened::open_with(directory, Arc::clone(&domain), options)?;
        let engine = MetricEngine::new(domain, store.readers());
        let as_of = self.as_of.as_deref().map(|text| parse_at("as_of", text)).transpose();
        let options = VerifyOptions {
            tenant: self.tenant.clone(),
            metric: self.metric.clone(),
            as_of: as_of.map_err(failure)?,
            time_limit: Duration::from_secs(self.time_limit),
        };
        verify(&engine, &options).map_err(failure)
    }
}

fn failure(error: ReadError) -> Failure {
    let message = error.to_string();
    match error {
        ReadError::NotFound { hint, .. } | ReadError::Invalid { hint, .. } => {
            Failure::input(message).maybe_hint(hint)
        }
        _ => Failure::ours(message),
    }
}

fn answer<T: for<'a> Deserialize<'a>>(
    status: u16,
    expected: u16,
    body: &str,
) -> Result<T, Failure> {
    if status != expected {
        return Err(match serde_json::from_str::<Refusal>(body) {
            Ok(said) if status < 500 => Failure::input(said.detail).maybe_hint(said.hint),
            Ok(said) => Failure::ours(said.detail).maybe_hint(said.hint),
            Err(_) => Failure::ours(format!("the running server answered with status {status}")),
        });
    }
    serde_json::from_str(body)
        .map_err(|error| Failure::ours(format!("read the server's answer: {}", chain(&error))))
}

/// A report for people.
fn text(report: &Report) -> String {
    let mut out = String::new();
    for difference in &report.differences {
        out.push_str(&told(difference));
    }
    if report.more_differences > 0 {
        let _ = writeln!(out, "and {} more differences", report.more_differences);
    }
    for skipped in &report.not_verified {
        let _ = writeln!(out, "not verified: {}: {}", skipped.what, skipped.why);
    }
    let checked = &report.checked;
    let count = report.differences.len() as u64 + report.more_differences;
    let found = match count {
        0 => "no differences".to_owned(),
        1 => "1 difference".to_owned(),
        n => format!("{n} differences"),
    };
    let at = if report.as_of.is_some() { "as of" } else { "at" };
    let _ = writeln!(
        out,
        "{found} at position {}, {at} {}: {} events, {} columns, {} entities, {} metrics with {} values, \
         {} books, in {:.1} s",
        report.position,
        report.at,
        checked.events,
        checked.columns,
        checked.entities,
        checked.metrics,
        checked.values,
        checked.books,
        report.seconds
    );
    out
}

fn told(difference: &Difference) -> String {
    let mut what = difference.what.clone();
    if let Some(window) = &difference.window {
        let _ = write!(what, ", window {window}");
    }
    for (dimension, value) in &difference.dimensions {
        let _ = write!(what, ", {dimension} = {}", value.as_deref().unwrap_or("null"));
    }
    if let Some(tenant) = &difference.tenant {
        let _ = write!(what, ", tenant {tenant}");
    }
    format!(
        "differs: {what}: the journal gives {}, found {}\n  hint: {}\n",
        difference.expected, difference.found, difference.hint
    )
}

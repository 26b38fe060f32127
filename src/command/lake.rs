//! `agentflow lake`: the Iceberg tables of a data directory.

use std::path::Path;

use clap::{Args, Subcommand};
use pipeline::sink::iceberg;

use super::DataArg;
use crate::failure::{Failure, chain};
use crate::output::{self, Output, OutputArgs};

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
}

#[derive(Debug, Args)]
struct Tables {
    #[command(flatten)]
    data: DataArg,
    #[command(flatten)]
    output: OutputArgs,
}

impl Lake {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Tables(tables) => tables.run(),
        }
    }
}

impl Tables {
    fn run(self) -> Result<(), Failure> {
        exists(&self.data.data)?;
        let tables = iceberg::tables(&self.data.data).map_err(|e| Failure::ours(chain(&e)))?;
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

/// Commands that only read make no data directory.
pub(super) fn exists(data: &Path) -> Result<(), Failure> {
    if data.is_dir() {
        return Ok(());
    }
    Err(Failure::input(format!("there is no data directory `{}`", data.display()))
        .hint("give the directory that `agentflow run` or `agentflow serve` wrote with --data"))
}

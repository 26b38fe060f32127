//! `agentflow contracts …`: work on contracts without any data.

mod check;
mod diff;
mod export;
mod graph;
mod new;
mod reload;
mod schema;
mod shadow;
mod test;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct Contracts {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check all contracts of a folder: every error with its place and a hint, several at once.
    Check(check::Check),
    /// Run the examples of all metrics through the pipeline and compare the answers.
    Test(test::Test),
    /// Say of each change between two folders whether it is safe, additive, restating or breaking, and why.
    Diff(diff::Diff),
    /// Show which events move which entities and metrics.
    Graph(graph::Graph),
    /// Print event contracts as Avro or JSON Schema, for producers and registries.
    Export(export::Export),
    /// Have the running server take up its changed contracts, and tell what came of it.
    Reload(reload::Reload),
    /// Print the JSON Schema of contract files, for editors.
    Schema(schema::Schema),
    /// Draft an event contract from sample events.
    New(new::New),
}

/// The folder, as `--contracts DIR` or as a plain argument.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Folder {
    /// Folder with the contracts of one domain (`*.yaml`).
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The same, as other commands take it.
    #[arg(long, value_name = "DIR")]
    contracts: Option<PathBuf>,
}

impl Folder {
    fn path(self) -> Result<PathBuf, Failure> {
        self.folder.or(self.contracts).ok_or_else(|| {
            Failure::input("no folder of contracts is given").hint("add --contracts DIR")
        })
    }
}

impl Contracts {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Check(check) => check.run(),
            Action::Test(test) => test.run(),
            Action::Diff(diff) => diff.run(),
            Action::Graph(graph) => graph.run(),
            Action::Export(export) => export.run(),
            Action::Reload(reload) => reload.run(),
            Action::Schema(schema) => schema.run(),
            Action::New(new) => new.run(),
        }
    }
}

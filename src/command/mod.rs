//! The subcommands, one file each, and what they share on the command line.

mod backup;
mod contracts;
mod deadletters;
mod demo;
mod erase;
mod keys;
mod lake;
mod produce;
mod read;
mod rebuild;
mod restore;
mod run;
mod serve;
mod tail;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::failure::{Failure, INPUT};

/// Live metrics from events: declare a metric once, read it milliseconds after the event.
#[derive(Debug, Parser)]
#[command(
    name = "agentflow",
    version,
    max_term_width = 100,
    after_help = "Start with `agentflow demo`. Exit codes: 0 fine, 1 something in your input, \
                  2 our failure.\nLogs go to stderr; AGENTFLOW_LOG=debug shows more of them."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take events and answer questions over HTTP, in one process.
    Serve(Box<serve::Serve>),
    /// The shop: generated events, live metrics in the terminal, the HTTP API beside it.
    Demo(demo::Demo),
    /// Process events from files through every stage, lake included, and say what became of them.
    Run(run::Run),
    /// Read a metric.
    Read(read::Read),
    /// Print rejected events with their original bytes, reason and place.
    Deadletters(deadletters::Deadletters),
    /// Show published events and dead letters live, one a line.
    Tail(tail::Tail),
    /// Look at the Iceberg tables.
    Lake(lake::Lake),
    /// Erase what belongs to one key of an entity, from every answer and from the lake.
    Erase(erase::Erase),
    /// Recompute every number in plain SQL over the stored events, and say what differs.
    Verify(verify::Verify),
    /// Make, list and end API keys.
    Keys(keys::Keys),
    /// Make the serving store anew from the lake.
    Rebuild(rebuild::Rebuild),
    /// Copy a data directory, lake included, while a server works on it.
    Backup(backup::Backup),
    /// Put a backup back, as a new data directory.
    Restore(restore::Restore),
    /// Check, test, show, export or draft contracts.
    Contracts(contracts::Contracts),
    /// Generate events of the shop, to a file, to stdout or to a server.
    Produce(produce::Produce),
}

/// `--contracts`, for commands that cannot do without.
#[derive(Debug, Args)]
struct ContractsArg {
    /// Folder with the contracts of one domain (`*.yaml`).
    #[arg(long, value_name = "DIR", env = "AGENTFLOW_CONTRACTS")]
    contracts: PathBuf,
}

/// Whether the state of metrics is kept.
#[derive(Debug, Args)]
struct StateArg {
    /// Keep counts and sums of metrics by minute, hour and day beside the events, so that of a window only
    /// its edges are read from rows. `off`: answers are read from rows, and what is there of it is given up.
    #[arg(long, value_name = "WHETHER", value_enum, default_value_t = Switch::On)]
    metric_state: Switch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    On,
    Off,
}

impl StateArg {
    fn is_on(&self) -> bool {
        self.metric_state == Switch::On
    }
}

/// `--data`.
#[derive(Debug, Args)]
struct DataArg {
    /// Data directory: serving store, lake and positions live here. One process at a time owns it.
    #[arg(long, value_name = "DIR", env = "AGENTFLOW_DATA")]
    data: PathBuf,
}

/// Reads the command line, does what it asks and tells how that went.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own code for a usage error is 2, which is "our failure" here. A failed write
            // of the message itself leaves nobody to tell.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(INPUT),
            };
        }
    };
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprint!("{}", failure.text());
            failure.code()
        }
    }
}

impl Command {
    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Serve(serve) => serve.run(),
            Self::Demo(demo) => demo.run(),
            Self::Run(run) => run.run(),
            Self::Read(read) => read.run(),
            Self::Deadletters(deadletters) => deadletters.run(),
            Self::Tail(tail) => tail.run(),
            Self::Lake(lake) => lake.run(),
            Self::Erase(erase) => erase.run(),
            Self::Verify(verify) => verify.run(),
            Self::Keys(keys) => keys.run(),
            Self::Rebuild(rebuild) => rebuild.run(),
            Self::Backup(backup) => backup.run(),
            Self::Restore(restore) => restore.run(),
            Self::Contracts(contracts) => contracts.run(),
            Self::Produce(produce) => produce.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_and_every_flag_has_a_help_text() {
        fn check(command: &clap::Command) {
            // clap notices two arguments with one id in debug builds only.
            let mut ids = std::collections::BTreeSet::new();
            assert!(command.get_about().is_some(), "`{}` has no text", command.get_name());
            for argument in command.get_arguments() {
                let id = argument.get_id();
                assert!(ids.insert(id.clone()), "`{}` has two of {id}", command.get_name());
                assert!(argument.get_help().is_some(), "`{}` {id} has no text", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}

//! `agentflow contracts new`: an event contract drafted from sample events, for a person to finish.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::failure::{Context, Failure};
use crate::output;

/// Samples beyond this number tell nothing new.
const MAX_SAMPLES: usize = 100_000;

#[derive(Debug, Args)]
pub(super) struct New {
    /// Name of the contract.
    name: String,
    /// Sample events, one JSON object a line; `-` reads stdin. All of them should have one shape.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
}

impl New {
    pub(super) fn run(self) -> Result<(), Failure> {
        let file = self.from.display().to_string();
        let samples = if file == "-" {
            samples(std::io::stdin().lock())
        } else {
            let open = File::open(&self.from).input(|| format!("open `{file}`"))?;
            samples(BufReader::new(open))
        }
        .input(|| format!("read `{file}`"))?;
        if !samples.iter().any(Value::is_object) {
            return Err(Failure::input(format!("no line of `{file}` is a JSON object"))
                .hint("give sample events, one JSON object a line"));
        }
        output::line(::contracts::infer(&samples, &self.name).trim_end())
    }
}

/// The lines that are JSON; sample files are seldom clean.
fn samples(lines: impl BufRead) -> std::io::Result<Vec<Value>> {
    let mut samples = Vec::new();
    for line in lines.split(b'\n').take(MAX_SAMPLES) {
        samples.extend(serde_json::from_slice(&line?).ok());
    }
    Ok(samples)
}

//! `agentflow read`: the same answers as `GET /v1/metrics/{name}`.
//!
//! Through the running server when one holds the data directory, else from the store itself. Start
//! at [`Read::run`]; [`question`] is what is asked, [`reader`] who answers, [`text`] how an answer
//! looks to a person.

mod question;
mod reader;
mod text;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{ContractsArg, DataArg};
use crate::failure::{Context, Failure};
use crate::lake_args::LakeArgs;
use crate::output::{self, Output, OutputArgs};

use question::{Question, QuestionArgs};
use reader::{Reader, Refusal};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  agentflow read revenue --contracts DIR --data DIR --window 1h
  agentflow read revenue --contracts DIR --data DIR --window 24h --filter city=Kazan
  agentflow read revenue --contracts DIR --data DIR --group-by city --output json
  agentflow read revenue --contracts DIR --data DIR --group-by city --order-by -value --limit 3 --other
  agentflow read revenue --contracts DIR --data DIR --window 24h --grain 1h --compare previous
  agentflow read revenue --contracts DIR --data DIR --as-of 2026-01-31T10:00:00Z")]
pub(super) struct Read {
    /// Name of the metric.
    #[arg(required_unless_present = "batch", conflicts_with = "batch")]
    metric: Option<String>,
    #[command(flatten)]
    contracts: ContractsArg,
    #[command(flatten)]
    data: DataArg,
    #[command(flatten)]
    lake: LakeArgs,
    #[command(flatten)]
    question: QuestionArgs,
    /// Ask many questions: one JSON object a line ({"metric", "window", "as_of", "known_at", "version",
    /// "filters", "group_by", "order_by", "limit", "other", "compare", "grain", "zone"}), answered by one
    /// line each; `-` reads stdin.
    #[arg(long, value_name = "FILE")]
    batch: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Read {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.batch {
            None => self.one(),
            Some(ref file) => self.many(file),
        }
    }

    fn one(self) -> Result<(), Failure> {
        let question = Question::of_arguments(self.metric.unwrap_or_default(), self.question)?;
        let reader = Reader::new(&self.contracts.contracts, &self.data.data, &self.lake)?;
        let answer = reader.ask(&question).map_err(Refusal::into_failure)?;
        match self.output.output {
            Output::Json => output::line(&answer),
            Output::Text => output::line(text::of(&answer)?.trim_end()),
        }
    }

    fn many(&self, file: &Path) -> Result<(), Failure> {
        let name = file.display().to_string();
        let lines: Box<dyn BufRead> = if name == "-" {
            Box::new(BufReader::new(std::io::stdin()))
        } else {
            Box::new(BufReader::new(File::open(file).input(|| format!("open `{name}`"))?))
        };
        let reader = Reader::new(&self.contracts.contracts, &self.data.data, &self.lake)?;
        let mut all_answered = true;
        for (number, line) in lines.split(b'\n').enumerate() {
            let line = line.input(|| format!("read `{name}`"))?;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let answer = Question::of_json(&line).and_then(|question| reader.ask(&question));
            match answer {
                Ok(answer) => output::line(&answer)?,
                Err(Refusal::Ours(failure)) => return Err(failure),
                Err(Refusal::Question { message, hint }) => {
                    all_answered = false;
                    let line = number + 1;
                    output::json(&Unanswered { error: &message, hint: hint.as_deref(), line })?;
                }
            }
        }
        if all_answered { Ok(()) } else { Err(Failure::told()) }
    }
}

/// The line that stands where an answer would.
#[derive(Debug, Serialize)]
struct Unanswered<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    /// Line of the question.
    line: usize,
}

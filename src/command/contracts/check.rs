//! `agentflow contracts check`: everything that loading contracts checks, and nothing more.

use clap::Args;
use serde::Serialize;

use super::Folder;
use crate::failure::Failure;
use crate::output::{self, Output, OutputArgs};

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a sound domain has.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    domain: &'a str,
    events: usize,
    entities: usize,
    metrics: usize,
    examples: usize,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        let domain = crate::domain::load(&self.folder.path()?)?;
        let summary = Summary {
            domain: &domain.name,
            events: domain.families.iter().map(|family| family.versions.len()).sum(),
            entities: domain.entities.len(),
            metrics: domain.metrics.len(),
            examples: domain.metrics.iter().map(|metric| metric.examples.len()).sum(),
        };
        match self.output.output {
            Output::Json => output::json(&summary),
            Output::Text => output::line(&format!(
                "{}: {} event contracts, {} entities, {} metrics with {} examples, all sound",
                summary.domain, summary.events, summary.entities, summary.metrics, summary.examples,
            )),
        }
    }
}

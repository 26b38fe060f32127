//! `agentflow contracts test`: the examples of the contracts, run through the real pipeline.

use clap::Args;
use serde::Serialize;
use serving::example_test::{self, Finding};

use super::Folder;
use crate::failure::Failure;
use crate::output::{self, Output, OutputArgs};

#[derive(Debug, Args)]
pub(super) struct Test {
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    passed: usize,
    failed: usize,
    results: &'a [Finding],
}

impl Test {
    pub(super) fn run(self) -> Result<(), Failure> {
        let domain = crate::domain::load(&self.folder.path()?)?;
        let findings = example_test::run(&domain)
            .map_err(|error| Failure::ours(crate::failure::chain(&error)))?;
        let failed = findings.iter().filter(|finding| !finding.passed).count();
        let passed = findings.len() - failed;
        match self.output.output {
            Output::Json => output::json(&Report { passed, failed, results: &findings })?,
            Output::Text => {
                for finding in &findings {
                    let mark = if finding.passed { "ok    " } else { "FAILED" };
                    output::line(&format!("{mark} {finding}"))?;
                }
                output::line(&format!("{passed} passed, {failed} failed"))?;
            }
        }
        if failed > 0 { Err(Failure::told()) } else { Ok(()) }
    }
}

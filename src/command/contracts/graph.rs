//! `agentflow contracts graph`: the derived event → entity → metric graph.

use ::contracts::graph::{render_json, render_text};
use clap::Args;

use super::Folder;
use crate::failure::Failure;
use crate::output::{self, Output, OutputArgs};

#[derive(Debug, Args)]
pub(super) struct Graph {
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    output: OutputArgs,
}

impl Graph {
    pub(super) fn run(self) -> Result<(), Failure> {
        let domain = crate::domain::load(&self.folder.path()?)?;
        match self.output.output {
            Output::Json => output::json(&render_json(&domain)),
            Output::Text => output::line(render_text(&domain).trim_end()),
        }
    }
}

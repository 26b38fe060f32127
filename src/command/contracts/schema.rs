//! `agentflow contracts schema`: the JSON Schema of contract files.

use clap::Args;

use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(super) struct Schema {}

impl Schema {
    pub(super) fn run(self) -> Result<(), Failure> {
        output::line(::contracts::schema::json_schema().trim_end())
    }
}

//! The `agentflow` command line: reads arguments, wires the crates, prints. Nothing else.
//!
//! What always holds: stdout is data, stderr is talk; exit code 0 is fine, 1 is your input, 2 is
//! our failure. Start at [`command`], where each subcommand has its file.

mod access_args;
mod command;
mod domain;
mod erasing;
mod failure;
mod kafka_client;
mod lake_args;
mod logging;
mod node;
mod opened;
mod output;
mod progress;
mod publish_args;
mod schema_registry;
mod signals;
mod source_spec;

use std::process::ExitCode;

/// Entity states are many small allocations that come and go on the writer's thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A panic is our failure like any other; the default hook has printed where it happened.
    std::panic::catch_unwind(command::main).unwrap_or(ExitCode::from(failure::OURS))
}

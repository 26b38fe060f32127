//! `agentflow contracts reload`: has the running server take up its changed contracts.

use clap::Args;
use serde_json::Value;

use super::super::DataArg;
use super::diff::Allow;
use crate::failure::Failure;
use crate::opened::{self, Access};
use crate::output::{self, Output, OutputArgs};

#[derive(Debug, Args)]
#[command(
    after_help = "A server looks at its folder every second by itself, and takes up what is safe or \
additive. This one waits for the outcome, and may allow more."
)]
pub(super) struct Reload {
    #[command(flatten)]
    data: DataArg,
    /// The worst change that is fine.
    #[arg(long, value_enum, value_name = "CLASS", default_value_t = Allow::Additive)]
    allow: Allow,
    #[command(flatten)]
    output: OutputArgs,
}

impl Reload {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Access::Server(server) = opened::access(&self.data.data, "contracts reload")? else {
            return Err(Failure::input(format!(
                "no server runs over `{}`",
                self.data.data.display()
            ))
            .hint("what starts next takes up the contracts that are there then"));
        };
        let allow = [("allow", self.allow.class().word().to_owned())];
        let path = ["v1", "admin", "contracts", "reload"];
        let (status, text) = server.ask(reqwest::Method::POST, &path, &allow)?;
        let body: Value = serde_json::from_str(&text)
            .map_err(|error| Failure::ours(format!("read the server's answer: {error}")))?;
        match (status, self.output.output) {
            (200 | 409, Output::Json) => output::line(&text)?,
            (200, Output::Text) => {
                let result = body["result"].as_str().unwrap_or_default();
                let changes = body["changes"].as_array().map_or(0, Vec::len);
                let paused = body["paused_ms"].as_f64().unwrap_or_default();
                output::line(&match result {
                    "unchanged" => "unchanged".to_owned(),
                    _ => format!(
                        "{result}: {changes} changes of meaning; posted events waited {paused:.0} ms"
                    ),
                })?;
            }
            (409, Output::Text) => {
                let findings = body["findings"].as_array().cloned().unwrap_or_default();
                let text = |finding: &Value, name: &str| {
                    finding[name].as_str().unwrap_or_default().to_owned()
                };
                let findings = findings.iter();
                let findings = findings.map(|f| (text(f, "message"), Some(text(f, "hint"))));
                return Err(Failure::inputs(findings.collect()));
            }
            _ => {
                let detail = body["detail"].as_str().unwrap_or(&text).to_owned();
                let hint = body["hint"].as_str().map(str::to_owned);
                return Err(Failure::input(detail).maybe_hint(hint));
            }
        }
        if status == 200 { Ok(()) } else { Err(Failure::told()) }
    }
}

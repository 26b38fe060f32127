//! `agentflow contracts export`: event contracts as schemas for producers and registries.

use ::contracts::diagnostic::suggest;
use ::contracts::export::{avro, json_schema};
use ::contracts::model::{Domain, EventContract};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use crate::command::ContractsArg;
use crate::failure::{Context, Failure};
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "\
With NAME: exactly the schema, as a file or a registry takes it. Without: every version of every
event contract, one JSON document a line, {\"contract\", \"version\", \"schema\"}.

Examples:
  agentflow contracts export order --format avro --contracts DIR > order.avsc
  agentflow contracts export order --version 1 --format json-schema --contracts DIR
  agentflow contracts export --format avro --contracts DIR | jq -c 'select(.contract == \"order\")'")]
pub(super) struct Export {
    /// Name of an event contract; default: all of them.
    name: Option<String>,
    /// Its version; default: the newest stable one.
    #[arg(long, value_name = "N", requires = "name")]
    version: Option<u32>,
    /// Language of the schema.
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    format: Language,
    #[command(flatten)]
    contracts: ContractsArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Language {
    /// An Avro schema of one record.
    Avro,
    /// A JSON Schema of one record, draft 2020-12.
    JsonSchema,
}

/// A schema among several.
#[derive(Debug, Serialize)]
struct Line<'a> {
    contract: &'a str,
    version: u32,
    schema: Value,
}

impl Export {
    pub(super) fn run(self) -> Result<(), Failure> {
        let domain = crate::domain::load(&self.contracts.contracts)?;
        match &self.name {
            Some(name) => {
                let contract = find(&domain, name, self.version)?;
                let schema = self.format.schema(&domain, contract)?;
                let text = serde_json::to_string_pretty(&schema)
                    .ours(|| "write the schema as JSON".to_owned())?;
                output::line(&text)
            }
            None => {
                // All of them first: half a list would look like a whole one.
                let lines: Vec<Line<'_>> = domain
                    .families
                    .iter()
                    .flat_map(|family| &family.versions)
                    .map(|contract| {
                        let schema = self.format.schema(&domain, contract)?;
                        Ok(Line { contract: &contract.name, version: contract.version, schema })
                    })
                    .collect::<Result<_, Failure>>()?;
                lines.iter().try_for_each(output::json)
            }
        }
    }
}

impl Language {
    fn schema(self, domain: &Domain, contract: &EventContract) -> Result<Value, Failure> {
        match self {
            Self::JsonSchema => Ok(json_schema(domain, contract)),
            Self::Avro => avro(domain, contract)
                .map_err(|error| Failure::input(error.message).hint(error.hint)),
        }
    }
}

fn find<'a>(
    domain: &'a Domain,
    name: &str,
    version: Option<u32>,
) -> Result<&'a EventContract, Failure> {
    let Some(family) = domain.families.iter().find(|family| family.name == name) else {
        let message = format!("there is no event contract `{name}`");
        let hint = match domain.event(name, None) {
            Some(contract) => {
                format!("the event type `{name}` has the contract `{}`", contract.name)
            }
            None => {
                let names = domain.families.iter().map(|family| family.name.as_str());
                suggest(name, names, "event contracts")
            }
        };
        return Err(Failure::input(message).hint(hint));
    };
    family.version(version).map(AsRef::as_ref).ok_or_else(|| {
        let asked = version.map_or_else(String::new, |version| format!(" version {version}"));
        let known: Vec<String> =
            family.versions.iter().map(|contract| contract.version.to_string()).collect();
        Failure::input(format!("the event contract `{name}` has no{asked}"))
            .hint(format!("versions: {}", known.join(", ")))
    })
}

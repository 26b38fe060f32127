//! `agentflow keys`: makes, lists and ends API keys in the file that a server reads.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use serving::access::file::KeyFileError;
use serving::access::record::KeyRecord;
use serving::access::ring::{KeyRing, Refusal};

use crate::access_args::{self, KEYS};
use crate::failure::{Failure, chain};
use crate::output::{self, Output, OutputArgs};

#[derive(Debug, Args)]
#[command(
    after_help = "A running server takes changes up within a second. Keys are kept as hashes: \
each is shown once, when it is made."
)]
pub(super) struct Keys {
    #[command(subcommand)]
    action: Action,
    /// Data directory of the server; the keys are in its `keys.yaml`.
    #[arg(long, value_name = "DIR", env = "AGENTFLOW_DATA", global = true)]
    data: Option<PathBuf>,
    /// File with the keys, instead of that of a data directory.
    #[arg(long, value_name = "FILE", env = "AGENTFLOW_API_KEYS_FILE", global = true)]
    keys_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key and print it: this once.
    Create(Create),
    /// List keys, without the keys.
    List(OutputArgs),
    /// Give a key a new secret; the old one is good for a while more.
    Rotate(Rotate),
    /// End the time of the secret before the last rotation.
    RevokeOld(Named),
    /// Remove a key.
    Revoke(Named),
}

#[derive(Debug, Args)]
struct Create {
    /// What it is for.
    #[arg(long)]
    name: String,
    /// Whose rows it opens.
    #[arg(long, default_value = serving::access::DEFAULT_TENANT)]
    tenant: String,
    /// Requests a minute. Default: what the server is started with.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate_limit_rpm: Option<u32>,
    /// An entity type that it may read; without any it may read all. May be repeated, or joined by commas.
    #[arg(long = "entity", value_name = "TYPE", value_delimiter = ',')]
    entities: Vec<String>,
    /// A metric that it may read. May be repeated, or joined by commas.
    #[arg(long = "metric", value_name = "NAME", value_delimiter = ',')]
    metrics: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct Rotate {
    /// The key's identifier, as `list` shows it.
    key_id: String,
    /// Hours that the old secret is still good.
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(0..=720))]
    grace_hours: u64,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct Named {
    /// The key's identifier, as `list` shows it.
    key_id: String,
}

impl Keys {
    pub(super) fn run(self) -> Result<(), Failure> {
        let path = match (self.keys_file, self.data) {
            (Some(file), _) => file,
            (None, Some(data)) => data.join(KEYS),
            (None, None) => {
                return Err(Failure::input("which keys?").hint(
                    "name the server's data directory with --data, or a file with --keys-file",
                ));
            }
        };
        let file = serving::access::file::KeyFile::at(path);
        let ring = access_args::ring(file, Vec::new(), None)?;
        match self.action {
            Action::Create(create) => create.run(&ring),
            Action::List(output) => list(&ring, output.output),
            Action::Rotate(rotate) => rotate.run(&ring),
            Action::RevokeOld(named) => {
                ring.revoke_old(&named.key_id).map_err(refused)?;
                output::line(&format!(
                    "the old secret of `{}` opens nothing any more",
                    named.key_id
                ))
            }
            Action::Revoke(named) => {
                ring.revoke(&named.key_id).map_err(refused)?;
                output::line(&format!("`{}` opens nothing any more", named.key_id))
            }
        }
    }
}

impl Create {
    fn run(self, ring: &KeyRing) -> Result<(), Failure> {
        let names = |names: Vec<String>| -> Option<BTreeSet<String>> {
            (!names.is_empty()).then(|| names.into_iter().collect())
        };
        let record = KeyRecord {
            rate_limit_rpm: self.rate_limit_rpm,
            allowed_entity_types: names(self.entities),
            allowed_metrics: names(self.metrics),
            ..KeyRecord::new(&self.name, &self.tenant)
        };
        let (record, secret) = ring.create(record).map_err(refused)?;
        match self.output.output {
            Output::Json => output::json(&json!({
                "key_id": record.id(), "key": secret, "name": record.name, "tenant": record.tenant,
            })),
            Output::Text => {
                eprintln!(
                    "key `{}` of tenant `{}`, kept as a hash in `{}`; this is the only time that it \
                     is shown:",
                    record.id(),
                    record.tenant,
                    ring.file().map_or_else(String::new, |file| file.path().display().to_string()),
                );
                output::line(&secret)
            }
        }
    }
}

impl Rotate {
    fn run(self, ring: &KeyRing) -> Result<(), Failure> {
        let grace = Duration::from_secs(self.grace_hours * 3_600);
        let (secret, until) = ring.rotate(&self.key_id, grace).map_err(refused)?;
        match self.output.output {
            Output::Json => output::json(&json!({"new_key": secret, "expires_at": until})),
            Output::Text => {
                let until = until.format("%Y-%m-%d %H:%M:%S UTC");
                eprintln!(
                    "the old secret of `{}` is good until {until}; the new one:",
                    self.key_id
                );
                output::line(&secret)
            }
        }
    }
}

fn list(ring: &KeyRing, form: Output) -> Result<(), Failure> {
    let keys = ring.keys();
    if form == Output::Json {
        for key in keys {
            let record = &key.record;
            output::json(&json!({
                "key_id": record.id(),
                "name": record.name,
                "tenant": record.tenant,
                "rate_limit_rpm": record.rate_limit_rpm,
                "allowed_entity_types": record.allowed_entity_types,
                "allowed_metrics": record.allowed_metrics,
                "created_at": record.created_at,
                "old_key_active_until": record.previous_key_active_until,
            }))?;
        }
        return Ok(());
    }
    let mut rows =
        vec![["key", "tenant", "requests/min", "may read", "made"].map(str::to_owned).to_vec()];
    for key in keys {
        let record = &key.record;
        let names = |names: &Option<BTreeSet<String>>| {
            names.as_ref().map(|names| Vec::from_iter(names.iter().cloned()).join(", "))
        };
        let scope = [names(&record.allowed_entity_types), names(&record.allowed_metrics)];
        let scope: Vec<String> = scope.into_iter().flatten().collect();
        rows.push(vec![
            record.id(),
            record.tenant.clone(),
            record.rate_limit_rpm.map_or("default".to_owned(), |rpm| rpm.to_string()),
            if scope.is_empty() { "everything".to_owned() } else { scope.join(", ") },
            record.created_at.map_or("-".to_owned(), |at| at.format("%Y-%m-%d").to_string()),
        ]);
    }
    output::line(output::table(&rows).trim_end())
}

fn refused(error: KeyFileError) -> Failure {
    let text = chain(&error);
    match error {
        KeyFileError::Refused(refusal) => {
            let failure = Failure::input(text);
            match refusal {
                Refusal::Unknown(_) => failure.hint("`agentflow keys list` shows what there is"),
                Refusal::Exists(_) => {
                    failure.hint("choose another --name, or use `agentflow keys rotate`")
                }
                Refusal::Rotating(_) => failure.hint("end that first: agentflow keys revoke-old"),
                _ => failure,
            }
        }
        _ => Failure::input(text),
    }
}

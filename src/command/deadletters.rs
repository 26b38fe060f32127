//! `agentflow deadletters`: what was rejected, with its original bytes but for personal data.

use std::path::{Path, PathBuf};

use clap::Args;
use pipeline::outcome::Reason;
use serde::Deserialize;
use serde_json::value::RawValue;
use serving::http::DeadLetterBody;
use serving::personal::Personal;
use serving::store;

use super::DataArg;
use crate::domain;
use crate::failure::Failure;
use crate::opened::{self, Access, Server};
use crate::output::{self, Output, OutputArgs};

/// Dead letters read from the store at a time.
const CHUNK: usize = 5_000;

/// Most dead letters in one page of the API.
const PAGE: usize = 100;

#[derive(Debug, Args)]
pub(super) struct Deadletters {
    #[command(flatten)]
    data: DataArg,
    /// Folder with the contracts (`*.yaml`), which say what is personal data; not needed beside a running
    /// server, which has its own.
    #[arg(long, value_name = "DIR", env = "AGENTFLOW_CONTRACTS")]
    contracts: Option<PathBuf>,
    /// Show personal data too. Only where no server holds the directory.
    #[arg(long)]
    reveal: bool,
    /// Only those with this reason code.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Deadletters {
    pub(super) fn run(self) -> Result<(), Failure> {
        if let Some(reason) = &self.reason
            && Reason::from_code(reason).is_none()
        {
            let all = Reason::ALL.map(Reason::code).join(", ");
            return Err(Failure::input(format!("`{reason}` is no reason"))
                .hint(format!("reasons are {all}")));
        }
        match opened::access(&self.data.data, "deadletters")? {
            Access::Server(_) if self.reveal => {
                Err(Failure::input("a server holds the directory, and it shows no personal data")
                    .hint("end the server first, or leave out --reveal"))
            }
            Access::Server(server) => self.through(&server),
            Access::Directory(directory) => self.read_store(directory.path()),
        }
    }

    /// What must not be shown.
    fn personal(&self) -> Result<Personal, Failure> {
        match &self.contracts {
            _ if self.reveal => Ok(Personal::default()),
            Some(contracts) => Ok(Personal::of(&*domain::load(contracts)?)),
            None => Err(Failure::input("without the contracts nobody knows what is personal data")
                .hint("give their folder with --contracts, or show everything with --reveal")),
        }
    }

    fn read_store(&self, data: &Path) -> Result<(), Failure> {
        let personal = self.personal()?;
        let mut after = None;
        loop {
            let letters = store::read_dead_letters(data, self.reason.as_deref(), after, CHUNK)
                .map_err(|error| opened::refused(&error))?;
            let Some(last) = letters.last() else { return Ok(()) };
            after = Some(last.id);
            for letter in letters {
                let json = serde_json::to_string(&DeadLetterBody::new(letter, &personal))
                    .map_err(|error| Failure::ours(format!("write a dead letter: {error}")))?;
                self.tell(&json)?;
            }
        }
    }

    /// The API gives the newest first; here, as from the store, the oldest come first.
    fn through(&self, server: &Server) -> Result<(), Failure> {
        let mut pages: Vec<Vec<Box<RawValue>>> = Vec::new();
        loop {
            let page = self.page(server, pages.len() + 1)?;
            let full = page.len() == PAGE;
            pages.push(page);
            if !full {
                break;
            }
        }
        // Letters that came while we asked move others to the next page: each is told once.
        let mut told = None;
        for letter in pages.iter().flatten().rev() {
            let Letter { id, .. } = parse(letter.get())?;
            if told.is_none_or(|told| id > told) {
                told = Some(id);
                self.tell(letter.get())?;
            }
        }
        Ok(())
    }

    /// Prints a dead letter in the API's JSON.
    fn tell(&self, json: &str) -> Result<(), Failure> {
        match self.output.output {
            Output::Json => output::line(json),
            Output::Text => output::line(&parse::<Letter>(json)?.text()),
        }
    }

    fn page(&self, server: &Server, number: usize) -> Result<Vec<Box<RawValue>>, Failure> {
        let mut parameters = vec![("page", number.to_string()), ("page_size", PAGE.to_string())];
        parameters.extend(self.reason.clone().map(|reason| ("reason", reason)));
        let (status, body) = server.get(&["v1", "deadletter"], &parameters)?;
        if status != 200 {
            return Err(Failure::ours(format!("the running server answered {status}: {body}")));
        }
        Ok(parse::<Page>(&body)?.items)
    }
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Failure> {
    serde_json::from_str(json)
        .map_err(|error| Failure::ours(format!("a dead letter is not as expected: {error}")))
}

#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Box<RawValue>>,
}

/// What the text form tells of a letter.
#[derive(Debug, Deserialize)]
struct Letter {
    id: i64,
    reason: String,
    field: Option<String>,
    rule: Option<String>,
    failure_detail: String,
    place: Place,
    payload: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Place {
    partition: String,
    offset: i64,
}

impl Letter {
    fn text(&self) -> String {
        let concerned = self.rule.as_ref().or(self.field.as_ref());
        let concerned = concerned.map_or(String::new(), |name| format!(" `{name}`"));
        let payload = self.payload.as_deref().unwrap_or("(bytes that are not UTF-8)");
        format!(
            "{}@{}  {}{concerned}: {}\n    {}",
            self.place.partition, self.place.offset, self.reason, self.failure_detail, payload
        )
    }
}

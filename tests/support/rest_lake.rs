//! A data directory whose lake is behind a REST catalog, or Glue, and S3, and what its tests ask of it.

use super::flights::Sample;
use super::lake_readers;
use super::lake_services::{LakeServices, Service};
use super::server::Server;
use super::{Finished, Place, holds_events, wait_for};

/// A data directory whose lake is behind the services.
pub struct Rest {
    pub services: LakeServices,
    pub place: Place,
    pub options: Vec<String>,
}

impl Rest {
    #[track_caller]
    pub fn new() -> Self {
        Self::of(Place::of("flights"))
    }

    #[track_caller]
    pub fn of(place: Place) -> Self {
        Self::with(Service::Catalog, place)
    }

    /// With that catalog.
    #[track_caller]
    pub fn with(catalog: Service, place: Place) -> Self {
        let services = LakeServices::with(catalog);
        let options = services.options(|_| {});
        Self { services, place, options }
    }

    pub fn run_arguments(&self, lines: &[Vec<u8>]) -> Vec<String> {
        let file = self.place.file("events.ndjson", lines);
        let mut arguments = self.place.run_arguments(&file, &self.place.data());
        arguments.extend(self.options.iter().cloned());
        arguments
    }

    pub fn run(&self, lines: &[Vec<u8>]) -> Finished {
        self.place.agentflow(self.run_arguments(lines))
    }

    pub fn lake(&self, arguments: &[&str]) -> Finished {
        let data = self.place.data().display().to_string();
        let own = ["lake"].into_iter().chain(arguments.iter().copied());
        let own = own.chain(["--data", data.as_str()]).map(str::to_owned);
        self.place.agentflow(own.chain(self.options.iter().cloned()))
    }

    pub fn serve(&self) -> Server {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        Server::start(&self.place, &options)
    }

    /// What our own listing and PyIceberg find is what was accepted, and nothing else.
    #[track_caller]
    pub fn check(&self, sample: &Sample) {
        let tables = self.lake(&["tables", "--output", "json"]).json();
        let rows = |is_wanted: &dyn Fn(&str) -> bool| -> u64 {
            let tables = tables.as_array().expect("a list").iter();
            let wanted = tables.filter(|table| is_wanted(table["name"].as_str().expect("a name")));
            wanted.map(|table| table["rows"].as_u64().expect("a count")).sum()
        };
        assert_eq!(rows(&holds_events), sample.good.len() as u64, "{tables}");
        assert_eq!(rows(&|name| name == "dead_letters"), sample.rejected_count(), "{tables}");
        lake_readers::check_remote(&self.services, sample);
    }
}

/// The first so many pieces of a file that grows.
pub fn pieces(sample: &Sample, count: usize) -> Vec<&[Vec<u8>]> {
    let step = sample.lines.len().div_ceil(count);
    (1..=count).map(|piece| &sample.lines[..(piece * step).min(sample.lines.len())]).collect()
}

/// Waits until a server's lake has everything.
#[track_caller]
pub fn wait_for_rows(server: &Server, sample: &Sample) {
    let all = sample.good.len() as u64 + sample.rejected_count();
    // Other tables say what became of records.
    wait_for_rows_of(server, all, |name| holds_events(name) || name == "dead_letters");
}

/// Waits until a server's lake has the good events: their tables may commit more often than the others.
#[track_caller]
pub fn wait_for_events(server: &Server, sample: &Sample) {
    wait_for_rows_of(server, sample.good.len() as u64, holds_events);
}

#[track_caller]
fn wait_for_rows_of(server: &Server, count: u64, is_wanted: impl Fn(&str) -> bool) {
    wait_for("the lake to catch up", || {
        let tables = server.get("/v1/lake").1;
        let tables = tables["tables"].as_array()?.iter();
        let tables = tables.filter(|table| table["name"].as_str().is_some_and(&is_wanted));
        let rows = tables.filter_map(|table| table["rows"].as_u64());
        (rows.sum::<u64>() == count).then_some(())
    });
}

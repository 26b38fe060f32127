//! `agentflow produce`: generated events of the shop, to stdout, to a file, to a server or to Kafka.
//!
//! The generator itself is a source of the pipeline ([`pipeline::source::generator`]); here are its
//! settings and the places that its events can go to ([`to`]).

mod avro;
mod cloud_event;
mod format;
mod kafka;
mod to;

use std::time::{Duration, Instant};

use clap::Args;
use pipeline::outcome::Reason;
use pipeline::source::generator::{Fault, Generator, GeneratorOptions, Summary};
use serde::Serialize;
use serving::metric::parse_at;

use crate::failure::Failure;
use crate::kafka_client::{KafkaClientArgs, setting};
use crate::output::{self, Output, OutputArgs};
use crate::progress::Bar;
use crate::schema_registry::RegistryArgs;

use format::RecordFormat;
use to::{Sink, To};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  agentflow produce --events 1000000 --seed 7 --to file:events.ndjson
  agentflow produce --rate 200 --to http://127.0.0.1:8080
  agentflow produce --rate 1000 --to kafka:127.0.0.1:9092
  agentflow produce --to kafka:127.0.0.1:9092 --format avro --schema-registry http://127.0.0.1:8081
  agentflow produce --events 5")]
pub(super) struct Produce {
    /// How many events. Default: no end to a server or to Kafka, 1000 otherwise.
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Where to: `-` (stdout), `file:PATH`, `http://HOST:PORT` (a running server) or
    /// `kafka:HOST:PORT`, where every event goes to the topic that its contract names.
    #[arg(long, value_name = "WHERE", default_value = "-")]
    to: To,
    /// To a server or Kafka: as fast as it takes them. The events' own times still go by --rate.
    #[arg(long)]
    unpaced: bool,
    #[command(flatten)]
    mix: Mix,
    #[command(flatten)]
    kafka: KafkaOptions,
    /// Form of the summary: on stdout, or on stderr when the events go to stdout.
    #[command(flatten)]
    output: OutputArgs,
}

/// How events become records of Kafka.
#[derive(Debug, Args)]
#[command(next_help_heading = "Kafka")]
pub(super) struct KafkaOptions {
    /// Topic for all events, instead of those that contracts name.
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Form of a record.
    #[arg(long, value_enum, default_value_t = RecordFormat::Json)]
    format: RecordFormat,
    /// A header for every record. May be repeated.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = setting)]
    headers: Vec<(String, String)>,
    #[command(flatten)]
    client: KafkaClientArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// What the stream is like.
#[derive(Debug, Args)]
pub(super) struct Mix {
    /// Same seed and settings, same events.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Events per second: to a server or Kafka in real time, otherwise by the events' own times.
    #[arg(long, default_value_t = 100.0, value_name = "N", value_parser = positive)]
    rate: f64,
    /// Seconds of event time in one second: with 60, an hour's events come in a minute.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = positive)]
    speed: f64,
    /// Event time of the first event. Default: now to a server or Kafka, otherwise
    /// 2026-01-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// Share of events that come late, 5 minutes to 26 hours behind.
    #[arg(long, default_value_t = 0.01, value_name = "SHARE", value_parser = share)]
    late: f64,
    /// Share of events delivered again, up to 6 days later.
    #[arg(long, default_value_t = 0.01, value_name = "SHARE", value_parser = share)]
    repeated: f64,
    /// Share of events that must be rejected.
    #[arg(long, default_value_t = 0.005, value_name = "SHARE", value_parser = share)]
    bad: f64,
    /// Number of users; a few of them come far more often than the rest.
    #[arg(long, default_value_t = 200_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
}

impl Mix {
    fn options(&self, count: Option<u64>, live: bool) -> Result<GeneratorOptions, Failure> {
        if self.late + self.repeated + self.bad > 1.0 {
            return Err(Failure::input("--late, --repeated and --bad together are more than all")
                .hint("they are shares between 0 and 1"));
        }
        let defaults = GeneratorOptions::default();
        let start = match &self.start {
            Some(text) => parse_at("past", text).map_err(|_| {
                Failure::input(format!("--start `{text}` is not a time"))
                    .hint("write it as 2026-01-31T10:00:00Z")
            })?,
            None if live => chrono::Utc::now().timestamp_micros(),
            None => defaults.start,
        };
        Ok(GeneratorOptions {
            seed: self.seed,
            count,
            rate: self.rate,
            speed: self.speed,
            start,
            late: self.late,
            repeated: self.repeated,
            bad: self.bad,
            users: self.users,
        })
    }
}

/// What was generated.
#[derive(Debug, Serialize)]
struct Told {
    events: u64,
    late: u64,
    repeated: u64,
    bad: u64,
    bad_by_reason: std::collections::BTreeMap<&'static str, u64>,
    sessions: u64,
    orders: u64,
    order_updates: u64,
    payments: u64,
    products: u64,
    clicks: u64,
}

impl Told {
    fn new(summary: &Summary, format: RecordFormat) -> Self {
        let mut bad_by_reason = std::collections::BTreeMap::new();
        for (fault, count) in Fault::ALL.into_iter().zip(summary.bad) {
            let reason = match format {
                RecordFormat::Avro if fault.is_of_form() => Reason::NotAvro,
                _ => fault.reason(),
            };
            *bad_by_reason.entry(reason.code()).or_insert(0) += count;
        }
        Self {
            events: summary.events,
            late: summary.late,
            repeated: summary.repeated,
            bad: summary.bad.iter().sum(),
            bad_by_reason,
            sessions: summary.sessions,
            orders: summary.orders,
            order_updates: summary.order_updates,
            payments: summary.payments,
            products: summary.products,
            clicks: summary.clicks,
        }
    }
}

impl Produce {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.kafka.format != RecordFormat::Json && !matches!(self.to, To::Kafka(_)) {
            return Err(Failure::input(
                "--format is for records of Kafka, and events go elsewhere",
            )
            .hint("leave it out, or send them with --to kafka:HOST:PORT"));
        }
        let live = self.to.is_live() && !self.unpaced;
        let count = self.events.or((!live).then_some(1000));
        let options = self.mix.options(count, live)?;
        let mut sink = Sink::open(&self.to, &self.kafka)?;
        let mut generator = Generator::new(options);
        let pace = Pace { started: Instant::now(), rate: live.then_some(self.mix.rate) };
        let bar = Bar::new("produce");
        let mut line = Vec::new();
        loop {
            pace.wait_for(generator.summary().events, &mut sink)?;
            line.clear();
            if !generator.next_line(&mut line) {
                break;
            }
            sink.write(&line)?;
            let done = generator.summary().events;
            if let Some(total) = count.filter(|_| done.is_multiple_of(8_192)) {
                bar.step("events", done, total);
            }
        }
        sink.finish()?;
        bar.finish();
        self.tell(&Told::new(generator.summary(), self.kafka.format))
    }

    fn tell(&self, told: &Told) -> Result<(), Failure> {
        let text = match self.output.output {
            Output::Json => serde_json::to_string(told)
                .map_err(|error| Failure::ours(format!("write the summary as JSON: {error}")))?,
            Output::Text => format!(
                "{} events: {} late, {} repeated, {} bad",
                told.events, told.late, told.repeated, told.bad
            ),
        };
        if self.to == To::Stdout {
            eprintln!("{text}");
            return Ok(());
        }
        output::line(&text)
    }
}

/// Holds a live stream to its rate.
struct Pace {
    started: Instant,
    rate: Option<f64>,
}

impl Pace {
    /// Waits until event number `done` is due; what is buffered goes out before a wait.
    fn wait_for(&self, done: u64, sink: &mut Sink) -> Result<(), Failure> {
        let Some(rate) = self.rate else { return Ok(()) };
        let due = Duration::from_secs_f64(done as f64 / rate);
        let early = due.saturating_sub(self.started.elapsed());
        if !early.is_zero() {
            sink.flush()?;
            std::thread::sleep(due.saturating_sub(self.started.elapsed()));
        }
        Ok(())
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share is a number from 0 to 1".to_owned()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("must be a number above 0".to_owned()),
    }
}

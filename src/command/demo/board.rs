//! Metrics that move, in the terminal: redrawn in place where a person looks, a line now and then
//! where the output goes elsewhere.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::contracts::model::{Domain, Measure, Metric};
use serving::cache::Cache;
use serving::question::MetricQuestion;
use serving::store::Readers;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::node::Node;
use crate::output::table;
use crate::source_spec::TENANT;

/// How often the board is drawn in a terminal, and how often a line is written elsewhere.
const REDRAW: Duration = Duration::from_millis(500);
const LINE: Duration = Duration::from_secs(5);

/// Shows the metrics of a node.
pub(super) struct Board {
    url: String,
    key: String,
    rate: u32,
    domain: Arc<Domain>,
    cache: Arc<Cache>,
    readers: Readers,
}

impl Board {
    pub(super) fn new(node: &Node, rate: u32, key: String) -> Self {
        Self {
            url: format!("http://{}", node.address()),
            key,
            rate,
            domain: node.cache().engine().domain().clone(),
            cache: node.cache().clone(),
            readers: node.readers().clone(),
        }
    }

    /// What runs here and what to try.
    pub(super) fn introduction(&self, data: &Path, temporary: bool) -> String {
        let url = &self.url;
        let mut text = format!(
            "The shop of `contracts/domains/{}`: {} generated events a second.\n\
             Data in {}{}.\n\nTry, in another terminal:\n  KEY='X-API-Key: {}'\n",
            self.domain.name,
            self.rate,
            data.display(),
            if temporary { ", gone when the demo ends" } else { "" },
            self.key,
        );
        // An amount that can be taken apart says most.
        let telling =
            |metric: &&&Metric| (matches!(metric.measure, Measure::Sum), metric.dimensions.len());
        if let Some(metric) = self.shown().iter().max_by_key(telling) {
            let name = &metric.name;
            text.push_str(&format!("  curl -s -H \"$KEY\" '{url}/v1/metrics/{name}'\n"));
            if let Some(dimension) = metric.dimensions.first() {
                let by = &dimension.name;
                text.push_str(&format!(
                    "  curl -s -H \"$KEY\" '{url}/v1/metrics/{name}?group_by={by}'\n"
                ));
            }
        }
        text.push_str(&format!("  curl -s -H \"$KEY\" '{url}/v1/deadletter?page_size=3'\n"));
        text.push_str(&format!("\nEverything there is: {url}/docs. Ctrl-C ends it.\n"));
        text
    }

    /// The versions that answer, in the order of the contracts.
    fn shown(&self) -> Vec<&Metric> {
        let current = |metric: &&Metric| {
            let answers = self.cache.engine().answering(&metric.name);
            answers.is_some_and(|current| current.index == metric.index)
        };
        self.domain.metrics.iter().filter(current).collect()
    }

    /// Draws until `ending`.
    pub(super) fn run(&self, ending: &CancellationToken) -> Result<(), Failure> {
        let in_place = io::stdout().is_terminal();
        let every = if in_place { REDRAW } else { LINE };
        let mut drawn_lines = 0;
        let mut next = Instant::now();
        while !ending.is_cancelled() {
            if Instant::now() >= next {
                next = Instant::now() + every;
                let text = if in_place { table(&self.rows()) } else { self.one_line() };
                if ending.is_cancelled() {
                    // What was asked while the store closed is no news.
                    break;
                }
                if draw(&text, drawn_lines).is_err() {
                    // Nobody looks any more; the server goes on until it is told to end.
                    return Ok(());
                }
                drawn_lines = if in_place { text.lines().count() } else { 0 };
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![["metric", "window", "value", "unit"].map(str::to_owned).to_vec()];
        for metric in self.shown() {
            let (window, value) = self.value(metric);
            rows.push(vec![metric.name.clone(), window, value, metric.unit.clone()]);
        }
        let [received, rejected] = self.counts();
        rows.push(vec!["events received".into(), "all".into(), received, "count".into()]);
        rows.push(vec!["events rejected".into(), "all".into(), rejected, "count".into()]);
        rows
    }

    fn one_line(&self) -> String {
        let mut parts = Vec::new();
        for metric in self.shown() {
            let (window, value) = self.value(metric);
            parts.push(format!("{} ({window}) {value} {}", metric.name, metric.unit));
        }
        let [received, rejected] = self.counts();
        format!("{} | received {received}, rejected {rejected}\n", parts.join(" | "))
    }

    /// The window that a read without one gets, and the value.
    fn value(&self, metric: &Metric) -> (String, String) {
        let answer = self.cache.read(&MetricQuestion {
            metric: metric.name.clone(),
            tenant: TENANT.to_owned(),
            ..Default::default()
        });
        match answer {
            Ok(answer) => {
                let value = answer.value.as_ref().map(serde_json::to_string);
                let text = match value {
                    Some(Ok(text)) if text != "null" => short(text),
                    _ => "-".to_owned(),
                };
                (answer.window, text)
            }
            Err(error) => ("-".to_owned(), error.to_string()),
        }
    }

    /// Records received and rejected since the data directory was made.
    fn counts(&self) -> [String; 2] {
        let counts = match self.readers.counts_by_reason() {
            Ok(counts) => counts,
            Err(error) => {
                tracing::warn!(%error, "the counts cannot be read");
                return ["-".to_owned(), "-".to_owned()];
            }
        };
        let sum = |outcome: &str| counts.get(outcome).map_or(0, |r| r.values().sum::<u64>());
        let received: u64 = counts.keys().map(|outcome| sum(outcome)).sum();
        [received.to_string(), sum("rejected").to_string()]
    }
}

/// A number with at most four digits after the point: the board is for eyes.
fn short(number: String) -> String {
    let digits = number.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    match number.parse::<f64>() {
        Ok(value) if digits > 4 => format!("{value:.4}"),
        _ => number,
    }
}

/// Writes `text` over the last `over` lines.
fn draw(text: &str, over: usize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if over > 0 {
        // Up, and clear from there: lines may have become shorter or fewer.
        write!(out, "\x1b[{over}A\x1b[J")?;
    }
    out.write_all(text.as_bytes())?;
    out.flush()
}

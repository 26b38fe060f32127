//! Progress bars on stderr for long bounded work, when a person looks at it.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use pipeline::outcome::Counts;
use pipeline::source::Progress;

/// A bar; nothing is drawn unless stderr is a terminal. Clones draw the same bar.
#[derive(Clone)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar over bytes or records of bounded sources.
    pub(crate) fn new(what: &'static str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(0);
        let style =
            "{prefix} {bar:30} {percent:>3} %  {elapsed_precise}, {eta_precise} left  {msg}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    /// Shows how far the sources are and what came of them.
    pub(crate) fn advance(&self, progress: Progress, counts: &Counts) {
        self.0.set_length(progress.total);
        self.0.set_position(progress.done);
        let rate = counts.received as f64 / self.0.elapsed().as_secs_f64().max(0.001);
        self.0.set_message(format!(
            "{} events, {rate:.0}/s, {} rejected",
            counts.received, counts.rejected
        ));
    }

    /// Shows one step of other work.
    pub(crate) fn step(&self, message: &str, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
        self.0.set_message(message.to_owned());
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// A callback that shows a store's work at its start (a rebuild), with a bar only if there is any.
pub(crate) fn of_store() -> serving::store::Progress {
    let bar: Arc<Mutex<Option<Bar>>> = Arc::default();
    Box::new(move |message, done, total| {
        let mut bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
        bar.get_or_insert_with(|| Bar::new("rebuild")).step(message, done, total);
        if done >= total
            && let Some(bar) = bar.take()
        {
            bar.finish();
        }
    })
}

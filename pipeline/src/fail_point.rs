//! Named places where a test can kill the process, freeze it or slow it down.
//!
//! `AGENTFLOW_FAIL_POINT=store_before_commit:3` aborts the process, as a power cut would, when the
//! place of that name is reached for the third time; several points are separated by commas. With
//! `store_before_commit:3:freeze` it stands still there, as a machine that was put to sleep, until
//! somebody sends it `SIGCONT`. With `store_before_commit:3:slow=50` the third time and every time
//! after it take 50 ms longer, as they would on a slow disk.
//! Without the variable a point costs one atomic load, so the points are always compiled in and
//! the tests kill the same binary that people run.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The environment variable that arms fail points.
pub const VARIABLE: &str = "AGENTFLOW_FAIL_POINT";

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Abort,
    Freeze,
    /// From the hit that was waited for on, each takes so much longer.
    Slow(Duration),
}

struct Point {
    name: String,
    /// The hit at which it happens, counted from one.
    count: u64,
    hits: AtomicU64,
    effect: Effect,
}

impl Point {
    fn hit(&self) {
        let hits = self.hits.fetch_add(1, Ordering::SeqCst) + 1;
        match self.effect {
            Effect::Slow(pause) if hits >= self.count => std::thread::sleep(pause),
            Effect::Freeze if hits == self.count => freeze(),
            Effect::Abort if hits == self.count => std::process::abort(),
            _ => {}
        }
    }
}

/// Lets happen what the point `name` is armed with, if this is the hit it waits for.
pub fn hit(name: &str) {
    static POINTS: OnceLock<Vec<Point>> = OnceLock::new();
    let points = POINTS.get_or_init(|| match std::env::var(VARIABLE) {
        // A mistyped point would let a kill test pass without a kill.
        Ok(text) => parse(&text).unwrap_or_else(|| {
            eprintln!(
                "{VARIABLE}: expected `name:count[:freeze|:slow=MILLISECONDS][,…]`, found `{text}`"
            );
            std::process::abort()
        }),
        Err(_) => Vec::new(),
    });
    if points.is_empty() {
        return;
    }
    points.iter().filter(|point| point.name == name).for_each(Point::hit);
}

/// Returns once the process goes on.
fn freeze() {
    let process = std::process::id().to_string();
    // A freeze that does not come would let a test pass without it.
    match std::process::Command::new("kill").args(["-STOP", &process]).status() {
        Ok(status) if status.success() => {}
        _ => std::process::abort(),
    }
}

fn parse(text: &str) -> Option<Vec<Point>> {
    text.split(',')
        .map(|item| {
            let (name, rest) = item.trim().split_once(':')?;
            let (count, effect) = match rest.split_once(':') {
                None => (rest, Effect::Abort),
                Some((count, effect)) => (count, parse_effect(effect)?),
            };
            let count: u64 = count.parse().ok().filter(|count| *count > 0)?;
            Some(Point { name: name.to_owned(), count, hits: AtomicU64::new(0), effect })
        })
        .collect()
}

fn parse_effect(text: &str) -> Option<Effect> {
    match text.split_once('=') {
        None => (text == "freeze").then_some(Effect::Freeze),
        Some(("slow", pause)) => {
            let pause: u64 = pause.parse().ok().filter(|pause| *pause > 0)?;
            Some(Effect::Slow(Duration::from_millis(pause)))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&[(&str, u64, Effect)]>) {
        let found = parse(text).map(|points| {
            points.into_iter().map(|point| (point.name, point.count, point.effect)).collect()
        });
        let owned = |(name, n, effect): &(&str, u64, Effect)| ((*name).to_owned(), *n, *effect);
        let expected: Option<Vec<_>> = expected.map(|all| all.iter().map(owned).collect());
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn points_are_named_and_counted() {
        check("a:1", Some(&[("a", 1, Effect::Abort)]));
        check("a:1, b:20:freeze", Some(&[("a", 1, Effect::Abort), ("b", 20, Effect::Freeze)]));
        let slow = Effect::Slow(Duration::from_millis(50));
        check("a:1:slow=50,a:9", Some(&[("a", 1, slow), ("a", 9, Effect::Abort)]));
        check("a:1:melt", None);
        check("a:1:slow", None);
        check("a:1:slow=0", None);
        check("a:1:slow=50ms", None);
        check("a:1:freeze=50", None);
        check("a", None);
        check("a:0", None);
        check("a:x", None);
        check("", None);
    }

    #[test]
    fn a_slow_point_is_slow_from_its_hit_on() {
        let point = &parse("a:2:slow=20").expect("valid")[0];
        let took = || {
            let started = std::time::Instant::now();
            point.hit();
            started.elapsed()
        };
        took();
        let pause = Duration::from_millis(20);
        assert!(took() >= pause && took() >= pause);
    }

    #[test]
    fn an_unarmed_point_does_nothing() {
        hit("nobody_armed_this");
    }
}

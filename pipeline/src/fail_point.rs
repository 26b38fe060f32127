//! Named places where a test can kill the process.
//!
//! `AGENTFLOW_FAIL_POINT=store_before_commit:3` aborts the process, as a power cut would, when the
//! place of that name is reached for the third time; several points are separated by commas.
//! Without the variable a point costs one atomic load, so the points are always compiled in and
//! the tests kill the same binary that people run.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable that arms fail points.
pub const VARIABLE: &str = "AGENTFLOW_FAIL_POINT";

struct Point {
    name: String,
    /// Hits still to come before the process aborts.
    remaining: AtomicU64,
}

/// Aborts the process if the point `name` is armed and this is the hit it waits for.
pub fn hit(name: &str) {
    static POINTS: OnceLock<Vec<Point>> = OnceLock::new();
    let points = POINTS.get_or_init(|| match std::env::var(VARIABLE) {
        // A mistyped point would let a kill test pass without a kill.
        Ok(text) => parse(&text).unwrap_or_else(|| {
            eprintln!("{VARIABLE}: expected `name:count[,name:count]`, found `{text}`");
            std::process::abort()
        }),
        Err(_) => Vec::new(),
    });
    if points.is_empty() {
        return;
    }
    for point in points.iter().filter(|point| point.name == name) {
        if point.remaining.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
    }
}

fn parse(text: &str) -> Option<Vec<Point>> {
    text.split(',')
        .map(|item| {
            let (name, count) = item.trim().split_once(':')?;
            let count: u64 = count.parse().ok().filter(|count| *count > 0)?;
            Some(Point { name: name.to_owned(), remaining: AtomicU64::new(count) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&[(&str, u64)]>) {
        let found = parse(text).map(|points| {
            points
                .into_iter()
                .map(|point| (point.name, point.remaining.into_inner()))
                .collect::<Vec<_>>()
        });
        let expected = expected
            .map(|all| all.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<Vec<_>>());
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn points_are_named_and_counted() {
        check("a:1", Some(&[("a", 1)]));
        check("a:1, b:20", Some(&[("a", 1), ("b", 20)]));
        check("a", None);
        check("a:0", None);
        check("a:x", None);
        check("", None);
    }

    #[test]
    fn an_unarmed_point_does_nothing() {
        hit("nobody_armed_this");
    }
}

//! Named places where a test can kill the process, or freeze it.
//!
//! `AGENTFLOW_FAIL_POINT=store_before_commit:3` aborts the process, as a power cut would, when the
//! place of that name is reached for the third time; several points are separated by commas. With
//! `store_before_commit:3:freeze` it stands still there, as a machine that was put to sleep, until
//! somebody sends it `SIGCONT`.
//! Without the variable a point costs one atomic load, so the points are always compiled in and
//! the tests kill the same binary that people run.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable that arms fail points.
pub const VARIABLE: &str = "AGENTFLOW_FAIL_POINT";

struct Point {
    name: String,
    /// Hits still to come before it happens.
    remaining: AtomicU64,
    freezes: bool,
}

/// Aborts or freezes the process if the point `name` is armed and this is the hit it waits for.
pub fn hit(name: &str) {
    static POINTS: OnceLock<Vec<Point>> = OnceLock::new();
    let points = POINTS.get_or_init(|| match std::env::var(VARIABLE) {
        // A mistyped point would let a kill test pass without a kill.
        Ok(text) => parse(&text).unwrap_or_else(|| {
            eprintln!("{VARIABLE}: expected `name:count[:freeze][,…]`, found `{text}`");
            std::process::abort()
        }),
        Err(_) => Vec::new(),
    });
    if points.is_empty() {
        return;
    }
    for point in points.iter().filter(|point| point.name == name) {
        if point.remaining.fetch_sub(1, Ordering::SeqCst) == 1 {
            match point.freezes {
                true => freeze(),
                false => std::process::abort(),
            }
        }
    }
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
            let (name, count) = item.trim().split_once(':')?;
            let (count, freezes) = match count.split_once(':') {
                None => (count, false),
                Some((count, "freeze")) => (count, true),
                Some(_) => return None,
            };
            let count: u64 = count.parse().ok().filter(|count| *count > 0)?;
            Some(Point { name: name.to_owned(), remaining: AtomicU64::new(count), freezes })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&[(&str, u64, bool)]>) {
        let found = parse(text).map(|points| {
            points
                .into_iter()
                .map(|point| (point.name, point.remaining.into_inner(), point.freezes))
                .collect::<Vec<_>>()
        });
        let owned = |(name, n, freezes): &(&str, u64, bool)| ((*name).to_owned(), *n, *freezes);
        let expected = expected.map(|all| all.iter().map(owned).collect::<Vec<_>>());
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn points_are_named_and_counted() {
        check("a:1", Some(&[("a", 1, false)]));
        check("a:1, b:20:freeze", Some(&[("a", 1, false), ("b", 20, true)]));
        check("a:1:melt", None);
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

//! Plots of measured times, as SVG in a page of their own.

use std::fmt::Write as _;
use std::time::Duration;

/// Times of one arm of a measurement.
pub struct Series {
    pub name: String,
    /// Sorted.
    pub times: Vec<Duration>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 6] = ["#0b6bcb", "#c2410c", "#15803d", "#7c3aed", "#be123c", "#525252"];

/// The share of samples (upwards) that were visible within a time (to the right, logarithmic).
pub fn cumulative(series: &[Series]) -> String {
    let milliseconds = |time: Duration| (time.as_secs_f64() * 1e3).max(0.1);
    let all = series.iter().flat_map(|series| &series.times).map(|time| milliseconds(*time));
    let (low, high) = all.fold((f64::MAX, 0.1_f64), |(low, high), t| (low.min(t), high.max(t)));
    let (low, high) = (low.log10().floor(), high.log10().ceil().max(low.log10().floor() + 1.0));
    let x = |t: f64| LEFT + (t.log10() - low) / (high - low) * (WIDTH - LEFT - RIGHT);
    let y = |share: f64| HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" \
         font-family=\"sans-serif\" font-size=\"12\">\n"
    );
    let mut line = |x1: f64, y1: f64, x2: f64, y2: f64, label: &str, at: (f64, f64)| {
        let (lx, ly) = at;
        let _ = writeln!(
            svg,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{lx:.1}\" y=\"{ly:.1}\" fill=\"#333\" text-anchor=\"middle\">{label}</text>"
        );
    };
    for share in [0.0, 0.25, 0.5, 0.75, 0.95, 1.0] {
        let label = format!("{:.0} %", share * 100.0);
        line(LEFT, y(share), WIDTH - RIGHT, y(share), &label, (LEFT - 26.0, y(share) + 4.0));
    }
    let mut power = low as i32;
    while f64::from(power) <= high {
        let t = 10_f64.powi(power);
        let label = if t < 1_000.0 { format!("{t} ms") } else { format!("{} s", t / 1e3) };
        line(x(t), TOP, x(t), HEIGHT - BOTTOM, &label, (x(t), HEIGHT - BOTTOM + 18.0));
        power += 1;
    }
    for (number, series) in series.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let count = series.times.len() as f64;
        let mut points = String::new();
        for (rank, time) in series.times.iter().enumerate() {
            let _ = write!(
                points,
                "{:.1},{:.1} ",
                x(milliseconds(*time)),
                y((rank + 1) as f64 / count)
            );
        }
        let (lx, ly) = (LEFT + 12.0, TOP + 16.0 + 16.0 * number as f64);
        let _ = writeln!(
            svg,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <rect x=\"{lx}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{ly}\" fill=\"#111\">{} ({count} samples)</text>",
            ly - 9.0,
            lx + 16.0,
            series.name
        );
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let _ = writeln!(
        svg,
        "<text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#333\">from produced to visible</text>\n</svg>",
        HEIGHT - 8.0
    );
    svg
}

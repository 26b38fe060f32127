//! stdout: data for people or for scripts.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::{Failure, chain};

/// Form of the data on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// For scripts: one JSON document, or one a line where there are many.
    Json,
}

/// `--output`, for commands that print data.
#[derive(Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// Form of the data on stdout.
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) output: Output,
}

/// Writes one line to stdout.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")))
}

/// Writes `value` as one line of JSON to stdout.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::ours(format!("write the answer as JSON: {error}")))?;
    line(&text)
}

/// A reader that has seen enough (`| head`) is no failure: the process ends quietly.
fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::quiet()),
        Err(error) => Err(Failure::ours(format!("write to stdout: {}", chain(&error)))),
    }
}

/// Columns padded to the widest cell; the last column is not padded.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if column + 1 < row.len() {
                let fill = widths[column] - cell.chars().count() + 2;
                out.extend(std::iter::repeat_n(' ', fill));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let row = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            table(&[row(&["origin", "value"]), row(&["EWR", "17"]), row(&["é", "1"])]),
            "origin  value\nEWR     17\né       1\n"
        );
    }
}

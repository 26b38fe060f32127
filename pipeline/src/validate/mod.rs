//! Bounds and rules over decoded columns.
//!
//! Bounds are checked column by column, rules once per rule and batch. The first check that a row
//! fails, in the contract's order and bounds before rules, is its reason; later checks do not look
//! at it again. Absent and null values pass every bound.
//!
//! What always holds: a row's verdict depends on that row alone. An expression that cannot be
//! evaluated for a row is null in that row, and an undecided rule with severity `error` rejects it:
//! what cannot be shown to be right does not pass.

mod bounds;

#[cfg(test)]
mod tests;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use contracts::model::{EventContract, Rule, Severity};

use crate::outcome::{Reason, Rejection, Stage};

use bounds::FieldBounds;

/// The checks of one contract version, compiled once.
#[derive(Debug)]
pub(crate) struct Validator {
    bounds: Vec<FieldBounds>,
    rules: Vec<Rule>,
}

/// What the checks say about a batch.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// One per row that failed, in no order.
    pub(crate) failures: Vec<Failure>,
    /// For each row the names of the warning rules it broke; empty when no row broke one.
    pub(crate) warnings: Vec<Option<String>>,
}

/// The first check that a row failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) row: usize,
    pub(crate) reason: Reason,
    pub(crate) field: Option<String>,
    pub(crate) rule: Option<String>,
    pub(crate) detail: String,
}

/// Rows that have failed no check so far.
#[derive(Debug)]
struct Open {
    rows: Vec<bool>,
    failures: Vec<Failure>,
}

impl Open {
    fn fail(&mut self, failure: Failure) {
        debug_assert!(self.rows[failure.row], "a row fails once");
        self.rows[failure.row] = false;
        self.failures.push(failure);
    }
}

impl Validator {
    /// Compiles the checks of a contract.
    pub(crate) fn new(contract: &EventContract) -> Self {
        // The columns of the fields come after the four of the envelope.
        const ENVELOPE: usize = 4;
        Self {
            bounds: contract
                .fields
                .iter()
                .enumerate()
                .filter_map(|(at, field)| FieldBounds::new(field, ENVELOPE + at))
                .collect(),
            rules: contract.rules.clone(),
        }
    }

    /// Checks a batch in [`EventContract::decoded_schema`].
    pub(crate) fn check(&self, batch: &RecordBatch) -> Verdict {
        let mut open = Open { rows: vec![true; batch.num_rows()], failures: Vec::new() };
        for bounds in &self.bounds {
            bounds.check(batch, &mut open);
        }
        let mut warnings: Vec<Option<String>> = Vec::new();
        for rule in &self.rules {
            let values = rule.check.evaluate(batch);
            let Some(values) = values.as_boolean_opt() else {
                debug_assert!(false, "rules are boolean");
                continue;
            };
            if values.true_count() == batch.num_rows() {
                continue;
            }
            match rule.severity {
                Severity::Error => apply(rule, values, &mut open),
                Severity::Warning => warn(rule, values, &open, &mut warnings),
            }
        }
        Verdict { failures: open.failures, warnings }
    }
}

/// An `error` rule: false and undecided rows fail.
fn apply(rule: &Rule, values: &BooleanArray, open: &mut Open) {
    for row in 0..values.len() {
        let (reason, what) = match (values.is_null(row), open.rows[row]) {
            (_, false) => continue,
            (true, _) => (Reason::RuleUndecided, "cannot be decided"),
            (false, _) if values.value(row) => continue,
            (false, _) => (Reason::RuleFailed, "does not hold"),
        };
        open.fail(Failure {
            row,
            reason,
            field: rule.field.clone(),
            rule: Some(rule.name.clone()),
            detail: format!("rule `{}` {what}", rule.name),
        });
    }
}

/// A `warning` rule: false and undecided rows keep its name.
fn warn(rule: &Rule, values: &BooleanArray, open: &Open, warnings: &mut Vec<Option<String>>) {
    for row in 0..values.len() {
        if !open.rows[row] || (values.is_valid(row) && values.value(row)) {
            continue;
        }
        if warnings.is_empty() {
            warnings.resize(values.len(), None);
        }
        match &mut warnings[row] {
            Some(names) => {
                names.push(',');
                names.push_str(&rule.name);
            }
            none => *none = Some(rule.name.clone()),
        }
    }
}

impl Failure {
    /// The rejection of this row of `columns`.
    pub(crate) fn into_rejection(
        self,
        contract: &EventContract,
        columns: &RecordBatch,
        ordinals: &[u32],
    ) -> Rejection {
        // The first three columns of a decoded batch are type, id and time, never null.
        let text = |column: usize| {
            let texts = columns.column(column).as_string_opt::<i32>()?;
            Some(texts.value(self.row).to_owned())
        };
        let times = columns.column(2).as_primitive_opt::<TimestampMicrosecondType>();
        Rejection {
            ordinal: ordinals[self.row],
            stage: Stage::Validate,
            reason: self.reason,
            field: self.field,
            rule: self.rule,
            detail: self.detail,
            event_id: text(1),
            event_type: text(0),
            event_time: times.map(|times| times.value(self.row)),
            contract: Some((contract.name.clone(), contract.version)),
        }
    }
}

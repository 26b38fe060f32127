//! Estimates of distinct counts and quantiles.
//!
//! Both are made of small counts that DuckDB gathers and that could be kept per bucket of time and
//! merged: registers by maximum, classes by sum. So neither depends on the order of rows, and the
//! same rows give the same estimate. How far they may be off is said by
//! [`Measure::error`](contracts::model::Measure::error); [ADR 30] says why it is these two.
//!
//! A sketch comes out of a statement as a text, `class:count class:count …`.
//!
//! [ADR 30]: ../../../docs/adr/0030-kinds-of-metrics.md

use crate::value::Value;

/// Bits of a hash that choose a register.
const REGISTER_BITS: u32 = 14;
const REGISTERS: f64 = (1_u32 << REGISTER_BITS) as f64;
/// Bits that are left for the rank.
const RANK_BITS: u32 = 64 - REGISTER_BITS;

/// Half the width of a class of values, as a share of the value.
const WIDTH: f64 = 0.01;
/// Ratio of the bounds of a class.
const GAMMA: f64 = (1.0 + WIDTH) / (1.0 - WIDTH);
/// Above the number of any class: the smallest double is in class −37,220.
const SHIFT: i64 = 40_000;

/// `d0, d1, `: before the columns of a statement.
fn prefix(groups: &[String]) -> String {
    groups.iter().map(|group| format!("{group}, ")).collect()
}

/// How many registers hold which rank, over the arguments `a` of `rows`. Ends where a `group by` over
/// `groups` may follow. A register keeps the highest rank of its hashes: one more than the zeros at
/// the end of the rest of the hash.
pub(super) fn distinct(rows: &str, groups: &[String]) -> String {
    let prefix = prefix(groups);
    let mask = (1_u64 << REGISTER_BITS) - 1;
    let end = 1_u64 << RANK_BITS;
    format!(
        "select {prefix}string_agg(r || ':' || n, ' ') from (\
         select {prefix}r, count(*) as n from (\
         select {prefix}b, max(bit_count(xor(w, w - 1)::bigint)) as r from (\
         select {prefix}case when a is not null then hash(a) & {mask}::ubigint end as b, \
         case when a is not null then (hash(a) >> {REGISTER_BITS}) | {end}::ubigint end as w \
         from ({rows}) r) hashed group by {prefix}b) registers group by {prefix}r) r"
    )
}

/// How many arguments `a` of `rows` fall into which class, rows counting `n` times where `weighted`.
/// Ends where a `group by` over `groups` may follow. Class `i` above zero has the values in
/// (γ^(i − 1), γ^i], below zero their opposites.
pub(super) fn classes(rows: &str, groups: &[String], weighted: bool) -> String {
    let prefix = prefix(groups);
    let (count, weight) = if weighted { ("sum(n)", ", n") } else { ("count(*)", "") };
    let ln = GAMMA.ln();
    format!(
        "select {prefix}string_agg(b || ':' || n, ' ' order by b) from (\
         select {prefix}b, {count} as n from (\
         select {prefix}case when not isfinite(a) then null \
         when a > 0 then ceil(ln(a) / {ln:?})::bigint + {SHIFT} \
         when a < 0 then -(ceil(ln(-a) / {ln:?})::bigint + {SHIFT}) \
         when a = 0 then 0 end as b{weight} \
         from (select {prefix}a::double as a{weight} from ({rows}) r) doubles) classed \
         group by {prefix}b) r"
    )
}

/// The pairs of a sketch's text.
fn pairs(text: &str) -> impl Iterator<Item = (i64, f64)> + '_ {
    text.split(' ').filter_map(|pair| {
        let (class, count) = pair.split_once(':')?;
        Some((class.parse().ok()?, count.parse().ok()?))
    })
}

/// The number of distinct arguments by a text of [`distinct`].
pub(super) fn count(text: Option<&str>) -> Value {
    let last = RANK_BITS as usize + 1;
    let mut ranks = vec![0.0; last + 1];
    for (rank, count) in pairs(text.unwrap_or_default()) {
        if let Some(slot) = usize::try_from(rank).ok().and_then(|rank| ranks.get_mut(rank)) {
            *slot += count;
        }
    }
    ranks[0] = REGISTERS - ranks.iter().sum::<f64>();
    Value::Int(estimate(&ranks).round() as i128)
}

/// Ertl's estimator ("New cardinality estimation algorithms for HyperLogLog sketches", 2017): it needs
/// no table of corrections and is as good for few values as for many.
fn estimate(ranks: &[f64]) -> f64 {
    let last = ranks.len() - 1;
    let mut z = REGISTERS * above(1.0 - ranks[last] / REGISTERS);
    for count in ranks[1..last].iter().rev() {
        z = 0.5 * (z + count);
    }
    z += REGISTERS * below(ranks[0] / REGISTERS);
    REGISTERS * REGISTERS / (2.0 * std::f64::consts::LN_2 * z)
}

/// What registers without a value stand for: x + Σ x^(2^k) · 2^(k − 1), infinite for 1.
fn below(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut sum, mut factor) = (x, 1.0);
    loop {
        x *= x;
        let next = sum + x * factor;
        if next == sum {
            return sum;
        }
        (sum, factor) = (next, factor * 2.0);
    }
}

/// What registers at the highest rank stand for: (1 − x − Σ (1 − x^(2^−k))² · 2^−k) / 3.
fn above(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut sum, mut factor) = (1.0 - x, 1.0);
    loop {
        x = x.sqrt();
        factor *= 0.5;
        let next = sum - (1.0 - x) * (1.0 - x) * factor;
        if next == sum {
            return sum / 3.0;
        }
        sum = next;
    }
}

/// The quantile `q` by a text of [`classes`], linear between the two ranks around it.
pub(super) fn quantile(text: Option<&str>, q: f64) -> Value {
    let classes: Vec<(i64, f64)> = pairs(text.unwrap_or_default()).collect();
    let total: f64 = classes.iter().map(|(_, count)| count).sum();
    if total < 1.0 {
        return Value::Null;
    }
    let position = q * (total - 1.0);
    let at = |rank: f64| {
        let mut upto = 0.0;
        let found = classes.iter().find(|(_, count)| {
            upto += count;
            upto > rank
        });
        found.or(classes.last()).map_or(0.0, |(class, _)| middle(*class))
    };
    let (low, high) = (at(position.floor()), at(position.ceil()));
    // Not the difference of the two: it may be more than a double holds.
    let part = position - position.floor();
    Value::Float(low * (1.0 - part) + high * part)
}

/// The value that is as near to both bounds of a class as a share of each.
fn middle(class: i64) -> f64 {
    let Some(power) = class.abs().checked_sub(SHIFT).filter(|_| class != 0) else { return 0.0 };
    // In one power: the upper bound of the highest class is more than a double holds, its middle may not be.
    let size = (power as f64 * GAMMA.ln() - ((GAMMA + 1.0) / 2.0).ln()).exp();
    size.min(f64::MAX) * class.signum() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_of(ranks: &[(usize, u32)]) -> Value {
        let text: Vec<String> = ranks.iter().map(|(rank, n)| format!("{rank}:{n}")).collect();
        count(Some(&text.join(" ")))
    }

    #[test]
    fn nothing_counts_nothing_and_few_are_counted_well() {
        assert_eq!(count(None), Value::Int(0));
        assert_eq!(count(Some("")), Value::Int(0));
        assert_eq!(count_of(&[(1, 1)]), Value::Int(1));
        assert_eq!(count_of(&[(1, 5), (2, 3), (4, 2)]), Value::Int(10));
    }

    #[test]
    fn registers_that_are_all_full_do_no_harm() {
        let Value::Int(most) = count_of(&[(51, 16_384)]) else { panic!("a count") };
        assert!(most > 1_i128 << 60, "{most}");
        assert_eq!(count_of(&[(99, 1)]), Value::Int(0));
    }

    #[test]
    fn the_middle_of_a_class_is_near_to_all_its_values() {
        for value in [
            1e-300,
            0.001,
            0.999,
            1.0,
            1.01,
            17.0,
            1e9,
            1e300,
            8.9e307,
            9.1e307,
            1e308,
            1.6e308,
            f64::MAX,
        ] {
            let class = (value.ln() / GAMMA.ln()).ceil() as i64 + SHIFT;
            for (class, value) in [(class, value), (-class, -value)] {
                let off = (middle(class) / value - 1.0).abs();
                assert!(off <= WIDTH * (1.0 + 1e-8), "{value}: {} is {off} off", middle(class));
            }
        }
        assert_eq!(middle(0), 0.0);
    }

    #[test]
    fn a_quantile_lies_between_its_ranks() {
        assert_eq!(quantile(None, 0.5), Value::Null);
        assert_eq!(quantile(Some("0:3"), 0.5), Value::Float(0.0));
        let huge = (1.7e308_f64.ln() / GAMMA.ln()).ceil() as i64 + SHIFT;
        let text = format!("{}:1 {huge}:1", -huge);
        assert_eq!(quantile(Some(&text), 0.5), Value::Float(0.0));
        let (zero, one) = (0, SHIFT);
        let text = format!("{zero}:1 {one}:1");
        let Value::Float(middle) = quantile(Some(&text), 0.5) else { panic!("a quantile") };
        assert!((middle - 0.5).abs() < 0.01, "{middle}");
    }
}

//! State of metrics: counts and sums by minute, hour and day, kept with each commit, so that of a
//! window only the edges are read from rows.
//!
//! What always holds: state is a function of the rows of the same commit. A row that comes is added, one that
//! goes or changes is taken out by the same amount ([`mod@gather`]); what a commit changes is written in its own
//! transaction ([`delta`]) and, from time to time, the whole ([`cube`]). A reader gets the state of its own
//! snapshot ([`keeper`]), and what lies within a minute at the edge of its window from rows, which are kept decoded
//! while nothing changes them ([`pieces`], [`block`]); so are the different values of an hour ([`distinct`]). Which
//! metrics have state says [`spec`]; the store's side is `store/state/`, the reader's `metric/kept.rs`.

mod agg;
mod ask;
mod block;
mod cells;
mod cube;
mod delta;
mod distinct;
mod face;
mod gather;
mod keeper;
mod pieces;
mod spec;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use self::agg::{Agg, Arithmetic};
pub(crate) use self::ask::{Ask, Hours, Told, Unread};
pub(crate) use self::block::{ARGUMENT, Block, TIME, WEIGHT, dimension};
pub(crate) use self::cube::{HOUR, MINUTE};
pub(crate) use self::delta::{Bucket, Delta};
pub(crate) use self::distinct::{Distinct, Gathered};
pub(crate) use self::face::Key;
pub(crate) use self::gather::{Change, gather};
pub(crate) use self::keeper::Keeper;
#[cfg(test)]
pub(crate) use self::keeper::Size;
pub(crate) use self::pieces::Piece;
pub(crate) use self::spec::{Input, Spec, Subject, specs};

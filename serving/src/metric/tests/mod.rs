//! The metric engine against an oracle over random rows, and case by case.

mod beyond;
mod errors;
mod estimates;
mod filters;
pub(crate) mod fixture;
mod followed;
mod groups;
mod limits;
mod oracle;
mod properties;
mod reads;
mod weighted;

//! The metric engine against an oracle over random rows, and case by case.

mod beyond;
mod errors;
mod filters;
pub(crate) mod fixture;
mod oracle;
mod properties;
mod reads;
mod weighted;

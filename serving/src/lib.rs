//! placeholder
pub mod cache;
pub mod entity;
mod json;
pub mod metric;
pub mod question;
pub mod value;

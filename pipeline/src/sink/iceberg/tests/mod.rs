//! The lake against a real catalog and real files, and a journal in memory.

mod backup;
mod crash;
mod evolution;
mod following;
mod layout;
mod maintain;
mod positions;
mod support;
mod trouble;
mod types;

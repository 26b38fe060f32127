//! Tests of the whole store. `fixture` makes domains, rows and effects; each other module is one
//! promise of the store.

// Child processes tell their parents on stdout.
#![allow(clippy::print_stdout)]

mod backfill;
mod backup;
mod chain;
mod changed;
mod commit;
mod erase;
mod fixture;
mod from_lake;
mod kill;
mod open;
mod read;
mod trim;
mod wal;

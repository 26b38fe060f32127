//! Topics that are published from the journal: dead letters, and accepted events.
//!
//! ```text
//! journal ──rows──▶ feed ──records──▶ session ──one transaction──▶ topic
//!    ▲                                   │
//!    └─── start ◀── ledger ◀── topic of positions (compacted)
//! ```
//!
//! For a reader of committed records (`isolation.level=read_committed`) each topic holds every row
//! of its feed exactly once, in the order of the journal within a key: the records and the position
//! behind them become visible in one Kafka transaction, and publishing goes on behind the last
//! position that became visible. A process that dies leaves at worst a transaction that is aborted;
//! of two processes with one identity the older one is fenced. Nothing waits for this: while the
//! brokers are away, the journal keeps what they are owed.
//!
//! Start at [`Publisher::spawn`] (`publisher`) and `worker`; `position` has the decisions after a start, `ledger`
//! reads what they rest on, `session` is one Kafka client with its transactions, `feed` what is
//! published. Why positions stand in a topic of ours and not among the offsets of a consumer group:
//! `docs/adr/0013-topics-from-the-journal.md`.

mod config;
mod context;
mod dead_letter;
mod error;
mod event;
mod feed;
mod ledger;
mod position;
mod publisher;
mod reader;
mod record;
mod session;
mod status;
mod topics;
mod worker;

pub use config::{Content, PublisherConfig};
pub use error::PublishError;
pub use publisher::{Publisher, PublisherHandle, PublisherProbe};
pub use reader::{Published, ReadFrom, TopicReader};
pub use record::header;
pub use status::PublisherStatus;

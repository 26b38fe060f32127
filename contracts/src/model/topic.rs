//! Kafka topics, by name or by pattern.

use std::fmt;

use regex::Regex;

/// What a contract says about the topics that carry its records.
#[derive(Debug, Clone)]
pub enum Topic {
    /// One topic.
    Name(String),
    /// All topics whose name it matches from the beginning, not necessarily to the end. Starts with
    /// `^` and means the same to Kafka's clients as to `regex`: the loader refuses what does not.
    Pattern(Regex),
}

impl Topic {
    /// As written in the contract; what Kafka's clients subscribe to.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Pattern(pattern) => pattern.as_str(),
        }
    }

    /// Does it take in the topic of that name?
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Name(name) => name == topic,
            Self::Pattern(pattern) => pattern.is_match(topic),
        }
    }
}

// A name never starts with `^`, so the texts tell names and patterns apart.
impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Topic {}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

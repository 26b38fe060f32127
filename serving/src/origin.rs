//! Where a record came from, by the name of its source partition.

use pipeline::source::kafka::partition_of_name;

/// The parts of a source partition's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin<'a> {
    /// Kind of source: what stands before the first colon, or all of it.
    pub(crate) source: &'a str,
    /// Topic, where the source has topics.
    pub(crate) topic: Option<&'a str>,
    /// Number of the partition within its topic.
    pub(crate) partition: Option<i32>,
}

impl<'a> Origin<'a> {
    /// Of the partition called `name`.
    pub(crate) fn of(name: &'a str) -> Self {
        let source = name.split_once(':').map_or(name, |(source, _)| source);
        match partition_of_name(name) {
            Some((topic, partition)) => {
                Self { source, topic: Some(topic), partition: Some(partition) }
            }
            None => Self { source, topic: None, partition: None },
        }
    }

    /// The topic, or the source where it has none.
    pub(crate) fn place(&self) -> &'a str {
        self.topic.unwrap_or(self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let check = |name, source, topic, partition| {
            assert_eq!(Origin::of(name), Origin { source, topic, partition });
        };
        check("kafka:a.b/c/7", "kafka", Some("a.b/c"), Some(7));
        check("file:/data/a:b.ndjson", "file", None, None);
        check("http", "http", None, None);
        assert_eq!(Origin::of("kafka:raw/0").place(), "raw");
        assert_eq!(Origin::of("http").place(), "http");
    }
}

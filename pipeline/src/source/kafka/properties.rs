//! Settings of librdkafka, and which kind of client they are for.
//!
//! One set of settings serves consumers, producers and those that only look after topics. Most are
//! for all of them; one that begins with `consumer.` or `producer.` is for that kind alone, and goes
//! before one without, as in Kafka Connect. No setting of librdkafka begins so.

use std::collections::BTreeMap;

/// A kind of client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// Reads records.
    Consumer,
    /// Writes records.
    Producer,
    /// Looks after topics.
    Admin,
}

/// The settings for that kind of client, without what says for which kind they are.
pub fn settings_for(
    properties: &BTreeMap<String, String>,
    kind: ClientKind,
) -> BTreeMap<&str, &str> {
    let mut general = BTreeMap::new();
    let mut own = BTreeMap::new();
    for (key, value) in properties {
        let named = [("consumer.", ClientKind::Consumer), ("producer.", ClientKind::Producer)]
            .into_iter()
            .find_map(|(prefix, named)| Some((key.strip_prefix(prefix)?, named)));
        match named {
            None => drop(general.insert(key.as_str(), value.as_str())),
            Some((key, named)) if named == kind => drop(own.insert(key, value.as_str())),
            Some(_) => {}
        }
    }
    general.extend(own);
    general
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_for_one_kind_of_client_is_for_no_other() {
        let texts = [
            ("client.id", "all"),
            ("consumer.client.id", "reader"),
            ("consumer.fetch.min.bytes", "1"),
            ("producer.linger.ms", "20"),
        ];
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let properties: BTreeMap<String, String> = texts.into_iter().map(owned).collect();
        let of = |kind| settings_for(&properties, kind).into_iter().collect::<Vec<_>>();
        assert_eq!(of(ClientKind::Consumer), [("client.id", "reader"), ("fetch.min.bytes", "1")]);
        assert_eq!(of(ClientKind::Producer), [("client.id", "all"), ("linger.ms", "20")]);
        assert_eq!(of(ClientKind::Admin), [("client.id", "all")]);
    }
}

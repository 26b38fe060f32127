//! A broker that is too old is refused, by name and with what to do, before anything is read.
//!
//! It is a real one of 2021 (`infra/kafka/old/`), the last without topic ids.

mod support;

use support::Place;
use support::kafka::{Kafka, Record};

#[test]
fn a_broker_that_is_too_old_is_refused_before_anything_is_read() {
    let address = std::env::var("AGENTFLOW_KAFKA_OLD").expect(
        "AGENTFLOW_KAFKA_OLD is not set: run `make test`, or `infra/kafka/old/zookeeper.sh run -- \
         infra/kafka/old/broker.sh run -- cargo test …`",
    );
    let kafka = Kafka::at(&address);
    let place = Place::of("shop");
    let refused = |command: &str, hint: &str| {
        let mut arguments = vec![command.to_owned()];
        arguments.extend(place.common(&place.data()));
        arguments.extend(["--from".to_owned(), kafka.source()]);
        let says = [&address, "too old", "Kafka 2.8 or newer", hint];
        place.agentflow(arguments).failed(1, &says);
    };
    // Without a topic there is nothing to ask for at the start: it is found out while it waits.
    refused("run", "hint: ");
    kafka.create("orders.raw", 2);
    kafka.produce("orders.raw", &[Record::new(0, "{}"), Record::new(1, "{}")]);
    refused("run", "hint: update the brokers");
    refused("serve", "hint: update the brokers");
    // Nothing of it was read.
    assert_eq!(place.dead_letters(&place.data()), Vec::<serde_json::Value>::new());
}

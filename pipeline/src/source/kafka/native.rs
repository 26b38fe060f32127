//! What librdkafka has and its Rust binding does not show: topic ids and leader epochs.
//!
//! The only unsafe code of this crate. Every function takes safe handles, and frees what it was
//! given before it returns.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionList;

/// Is the client a member of its group, or on the way to be one?
pub(super) fn is_member<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> bool {
    let client = consumer.client().native_ptr();
    // SAFETY: the client is alive; the text is ours, is read, and is released by its own allocator.
    unsafe {
        let id = rd::rd_kafka_memberid(client);
        if id.is_null() {
            return false;
        }
        let is_member = !CStr::from_ptr(id).to_bytes().is_empty();
        rd::rd_kafka_mem_free(client, id.cast());
        is_member
    }
}

/// The leader epoch that a record was written in; `None` from brokers that do not tell.
pub(super) fn leader_epoch(message: &BorrowedMessage<'_>) -> Option<i32> {
    // SAFETY: the pointer is valid as long as the message is.
    let epoch = unsafe { rd::rd_kafka_message_leader_epoch(message.ptr()) };
    (epoch >= 0).then_some(epoch)
}

/// Notes the leader epoch of a partition's offset in `list`, so that the client notices when the
/// log before that offset is no longer the one that was read (KIP-320).
pub(super) fn set_leader_epoch(
    list: &mut TopicPartitionList,
    topic: &str,
    partition: i32,
    epoch: i32,
) {
    let Ok(topic) = CString::new(topic) else { return };
    // SAFETY: the list lives for the whole call; the element belongs to it and is checked.
    unsafe {
        let found = rd::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition);
        if !found.is_null() {
            rd::rd_kafka_topic_partition_set_leader_epoch(found, epoch);
        }
    }
}

/// The id of topics without one, as brokers before Kafka 2.8 tell it.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// What brokers say of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Topic {
    /// Its id, base64 as Kafka's own tools print it.
    pub(super) id: String,
    /// How many partitions it has.
    pub(super) partitions: i32,
}

/// A topic, or why there is nothing to tell of it.
pub(super) type Described = Result<Topic, RDKafkaErrorCode>;

/// Does a failure of [`describe_topics`] say that the brokers do not know topic ids?
pub(super) fn is_too_old(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::UnsupportedFeature | RDKafkaErrorCode::UnsupportedVersion)
}

/// Asks brokers for topics; the answer is by topic name. Fails as a whole
/// when no broker answers within `timeout`, or with `UnsupportedFeature` when it is too old to know
/// topic ids (before Kafka 2.8).
pub(super) fn describe_topics<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topics: &[String],
    timeout: Duration,
) -> Result<BTreeMap<String, Described>, RDKafkaErrorCode> {
    let names: Vec<CString> =
        topics.iter().filter_map(|topic| CString::new(topic.as_str()).ok()).collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let client = consumer.client().native_ptr();
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: all pointers come from the client and are released here, each once; the event is
    // read before it is destroyed, and what is kept of it is copied.
    unsafe {
        let queue = rd::rd_kafka_queue_new(client);
        let collection =
            rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = rd::rd_kafka_AdminOptions_new(
            client,
            rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        rd::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        rd::rd_kafka_DescribeTopics(client, collection, options, queue);
        let event = rd::rd_kafka_queue_poll(queue, millis);
        let result = if event.is_null() {
            Err(RDKafkaErrorCode::OperationTimedOut)
        } else {
            described(event)
        };
        if !event.is_null() {
            rd::rd_kafka_event_destroy(event);
        }
        rd::rd_kafka_AdminOptions_destroy(options);
        rd::rd_kafka_TopicCollection_destroy(collection);
        rd::rd_kafka_queue_destroy(queue);
        result
    }
}

/// # Safety
/// `event` is a live event of the client.
unsafe fn described(
    event: *mut rd::rd_kafka_event_t,
) -> Result<BTreeMap<String, Described>, RDKafkaErrorCode> {
    // SAFETY: the event is live, and everything read here belongs to it.
    unsafe {
        let error = rd::rd_kafka_event_error(event);
        if error != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(error.into());
        }
        let result = rd::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(RDKafkaErrorCode::BadMessage);
        }
        let mut count = 0;
        let first = rd::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        let mut found = BTreeMap::new();
        for at in 0..count {
            let topic = *first.add(at);
            let name = CStr::from_ptr(rd::rd_kafka_TopicDescription_name(topic));
            let code = rd::rd_kafka_error_code(rd::rd_kafka_TopicDescription_error(topic));
            let described = if code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                let id = rd::rd_kafka_TopicDescription_topic_id(topic);
                let id = CStr::from_ptr(rd::rd_kafka_Uuid_base64str(id)).to_string_lossy();
                // librdkafka asks old brokers in an older way, and notes the answer that they lack.
                if id == NO_ID {
                    return Err(RDKafkaErrorCode::UnsupportedFeature);
                }
                let mut partitions = 0;
                rd::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
                let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
                Ok(Topic { id: id.into_owned(), partitions })
            } else {
                Err(code.into())
            };
            found.insert(name.to_string_lossy().into_owned(), described);
        }
        Ok(found)
    }
}

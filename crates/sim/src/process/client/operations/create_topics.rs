//! CreateTopics.
//!
//! Predicted: the topic is there, on this connection at once, with an id that no topic of its name had before (R18). TOPIC_ALREADY_EXISTS only when
//! somebody may have made it.

use base_types::ErrorCode;
use kafka_wire::k19_create_topics::{CreatableTopic, CreatableTopicConfig};
use kafka_wire::{CreateTopicsRequest, CreateTopicsResponse, KafkaString, Uuid};

use super::{Done, Notes, Operation, done};

pub struct CreateTopics {
    /// 7 at least, where the id is told.
    pub version: i16,
    pub name: String,
    pub partitions: i32,
    pub replication_factor: i16,
    pub min_insync_replicas: u8,
}

impl Operation for CreateTopics {
    type Request = CreateTopicsRequest;
    /// With the id of what was made.
    type Outcome = (Done, Uuid);

    fn version(&self) -> i16 {
        self.version
    }

    fn request(&self) -> CreateTopicsRequest {
        let min_insync_replicas = CreatableTopicConfig {
            name: KafkaString::from_static("min.insync.replicas"),
            value: Some(self.min_insync_replicas.to_string().into()),
        };
        let topic = CreatableTopic {
            name: self.name.as_str().into(),
            num_partitions: self.partitions,
            replication_factor: self.replication_factor,
            configs: vec![min_insync_replicas],
            ..CreatableTopic::default()
        };
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 5_000, validate_only: false }
    }

    fn answered(self, notes: &mut Notes<'_>, answer: CreateTopicsResponse) -> (Done, Uuid) {
        let Some(told) = answer.topics.first() else {
            notes.book.complain("answer", "CreateTopics is answered without its topic");
            return (Done::Unknown, Uuid::ZERO);
        };
        let done = match ErrorCode::from_code(told.error_code) {
            Some(ErrorCode::TopicAlreadyExists) => Done::Already,
            // Too few storage nodes are registered for now.
            Some(ErrorCode::InvalidReplicationFactor) => Done::No,
            _ => done(told.error_code).unwrap_or_else(|| {
                notes.never("CreateTopics", told.error_code);
                Done::Unknown
            }),
        };
        (done, told.topic_id)
    }
}

//! DeleteTopics by name.
//!
//! Predicted: the topic is gone, on this connection at once, and its id for ever (W4, R18). UNKNOWN_TOPIC_OR_PARTITION only when it may be gone
//! already, or the gateway has not heard of it yet.

use base_types::ErrorCode;
use kafka_wire::k20_delete_topics::DeleteTopicState;
use kafka_wire::{DeleteTopicsRequest, DeleteTopicsResponse, KafkaString, Uuid};

use super::{Done, Notes, Operation, done};

pub struct DeleteTopics {
    pub version: i16,
    pub name: String,
}

impl Operation for DeleteTopics {
    type Request = DeleteTopicsRequest;
    type Outcome = Done;

    fn version(&self) -> i16 {
        self.version
    }

    fn request(&self) -> DeleteTopicsRequest {
        let name: KafkaString = self.name.as_str().into();
        let by_state = self.version >= 6;
        DeleteTopicsRequest {
            topics: by_state
                .then(|| DeleteTopicState { name: Some(name.clone()), topic_id: Uuid::ZERO })
                .into_iter()
                .collect(),
            topic_names: (!by_state).then_some(name).into_iter().collect(),
            timeout_ms: 5_000,
        }
    }

    fn answered(self, notes: &mut Notes<'_>, answer: DeleteTopicsResponse) -> Done {
        let Some(told) = answer.responses.first() else {
            notes.book.complain("answer", "DeleteTopics is answered without its topic");
            return Done::Unknown;
        };
        match ErrorCode::from_code(told.error_code) {
            Some(ErrorCode::UnknownTopicOrPartition) => Done::Already,
            _ => done(told.error_code).unwrap_or_else(|| {
                notes.never("DeleteTopics", told.error_code);
                Done::Unknown
            }),
        }
    }
}

//! CreatePartitions.
//!
//! Predicted: the topic has so many partitions, on this connection at once, and never fewer. INVALID_PARTITIONS only when it may have as many already.

use base_types::ErrorCode;
use kafka_wire::k37_create_partitions::CreatePartitionsTopic;
use kafka_wire::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::{Done, Notes, Operation, done};

pub struct CreatePartitions {
    pub version: i16,
    pub name: String,
    pub count: i32,
}

impl Operation for CreatePartitions {
    type Request = CreatePartitionsRequest;
    type Outcome = Done;

    fn version(&self) -> i16 {
        self.version
    }

    fn request(&self) -> CreatePartitionsRequest {
        let topic = CreatePartitionsTopic { name: self.name.as_str().into(), count: self.count, assignments: None };
        CreatePartitionsRequest { topics: vec![topic], timeout_ms: 5_000, validate_only: false }
    }

    fn answered(self, notes: &mut Notes<'_>, answer: CreatePartitionsResponse) -> Done {
        let Some(told) = answer.results.first() else {
            notes.book.complain("answer", "CreatePartitions is answered without its topic");
            return Done::Unknown;
        };
        match ErrorCode::from_code(told.error_code) {
            Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::InvalidPartitions) => Done::Already,
            Some(ErrorCode::InvalidReplicationFactor) => Done::No,
            _ => done(told.error_code).unwrap_or_else(|| {
                notes.never("CreatePartitions", told.error_code);
                Done::Unknown
            }),
        }
    }
}

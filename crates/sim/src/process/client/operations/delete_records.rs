//! DeleteRecords (KIP-107): a log begins later.
//!
//! From when it is asked on, what lies below may be gone, whatever the answer. Predicted of success: the log begins at the offset or behind it, on every
//! replica, durably: it is never found to begin lower again (S11).

use base_types::ErrorCode;
use kafka_wire::k21_delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_wire::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::{Done, Notes, Operation};
use crate::process::client::book::Topic;

pub struct DeleteRecords {
    pub version: i16,
    pub topic: Topic,
    pub partition: i32,
    /// Not behind an end that was told.
    pub to: i64,
}

impl Operation for DeleteRecords {
    type Request = DeleteRecordsRequest;
    type Outcome = Done;

    fn version(&self) -> i16 {
        self.version
    }

    fn request(&self) -> DeleteRecordsRequest {
        let partition = DeleteRecordsPartition { partition_index: self.partition, offset: self.to };
        let topic = DeleteRecordsTopic { name: self.topic.name.as_str().into(), partitions: vec![partition] };
        DeleteRecordsRequest { topics: vec![topic], timeout_ms: 5_000 }
    }

    fn answered(self, notes: &mut Notes<'_>, answer: DeleteRecordsResponse) -> Done {
        let Some(told) = answer.topics.first().and_then(|topic| topic.partitions.first()) else {
            notes.book.complain("answer", "DeleteRecords is answered without its partition");
            return Done::Unknown;
        };
        match ErrorCode::from_code(told.error_code) {
            Some(ErrorCode::None) => {
                if told.low_watermark < self.to {
                    let (to, low) = (self.to, told.low_watermark);
                    notes.book.complain("S11", format_args!("deleted up to {to}, and the low watermark is {low}"));
                }
                let seen = notes.view.seen(&self.topic, self.partition);
                seen.trimmed = seen.trimmed.max(told.low_watermark);
                Done::Yes
            }
            Some(ErrorCode::UnknownTopicOrPartition) => Done::Already,
            // The end that was told may lie behind what a new leader knows to be committed.
            Some(
                ErrorCode::NotLeaderOrFollower
                | ErrorCode::OffsetOutOfRange
                | ErrorCode::RequestTimedOut
                | ErrorCode::KafkaStorageError,
            ) => Done::Unknown,
            _ => {
                notes.never("DeleteRecords", told.error_code);
                Done::Unknown
            }
        }
    }
}

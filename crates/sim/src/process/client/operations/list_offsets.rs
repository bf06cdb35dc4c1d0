//! ListOffsets: where logs begin and end.
//!
//! Predicted: for one client, who names the newest leader epoch that it has heard of, the end never goes back (KIP-207: a new leader says
//! OFFSET_NOT_AVAILABLE until it knows), not below what it has read either; the beginning never goes back within an epoch, nor below what was
//! deleted for certain; no log begins behind its end.

use base_types::ErrorCode;
use kafka_wire::k02_list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::{ListOffsetsRequest, ListOffsetsResponse};

use super::{Notes, Operation};
use crate::process::client::book::Topic;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

pub struct ListOffsets {
    /// 4 at least, where epochs are told.
    pub version: i16,
    pub end: End,
    /// With the newest epoch that the client has heard of.
    pub partitions: Vec<(Topic, i32, i32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Earliest,
    Latest,
}

/// Of a partition: the offset and the epoch that it was told in, or nothing for now.
pub type Listed = (Topic, i32, Option<(i64, i32)>);

impl Operation for ListOffsets {
    type Request = ListOffsetsRequest;
    type Outcome = Vec<Listed>;

    fn version(&self) -> i16 {
        self.version
    }

    fn request(&self) -> ListOffsetsRequest {
        let timestamp = if self.end == End::Latest { LATEST } else { EARLIEST };
        let topic = |(topic, partition_index, leader_epoch): &(Topic, i32, i32)| ListOffsetsTopic {
            name: topic.name.as_str().into(),
            partitions: vec![ListOffsetsPartition {
                partition_index: *partition_index,
                current_leader_epoch: *leader_epoch,
                timestamp,
            }],
        };
        ListOffsetsRequest {
            replica_id: -1,
            isolation_level: 1,
            topics: self.partitions.iter().map(topic).collect(),
            ..ListOffsetsRequest::default()
        }
    }

    fn answered(self, notes: &mut Notes<'_>, answer: ListOffsetsResponse) -> Vec<Listed> {
        let mut told = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let mut listed = Vec::new();
        for (topic, partition, epoch) in self.partitions {
            let Some(told) = told.next().filter(|told| told.partition_index == partition) else {
                notes.book.complain("answer", "ListOffsets is answered without one of its partitions");
                break;
            };
            let found = match ErrorCode::from_code(told.error_code) {
                Some(ErrorCode::None) => Some((told.offset, told.leader_epoch)),
                Some(
                    ErrorCode::NotLeaderOrFollower
                    | ErrorCode::FencedLeaderEpoch
                    | ErrorCode::UnknownLeaderEpoch
                    | ErrorCode::UnknownTopicOrPartition
                    | ErrorCode::OffsetNotAvailable
                    | ErrorCode::KafkaStorageError,
                ) => None,
                _ => {
                    notes.never("ListOffsets", told.error_code);
                    None
                }
            };
            if let Some((offset, told_in)) = found.filter(|_| epoch >= 0) {
                compare(notes, (&topic, partition), self.end, offset, told_in);
            }
            listed.push((topic, partition, found));
        }
        listed
    }
}

fn compare(notes: &mut Notes<'_>, (topic, partition): (&Topic, i32), end: End, offset: i64, epoch: i32) {
    let seen = notes.view.seen(topic, partition);
    let before = *seen;
    match end {
        End::Latest => {
            seen.latest = seen.latest.max(offset);
            if offset < before.latest {
                let name = &topic.name;
                let latest = before.latest;
                notes.book.complain("R6", format_args!("{name}-{partition}: ends at {offset}, and before at {latest}"));
            }
        }
        End::Earliest => {
            seen.log_start = seen.log_start.max((epoch, offset));
            let floor = if before.log_start.0 == epoch { before.log_start.1 } else { 0 }.max(before.trimmed);
            if offset < floor {
                let name = &topic.name;
                notes
                    .book
                    .complain("S11", format_args!("{name}-{partition}: begins at {offset}, and before at {floor}"));
            }
        }
    }
}

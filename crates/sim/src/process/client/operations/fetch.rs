//! Fetch: record batches from partitions, with sessions (KIP-227) or without.
//!
//! Predicted of what is told under the leader epoch that the client named:
//!
//! * records are whole (CRC and filler), without a gap from the offset asked for on (nothing is compacted here, and there are no transactions), and
//!   below the high watermark (R10, W5);
//! * the high watermark does not go back within an epoch (R6), the log does not begin behind it, and never lower again within an epoch (S11);
//! * what was read is not cut off: no other history of an epoch is told (`diverging_epoch`, KIP-595) (R6).
//!
//! What the records are is for the history's judge.

use base_types::ErrorCode;
use bytes::Bytes;
use kafka_wire::k01_fetch::{FetchPartition, FetchTopic, ForgottenTopic, PartitionData};
use kafka_wire::{FetchRequest, FetchResponse, KafkaString, Records};
use record_batch::{StampedBatch, batches};

use super::produce::value_of;
use super::{Notes, Operation};
use crate::process::client::TOPIC;
use crate::process::client::book::Topic;

/// Topics are named by id from here on.
pub const BY_ID: i16 = 13;
/// Divergence is told from here on.
const DIVERGENCE: i16 = 12;
const PARTITION_BYTES_MAX: i32 = 16 << 10;
const RECORDS_BYTES_MAX: usize = 1 << 20;

pub struct Fetch {
    pub version: i16,
    /// Id and epoch: (0, −1) is none, (0, 0) begins one.
    pub session: (i32, i32),
    /// All that is read, in the order in which it is asked for.
    pub wants: Vec<Want>,
    /// Of `wants`, what must be said because the session does not know it.
    pub news: Vec<usize>,
    pub forgotten: Vec<(Topic, i32)>,
    pub wait_ms_max: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    pub topic: Topic,
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    /// Of the last batch that was read; −1: none.
    pub last_epoch: i32,
}

pub struct Fetched {
    /// The next request's, or begin anew.
    pub session: Option<i32>,
    pub parts: Vec<(Want, Said)>,
}

pub enum Said {
    /// Records, where to go on, and the epoch of the last batch.
    Read { records: Vec<(i64, u64)>, next: i64, last_epoch: i32 },
    /// The offset is not in the log.
    OutOfRange,
    /// The client knows too little of the leader, or the gateway does.
    Elsewhere,
    /// Nothing now.
    Later,
}

impl Operation for Fetch {
    type Request = FetchRequest;
    type Outcome = Fetched;

    fn version(&self) -> i16 {
        self.version
    }

    fn request(&self) -> FetchRequest {
        let by_id = self.version >= BY_ID;
        let name = |topic: &Topic| if by_id { KafkaString::default() } else { topic.name.as_str().into() };
        let id = |topic: &Topic| if by_id { topic.id } else { Default::default() };
        let topics = self.news.iter().filter_map(|&place| self.wants.get(place)).map(|want| FetchTopic {
            topic: name(&want.topic),
            topic_id: id(&want.topic),
            partitions: vec![FetchPartition {
                partition: want.partition,
                current_leader_epoch: if self.version >= 9 { want.leader_epoch } else { -1 },
                fetch_offset: want.offset,
                last_fetched_epoch: if self.version >= DIVERGENCE { want.last_epoch } else { -1 },
                partition_max_bytes: PARTITION_BYTES_MAX,
                ..FetchPartition::default()
            }],
        });
        let forgotten = self.forgotten.iter().map(|(topic, partition)| ForgottenTopic {
            topic: name(topic),
            topic_id: id(topic),
            partitions: vec![*partition],
        });
        let (session_id, session_epoch) = if self.version >= 7 { self.session } else { (0, -1) };
        FetchRequest {
            max_wait_ms: self.wait_ms_max,
            min_bytes: 1,
            max_bytes: 64 << 10,
            session_id,
            session_epoch,
            topics: topics.collect(),
            forgotten_topics_data: forgotten.collect(),
            ..FetchRequest::default()
        }
    }

    fn answered(self, notes: &mut Notes<'_>, answer: FetchResponse) -> Fetched {
        match ErrorCode::from_code(answer.error_code) {
            Some(ErrorCode::None) => {}
            // Sessions are the gateway's, which may have forgotten it, or be another one (W6).
            Some(
                ErrorCode::FetchSessionIdNotFound
                | ErrorCode::InvalidFetchSessionEpoch
                | ErrorCode::FetchSessionTopicIdError,
            ) if self.session.0 != 0 => return Fetched { session: None, parts: Vec::new() },
            _ => {
                notes.never("Fetch", answer.error_code);
                return Fetched { session: None, parts: Vec::new() };
            }
        }
        let by_id = self.version >= BY_ID;
        let mut parts = Vec::new();
        for topic in answer.responses {
            for told in topic.partitions {
                let is_it = |want: &&Want| {
                    let named =
                        if by_id { want.topic.id == topic.topic_id } else { topic.topic == want.topic.name.as_str() };
                    named && want.partition == told.partition_index
                };
                let Some(want) = self.wants.iter().find(is_it) else {
                    let what = format_args!(
                        "Fetch is answered with partition {} of {:?} ({:?}), and nobody asked for it",
                        told.partition_index, topic.topic, topic.topic_id
                    );
                    notes.book.complain("answer", what);
                    continue;
                };
                parts.push((want.clone(), self.part(notes, want, told)));
            }
        }
        Fetched { session: (answer.session_id != 0).then_some(answer.session_id), parts }
    }
}

impl Fetch {
    fn part(&self, notes: &mut Notes<'_>, want: &Want, told: PartitionData) -> Said {
        match ErrorCode::from_code(told.error_code) {
            Some(ErrorCode::None) => {}
            Some(ErrorCode::OffsetOutOfRange) => return Said::OutOfRange,
            Some(
                ErrorCode::NotLeaderOrFollower
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::UnknownLeaderEpoch
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
                | ErrorCode::InconsistentTopicId,
            ) => return Said::Elsewhere,
            Some(ErrorCode::KafkaStorageError | ErrorCode::OffsetNotAvailable) => return Said::Later,
            _ => {
                notes.never("Fetch of a partition", told.error_code);
                return Said::Later;
            }
        }
        let name = format!("{}-{}", want.topic.name, want.partition);
        if told.diverging_epoch.epoch != -1 {
            let end = told.diverging_epoch.end_offset;
            notes.book.complain("R6", format_args!("{name}: read to {}, told that it diverges at {end}", want.offset));
            return Said::Later;
        }
        self.bounds(notes, want, &told, &name);
        let bytes = told.records.map(Records::into_contiguous).unwrap_or_default();
        read(notes, want, told.high_watermark, &bytes, &name)
    }

    /// The client named an epoch, so the leader of just that epoch has answered.
    fn bounds(&self, notes: &mut Notes<'_>, want: &Want, told: &PartitionData, name: &str) {
        let (end, start) = (told.high_watermark, told.log_start_offset);
        if self.version < 9 || want.leader_epoch < 0 || end < 0 {
            return;
        }
        let epoch = want.leader_epoch;
        let seen = notes.view.seen(&want.topic, want.partition);
        let (end_before, start_before) = (seen.high_watermark, seen.log_start);
        seen.high_watermark = end_before.max((epoch, end));
        seen.log_start = start_before.max((epoch, start));
        if start > end {
            notes.book.complain("S11", format_args!("{name}: begins at {start} and ends at {end}"));
        }
        if end_before.0 == epoch && end < end_before.1 {
            let before = end_before.1;
            notes.book.complain("R6", format_args!("{name}: epoch {epoch}: high watermark {end} after {before}"));
        }
        if start_before.0 == epoch && start < start_before.1 {
            let before = start_before.1;
            notes.book.complain("S11", format_args!("{name}: epoch {epoch}: log start {start} after {before}"));
        }
    }
}

fn read(notes: &mut Notes<'_>, want: &Want, high_watermark: i64, bytes: &Bytes, name: &str) -> Said {
    let (mut records, mut next, mut last_epoch) = (Vec::new(), want.offset, want.last_epoch);
    for (header, range) in batches(bytes).map_while(Result::ok) {
        let batch = StampedBatch::from_stored(bytes.slice(range));
        let read = batch.ok().and_then(|batch| batch.records(RECORDS_BYTES_MAX).ok());
        let Some(read) = read else {
            notes.book.complain("S3", format_args!("{name}: a damaged batch at {}", header.base_offset));
            break;
        };
        last_epoch = header.leader_epoch.0;
        for record in read.map_while(Result::ok).filter(|record| record.offset.0 >= want.offset) {
            let offset = record.offset.0;
            if offset != next {
                notes.book.complain("R10", format_args!("{name}: {offset} where {next} was expected"));
            }
            if offset >= high_watermark {
                notes.book.complain("W5", format_args!("{name}: {offset} with high watermark {high_watermark}"));
            }
            next = offset + 1;
            match record.value.as_deref().and_then(value_of) {
                Some(value) => records.push((offset, value)),
                None => notes.book.complain("S3", format_args!("{name}: what is at {offset} was never sent")),
            }
        }
    }
    let seen = notes.view.seen(&want.topic, want.partition);
    seen.leader_epoch = seen.leader_epoch.max(last_epoch);
    Said::Read { records, next, last_epoch }
}

/// Members of groups read with this one, by name and without sessions.
pub const MEMBERS_VERSION: i16 = 12;

/// What waits for half a second at most, from these offsets of the one topic on.
pub fn by_members(positions: impl Iterator<Item = (i32, i64)>) -> FetchRequest {
    let ask = |(partition, fetch_offset)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: PARTITION_BYTES_MAX,
        ..FetchPartition::default()
    };
    let topic = FetchTopic {
        topic: KafkaString::from_static(TOPIC),
        partitions: positions.map(ask).collect(),
        ..FetchTopic::default()
    };
    FetchRequest { max_wait_ms: 500, min_bytes: 1, max_bytes: 64 << 10, topics: vec![topic], ..FetchRequest::default() }
}

//! Metadata: which topics there are, and who leads.
//!
//! Predicted (W4): on one connection no answer is older than one before. So no leader epoch goes back, no partition and no topic that nobody
//! deletes vanishes, and a topic id that was gone stays gone. Another gateway may know less; a client keeps the highest epoch it has heard of, and
//! names it when it asks (KIP-320).

use std::collections::{BTreeMap, BTreeSet};

use base_types::ErrorCode;
use kafka_wire::{MetadataRequest, MetadataResponse, Uuid};

use super::{Notes, Operation};
use crate::process::client::book::Topic;

/// All topics, as from version 10 on with their ids.
pub struct Metadata {
    pub version: i16,
}

/// What a client has been told.
#[derive(Default)]
pub struct View {
    /// Of the last answer, with the number of partitions.
    topics: BTreeMap<Topic, i32>,
    partitions: BTreeMap<(Uuid, i32), Seen>,
    stream: u32,
    on_stream: OnStream,
}

/// Of a partition, over all connections.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The highest one heard of; −1: none.
    pub leader_epoch: i32,
    /// With the epoch in which it was told.
    pub high_watermark: (i32, i64),
    pub log_start: (i32, i64),
    pub latest: i64,
    /// Records below are gone for certain.
    pub trimmed: i64,
}

/// What was told on one connection.
#[derive(Default)]
struct OnStream {
    epochs: BTreeMap<(Uuid, i32), i32>,
    there: BTreeSet<Topic>,
    gone: BTreeSet<Uuid>,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen { leader_epoch: -1, high_watermark: (-1, 0), log_start: (-1, 0), latest: 0, trimmed: 0 }
    }
}

impl View {
    /// Topics with the number of their partitions, as far as the last answer told.
    pub fn topics(&self) -> impl Iterator<Item = (&Topic, i32)> {
        self.topics.iter().map(|(topic, &partitions)| (topic, partitions))
    }

    pub fn topic(&self, name: &str) -> Option<(&Topic, i32)> {
        self.topics().find(|(topic, _)| topic.name == name)
    }

    pub fn has(&self, topic: &Topic) -> bool {
        self.topics.contains_key(topic)
    }

    pub fn seen(&mut self, topic: &Topic, partition: i32) -> &mut Seen {
        self.partitions.entry((topic.id, partition)).or_default()
    }

    pub fn leader_epoch(&self, topic: &Topic, partition: i32) -> i32 {
        self.partitions.get(&(topic.id, partition)).map_or(-1, |seen| seen.leader_epoch)
    }

    /// It was deleted on this connection, for certain.
    pub fn is_gone(&mut self, topic: &Topic) {
        self.on_stream.there.remove(topic);
        self.on_stream.gone.insert(topic.id);
        self.topics.remove(topic);
    }

    pub(super) fn on_stream(&mut self, stream: u32) {
        if self.stream != stream {
            self.stream = stream;
            self.on_stream = OnStream::default();
        }
    }
}

impl Operation for Metadata {
    type Request = MetadataRequest;
    /// Whether the topic that is always there was told.
    type Outcome = bool;

    fn version(&self) -> i16 {
        self.version
    }

    fn request(&self) -> MetadataRequest {
        MetadataRequest { topics: None, allow_auto_topic_creation: false, ..MetadataRequest::default() }
    }

    fn answered(self, notes: &mut Notes<'_>, answer: MetadataResponse) -> bool {
        let mut topics = BTreeMap::new();
        for told in answer.topics.iter().filter(|topic| !topic.is_internal) {
            let Some(name) = &told.name else { continue };
            if told.error_code != 0 {
                notes.never("Metadata of all topics", told.error_code);
            }
            let topic = Topic { name: name.as_str().to_owned(), id: told.topic_id };
            for partition in &told.partitions {
                let legal = [ErrorCode::None, ErrorCode::LeaderNotAvailable, ErrorCode::ReplicaNotAvailable];
                if !legal.iter().any(|code| code.code() == partition.error_code) {
                    notes.never("Metadata of a partition", partition.error_code);
                }
                let (index, epoch) = (partition.partition_index, partition.leader_epoch);
                let before = notes.view.on_stream.epochs.insert((topic.id, index), epoch);
                if let Some(before) = before.filter(|before| *before > epoch) {
                    let name = &topic.name;
                    notes.book.complain(
                        "W4",
                        format_args!("{name}-{index}: leader epoch {epoch} after {before} on one connection"),
                    );
                }
                let seen = notes.view.seen(&topic, index);
                seen.leader_epoch = seen.leader_epoch.max(epoch);
            }
            topics.insert(topic, told.partitions.len() as i32);
        }
        compare(notes, &topics);
        let has_fixed = topics.keys().any(|topic| topic.is_fixed());
        notes.view.topics = topics;
        has_fixed
    }
}

/// What was there on this connection, and what is.
fn compare(notes: &mut Notes<'_>, topics: &BTreeMap<Topic, i32>) {
    let on_stream = &mut notes.view.on_stream;
    for topic in topics.keys() {
        if on_stream.gone.contains(&topic.id) {
            notes.book.complain("W4", format_args!("{topic:?} was gone on this connection, and is there again"));
        }
        on_stream.there.insert(topic.clone());
    }
    let known: Vec<Topic> = on_stream.there.iter().filter(|topic| !topics.contains_key(*topic)).cloned().collect();
    for topic in known {
        if topic.is_fixed() {
            notes.book.complain("W4", format_args!("{topic:?}, which nobody deletes, was there and is not"));
        }
        on_stream.gone.insert(topic.id);
        on_stream.there.remove(&topic);
    }
    for (id, partition) in on_stream.epochs.keys() {
        let count = topics.iter().find(|(topic, _)| topic.id == *id).map(|(_, &count)| count);
        if count.is_some_and(|count| count <= *partition) {
            notes.book.complain("W4", format_args!("partition {partition} of {id:?} was there and is not"));
        }
    }
}

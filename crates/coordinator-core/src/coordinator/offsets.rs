//! Offsets: committed by members and by others, fetched, deleted.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{ErrorCode, LeaderEpoch, Now, Offset, PartitionIndex, Timestamp, TopicId, planted};
use peer_api::groups::{
    CommitPartition, CommittedPartition, DeletedPartition, FetchGroup, FetchedGroup, FetchedOffset, GroupResponse,
    OffsetCommit, OffsetDelete, OffsetFetch, OffsetTopic,
};
use peer_api::metadata::Image;

use super::GroupCoordinator;
use crate::classic::ClassicGroup;
use crate::effect::Effects;
use crate::event::RequestKey;
use crate::group::Group;
use crate::records::{OffsetKey, OffsetValue, Record};

impl GroupCoordinator {
    pub(super) fn commit_offsets(
        &mut self,
        now: Now,
        image: &Image,
        request: RequestKey,
        commit: OffsetCommit,
        effects: &mut Effects,
    ) {
        if let Err(error) = self.check_commit(&commit) {
            return self.reply(request, Ok(GroupResponse::OffsetCommit(Err(error))), effects);
        }
        let (records, topics) = self.decide_commit(now, &commit);
        let answer = GroupResponse::OffsetCommit(Ok(topics));
        if !self.groups.contains_key(&commit.group_id) {
            // Only its offsets are in the log: a group without members is what they fold into.
            if records.is_empty() {
                return self.reply(request, Ok(answer), effects);
            }
            self.groups.insert(commit.group_id.clone(), Group::Classic(ClassicGroup::default()));
        }
        self.decide(now, image, &commit.group_id, effects, |group, turn| {
            if let Group::Classic(group) = group {
                group.committed(turn, &commit.member_id);
            }
            records.into_iter().for_each(|record| turn.write(record));
            if planted!(CommitAnsweredBeforeDurable) {
                turn.reply_at_once(request, answer);
            } else {
                turn.reply(request, answer);
            }
        });
    }

    fn check_commit(&self, commit: &OffsetCommit) -> Result<(), ErrorCode> {
        match self.groups.get(&commit.group_id) {
            Some(group) => group.check_commit(commit),
            None if commit.generation_or_epoch < 0 => Ok(()),
            // A member of a group of which nothing is left.
            None if commit.knows_member_epochs => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    fn decide_commit(&self, now: Now, commit: &OffsetCommit) -> (Vec<Record>, Vec<OffsetTopic<CommittedPartition>>) {
        let expires_at = commit.retention_ms.map(|ms| Timestamp(now.wall.0.saturating_add(ms)));
        let mut records = Vec::new();
        let topics = commit.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let error = self.check_metadata(partition, expires_at.is_some());
                if error == ErrorCode::None {
                    let key = OffsetKey {
                        group_id: commit.group_id.clone(),
                        topic: topic.name.clone(),
                        partition: partition.partition,
                    };
                    let value = OffsetValue {
                        offset: partition.offset,
                        leader_epoch: partition.leader_epoch,
                        metadata: partition.metadata.clone().unwrap_or_default(),
                        committed_at: now.wall,
                        expires_at,
                        topic_id: topic.id,
                    };
                    records.push(Record::Offset { key, value: Some(value) });
                }
                CommittedPartition { partition: partition.partition, error }
            });
            OffsetTopic { id: topic.id, name: topic.name.clone(), partitions: partitions.collect() }
        });
        let topics = topics.collect();
        (records, topics)
    }

    fn check_metadata(&self, partition: &CommitPartition, expires: bool) -> ErrorCode {
        let metadata = partition.metadata.as_deref().unwrap_or_default();
        // Counted as Java counts. The old format of offsets that expire has a limit of its own.
        if metadata.encode_utf16().count() > self.desk.settings.offset_metadata_bytes_max
            || (expires && metadata.len() > i16::MAX as usize)
        {
            return ErrorCode::OffsetMetadataTooLarge;
        }
        ErrorCode::None
    }

    /// Answered at once from what is committed: nothing that is still on its way can make an offset go back later (G4).
    pub(super) fn fetch_offsets(
        &mut self,
        image: &Image,
        request: RequestKey,
        fetch: &OffsetFetch,
        effects: &mut Effects,
    ) {
        let fetched = fetch.groups.iter().map(|group| self.fetch_group(image, group)).collect();
        self.reply(request, Ok(GroupResponse::OffsetFetch(fetched)), effects);
    }

    fn fetch_group(&self, image: &Image, fetch: &FetchGroup) -> FetchedGroup {
        let checked = match self.groups.get(&fetch.group_id) {
            Some(group) => group.check_fetch(fetch.member_id.as_deref(), fetch.member_epoch),
            None => Ok(()),
        };
        let result = checked.map(|()| match &fetch.topics {
            Some(topics) => topics.iter().map(|topic| self.fetch_topic(&fetch.group_id, topic)).collect(),
            None => self.fetch_all(image, &fetch.group_id),
        });
        FetchedGroup { group_id: fetch.group_id.clone(), result }
    }

    fn fetch_topic(&self, group_id: &str, topic: &OffsetTopic<PartitionIndex>) -> OffsetTopic<FetchedOffset> {
        let partitions = topic.partitions.iter().map(|&partition| {
            let key = OffsetKey { group_id: group_id.to_owned(), topic: topic.name.clone(), partition };
            let committed = self.offsets.committed(&key);
            fetched(partition, committed.filter(|value| is_of_topic(value, topic.id)))
        });
        OffsetTopic { id: topic.id, name: topic.name.clone(), partitions: partitions.collect() }
    }

    fn fetch_all(&self, image: &Image, group_id: &str) -> Vec<OffsetTopic<FetchedOffset>> {
        let mut topics: BTreeMap<String, OffsetTopic<FetchedOffset>> = BTreeMap::new();
        for ((name, partition), value) in self.offsets.all_committed(group_id) {
            let topic = topics.entry(name.clone()).or_insert_with(|| {
                let known = image.topic_named(&name).map(|topic| topic.id);
                OffsetTopic { id: known.unwrap_or(value.topic_id), name, partitions: Vec::new() }
            });
            topic.partitions.push(fetched(partition, Some(&value)));
        }
        topics.into_values().collect()
    }

    pub(super) fn delete_offsets(
        &mut self,
        now: Now,
        request: RequestKey,
        delete: &OffsetDelete,
        effects: &mut Effects,
    ) {
        let group_id = &delete.group_id;
        let Some(group) = self.groups.get(group_id) else {
            let answer = GroupResponse::OffsetDelete(Err(ErrorCode::GroupIdNotFound));
            return self.reply(request, Ok(answer), effects);
        };
        if let Err(error) = group.check_offset_delete() {
            return self.reply(request, Ok(GroupResponse::OffsetDelete(Err(error))), effects);
        }
        let offsets = self.offsets.latest(group_id);
        // Who names a partition a thousand times has it deleted once.
        let mut deleted = BTreeSet::new();
        let mut records = Vec::new();
        let mut topics = Vec::with_capacity(delete.topics.len());
        for topic in &delete.topics {
            let in_use = group.is_subscribed_to(&topic.name);
            let partitions = topic.partitions.iter().map(|&partition| {
                if in_use {
                    return DeletedPartition { partition, error: ErrorCode::GroupSubscribedToTopic };
                }
                let key = (topic.name.clone(), partition);
                if offsets.is_some_and(|offsets| offsets.contains_key(&key)) && deleted.insert(key) {
                    records.push(tombstone(group_id, &topic.name, partition));
                }
                DeletedPartition { partition, error: ErrorCode::None }
            });
            topics.push(OffsetTopic { id: topic.id, name: topic.name.clone(), partitions: partitions.collect() });
        }
        self.append(now, group_id, &records, effects);
        let append = self.last_append.get(group_id).copied();
        self.reply_after(append, request, GroupResponse::OffsetDelete(Ok(topics)), effects);
    }
}

pub(super) fn tombstone(group_id: &str, topic: &str, partition: PartitionIndex) -> Record {
    let key = OffsetKey { group_id: group_id.to_owned(), topic: topic.to_owned(), partition };
    Record::Offset { key, value: None }
}

/// An offset of a topic that was deleted says nothing of one that was made again under its name (R18).
fn is_of_topic(value: &OffsetValue, id: TopicId) -> bool {
    value.topic_id.is_zero() || id.is_zero() || value.topic_id == id
}

fn fetched(partition: PartitionIndex, value: Option<&OffsetValue>) -> FetchedOffset {
    FetchedOffset {
        partition,
        offset: value.map_or(Offset::UNKNOWN, |value| value.offset),
        leader_epoch: value.map_or(LeaderEpoch::UNKNOWN, |value| value.leader_epoch),
        metadata: value.map(|value| value.metadata.clone()).unwrap_or_default(),
        error: ErrorCode::None,
    }
}

//! What the group wants and who is to have it: subscriptions resolved, topics watched, the target computed.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{TopicId, TopicPartition};
use peer_api::groups::AssignedTopic;
use peer_api::metadata::{Image, Topic};

use super::ConsumerGroup;
use super::assignor::{self, Assignor};
use super::member::Description;
use super::partitions::{self, Partitions};
use super::pattern::Pattern;
use crate::event::Settings;
use crate::records::{ConsumerGroupValue, ConsumerRecord, Record, RegularExpressionValue, TargetAssignmentValue};
use crate::turn::Turn;

/// How long a change of the metadata may wait until regular expressions are resolved again: a cluster in motion changes its
/// metadata all the time, and new topics are rare.
const REGEX_REFRESH_INTERVAL_MS: u64 = 1_000;

impl ConsumerGroup {
    /// Resolves what must be resolved, and lets the group epoch grow if it `must`, or if the subscribed topics have changed.
    pub(super) fn refresh(&mut self, turn: &mut Turn<'_>, must: bool) {
        let has_other_topics = self.resolve(turn);
        let hash = self.hash(turn.image);
        // As in Kafka 4.3 a new group is in epoch 1 before anybody has asked for anything.
        let epoch = self.value.map_or(1, |value| value.epoch);
        let grows = must || has_other_topics || self.value.is_some_and(|value| value.metadata_hash != hash);
        if grows || self.value.is_none() {
            let value = ConsumerGroupValue { epoch: epoch + i32::from(grows), metadata_hash: hash };
            self.write(turn, ConsumerRecord::Group(Some(value)));
            self.changed_at = turn.now.tick;
            if self.has_partition_metadata {
                self.write(turn, ConsumerRecord::PartitionMetadata { present: false });
            }
        }
    }

    /// Whether a regular expression stands for other topics than before.
    fn resolve(&mut self, turn: &mut Turn<'_>) -> bool {
        let now = turn.now.tick;
        let is_due = self
            .resolved_at
            .is_none_or(|(at, then)| at != turn.image.at() && now.ms_since(then) >= REGEX_REFRESH_INTERVAL_MS);
        let regexes: Vec<String> =
            self.regexes.keys().filter(|regex| is_due || !self.resolved.contains_key(*regex)).cloned().collect();
        let unused: Vec<String> =
            self.resolved.keys().filter(|regex| !self.regexes.contains_key(*regex)).cloned().collect();
        if is_due {
            self.resolved_at = Some((turn.image.at(), now));
        }
        for regex in unused {
            self.write(turn, ConsumerRecord::RegularExpression { regex, value: None });
        }
        let mut has_changed = false;
        for regex in regexes {
            let topics = match Pattern::new(&regex) {
                Ok(pattern) => {
                    let names = turn.image.topics_by_name().map(|topic| topic.name.as_str());
                    names.filter(|name| pattern.matches(name)).map(str::to_owned).collect()
                }
                // It was checked when the member came with it; only another version of this program can have taken it.
                Err(_) => Vec::new(),
            };
            if self.resolved.get(&regex).is_none_or(|known| known.topics != topics) {
                let version = i64::try_from(turn.image.at().0).unwrap_or(i64::MAX);
                let value = Some(RegularExpressionValue { topics, version, resolved_at: turn.now.wall });
                let mut record = ConsumerRecord::RegularExpression { regex: regex.clone(), value };
                // One that stands for more topics than a record holds goes on standing for what it did; a new one for nothing.
                if !turn.fits(&Record::Consumer { group_id: turn.group_id.to_owned(), record: record.clone() }) {
                    if self.resolved.contains_key(&regex) {
                        continue;
                    }
                    let nothing = RegularExpressionValue { topics: Vec::new(), version, resolved_at: turn.now.wall };
                    record = ConsumerRecord::RegularExpression { regex, value: Some(nothing) };
                }
                self.write(turn, record);
                has_changed = true;
            }
        }
        has_changed
    }

    /// Of everything about the subscribed topics that the assignors look at: when it changes, the target may have to.
    pub(super) fn hash(&mut self, image: &Image) -> i64 {
        let (at, version) = (image.at(), self.subscription_version);
        if let Some((hashed_at, hashed_version, hash)) = self.hashed
            && (hashed_at, hashed_version) == (at, version)
        {
            return hash;
        }
        let resolved = self.resolved.iter().filter(|(regex, _)| self.regexes.contains_key(*regex));
        let names: BTreeSet<&String> =
            self.names.keys().chain(resolved.flat_map(|(_, resolved)| &resolved.topics)).collect();
        let mut hash = Fnv::default();
        for topic in names.into_iter().filter_map(|name| image.topic_named(name)) {
            hash.bytes(&topic.id.0);
            hash.bytes(topic.name.as_bytes());
            hash.number(topic.partitions.len());
            for racks in racks_of(topic, image) {
                hash.number(racks.len());
                racks.iter().for_each(|rack| {
                    hash.number(rack.len());
                    hash.bytes(rack.as_bytes());
                });
            }
        }
        let hash = hash.0.cast_signed();
        self.hashed = Some((at, version, hash));
        hash
    }

    /// Computes the target for the group epoch, unless one was computed only just now: many members that come at once are
    /// better served with one new target than with one each (KIP-1263).
    pub(super) fn assign(&mut self, turn: &mut Turn<'_>) {
        if self.epoch() <= self.assignment_epoch() || self.waits_to_assign(turn) {
            return;
        }
        let targets = self.new_targets(turn);
        for (member_id, target) in targets {
            if self.targets.get(&member_id) != Some(&target) {
                let value: Option<Vec<AssignedTopic>> = Some(partitions::to_topics(&target));
                self.write(turn, ConsumerRecord::TargetMember { member_id, value });
            }
        }
        let value = TargetAssignmentValue { epoch: self.epoch(), assigned_at: turn.now.wall };
        self.write(turn, ConsumerRecord::TargetAssignment(Some(value)));
    }

    fn waits_to_assign(&self, turn: &Turn<'_>) -> bool {
        let Some(target) = self.target.filter(|target| target.assigned_at.0 > 0) else { return false };
        let waited = turn.now.wall.0 - target.assigned_at.0;
        // A wall clock that went back would make the group wait for it.
        (0..i64::from(turn.settings.consumer_assignment_interval_ms)).contains(&waited)
    }

    fn new_targets(&self, turn: &Turn<'_>) -> Vec<(String, Partitions)> {
        let image = turn.image;
        // Most members of a group subscribe alike: their topics are looked up once.
        let mut subscriptions: BTreeMap<(&BTreeSet<String>, Option<&str>), BTreeSet<TopicId>> = BTreeMap::new();
        for member in self.members.values() {
            let key = (&member.description.subscribed_names, member.description.regex());
            subscriptions.entry(key).or_insert_with(|| self.subscribed_topics(&member.description, image));
        }
        let has_racks = self.members.values().any(|member| member.description.rack_id.is_some());
        let subscribed: BTreeSet<TopicId> = subscriptions.values().flatten().copied().collect();
        let topics = subscribed.into_iter().filter_map(|id| image.topic(id)).map(|topic| {
            let racks = if has_racks { racks_of(topic, image).collect() } else { Vec::new() };
            (topic.id, assignor::Topic { partitions: topic.partitions.len(), racks })
        });
        let none = Partitions::new();
        let nothing = BTreeSet::new();
        let members = self.members.iter().map(|(member_id, member)| {
            let key = (&member.description.subscribed_names, member.description.regex());
            assignor::Member {
                member_id,
                instance_id: member.description.instance_id.as_deref(),
                rack: member.description.rack_id.as_deref(),
                subscribed: subscriptions.get(&key).unwrap_or(&nothing),
                target: self.targets.get(member_id).unwrap_or(&none),
            }
        });
        let group = assignor::Group { members: members.collect(), topics: topics.collect() };
        let targets = self.assignor(turn.settings).assign(&group);
        self.members.keys().cloned().zip(targets).collect()
    }

    /// Topics that exist, by name or by regular expression.
    pub(super) fn subscribed_topics(&self, member: &Description, image: &Image) -> BTreeSet<TopicId> {
        let resolved = member.regex().and_then(|regex| self.resolved.get(regex));
        let names = member.subscribed_names.iter().chain(resolved.into_iter().flat_map(|resolved| &resolved.topics));
        names.filter_map(|name| image.topic_named(name)).map(|topic| topic.id).collect()
    }

    /// By the most votes of members; of equals the one the broker's settings name first, which is also the default.
    pub(super) fn assignor(&self, settings: &Settings) -> Assignor {
        let mut chosen = (0, Assignor::Uniform);
        for assignor in offered(settings).rev() {
            let is_vote = |vote: &&String| *vote == assignor.name();
            let votes = self.members.values().filter_map(|m| m.description.server_assignor.as_ref()).filter(is_vote);
            let votes = votes.count();
            if votes >= chosen.0 {
                chosen = (votes, assignor);
            }
        }
        chosen.1
    }

    pub(super) fn is_held_by_other(&self, partition: &TopicPartition, member_id: &str) -> bool {
        self.holders.get(partition).is_some_and(|holder| holder != member_id)
    }
}

/// The assignors that members may ask for, the default first.
pub(super) fn offered(settings: &Settings) -> impl DoubleEndedIterator<Item = Assignor> + '_ {
    settings.consumer_assignors.iter().filter_map(|name| Assignor::named(name))
}

/// By partition, in order of name and each once.
fn racks_of<'a>(topic: &'a Topic, image: &'a Image) -> impl Iterator<Item = Vec<&'a str>> {
    topic.partitions.iter().map(|partition| {
        let brokers = partition.replicas.iter().filter_map(|&broker| image.broker(broker));
        let racks: BTreeSet<&str> = brokers.filter_map(|broker| broker.rack.as_deref()).collect();
        racks.into_iter().collect()
    })
}

/// Fowler, Noll and Vo's hash, 64 bits: the same on every node and in every version, which the log relies on.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn number(&mut self, number: usize) {
        self.bytes(&(number as u64).to_be_bytes());
    }
}

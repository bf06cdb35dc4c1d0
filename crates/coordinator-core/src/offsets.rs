//! What groups have committed: the newest word on each partition, and what of it the log has.
//!
//! ```text
//!   changed(append) ──► latest ◄── decisions: deleting, expiring
//!                          │
//!   committed(append) ──► unsettled: the value below the high watermark while a newer one is on its way
//!                          └────────────────────────────────────────────► fetches
//! ```
//!
//! A fetch is given only what is committed: a value that is still on its way may yet be lost, and the offset would go back
//! (G3, G4).

use std::collections::{BTreeMap, VecDeque};

use base_types::PartitionIndex;

use crate::event::AppendId;
use crate::records::{OffsetKey, OffsetValue};

/// By topic and partition.
pub(crate) type GroupOffsets = BTreeMap<(String, PartitionIndex), OffsetValue>;

#[derive(Debug, Default)]
pub(crate) struct Offsets {
    /// No group is without any.
    latest: BTreeMap<String, GroupOffsets>,
    /// Of keys with changes in flight.
    unsettled: BTreeMap<OffsetKey, Unsettled>,
}

#[derive(Debug)]
struct Unsettled {
    committed: Option<OffsetValue>,
    /// In order of append.
    changes: VecDeque<(AppendId, Option<OffsetValue>)>,
}

impl Offsets {
    /// Folds what the log holds.
    pub fn load(&mut self, key: &OffsetKey, value: Option<&OffsetValue>) {
        self.put(key, value.cloned());
    }

    /// Folds what was just asked of the log.
    pub fn change(&mut self, append: AppendId, key: &OffsetKey, value: Option<&OffsetValue>) {
        let before = self.put(key, value.cloned());
        let unsettled = self
            .unsettled
            .entry(key.clone())
            .or_insert_with(|| Unsettled { committed: before, changes: VecDeque::new() });
        unsettled.changes.push_back((append, value.cloned()));
    }

    /// Appends are committed in order, so this is the oldest of the key's changes.
    pub fn settle(&mut self, append: AppendId, key: &OffsetKey) {
        let Some(unsettled) = self.unsettled.get_mut(key) else { return };
        while unsettled.changes.front().is_some_and(|(change, _)| *change <= append) {
            if let Some((_, value)) = unsettled.changes.pop_front() {
                unsettled.committed = value;
            }
        }
        if unsettled.changes.is_empty() {
            self.unsettled.remove(key);
        }
    }

    /// The value below the high watermark.
    pub fn committed(&self, key: &OffsetKey) -> Option<&OffsetValue> {
        match self.unsettled.get(key) {
            Some(unsettled) => unsettled.committed.as_ref(),
            None => self.latest.get(&key.group_id)?.get(&(key.topic.clone(), key.partition)),
        }
    }

    /// Everything below the high watermark, in order of topic and partition.
    pub fn all_committed(&self, group_id: &str) -> GroupOffsets {
        let mut all = self.latest.get(group_id).cloned().unwrap_or_default();
        for (key, unsettled) in self.of_group_unsettled(group_id) {
            let place = (key.topic.clone(), key.partition);
            match &unsettled.committed {
                Some(value) => all.insert(place, value.clone()),
                None => all.remove(&place),
            };
        }
        all
    }

    /// The newest values, committed or not: what decisions build on.
    pub fn latest(&self, group_id: &str) -> Option<&GroupOffsets> {
        self.latest.get(group_id)
    }

    /// Groups that have offsets.
    pub fn groups(&self) -> impl Iterator<Item = &String> {
        self.latest.keys()
    }

    pub fn len(&self) -> usize {
        self.latest.values().map(BTreeMap::len).sum()
    }

    fn put(&mut self, key: &OffsetKey, value: Option<OffsetValue>) -> Option<OffsetValue> {
        let place = (key.topic.clone(), key.partition);
        match value {
            Some(value) => self.latest.entry(key.group_id.clone()).or_default().insert(place, value),
            None => {
                let group = self.latest.get_mut(&key.group_id)?;
                let before = group.remove(&place);
                if group.is_empty() {
                    self.latest.remove(&key.group_id);
                }
                before
            }
        }
    }

    fn of_group_unsettled<'a>(&'a self, group_id: &'a str) -> impl Iterator<Item = (&'a OffsetKey, &'a Unsettled)> {
        let first =
            OffsetKey { group_id: group_id.to_owned(), topic: String::new(), partition: PartitionIndex(i32::MIN) };
        self.unsettled.range(first..).take_while(move |(key, _)| key.group_id == group_id)
    }
}

#[cfg(test)]
mod tests {
    use base_types::{LeaderEpoch, Offset, Timestamp, TopicId};

    use super::*;

    fn key(topic: &str) -> OffsetKey {
        OffsetKey { group_id: "g".to_owned(), topic: topic.to_owned(), partition: PartitionIndex(0) }
    }

    fn value(offset: i64) -> OffsetValue {
        OffsetValue {
            offset: Offset(offset),
            leader_epoch: LeaderEpoch::UNKNOWN,
            metadata: String::new(),
            committed_at: Timestamp(0),
            expires_at: None,
            topic_id: TopicId::ZERO,
        }
    }

    #[test]
    fn a_fetch_sees_each_value_only_once_it_is_committed() {
        let mut offsets = Offsets::default();
        offsets.load(&key("t"), Some(&value(1)));
        offsets.change(AppendId(0), &key("t"), Some(&value(2)));
        offsets.change(AppendId(1), &key("t"), None);
        assert_eq!(offsets.committed(&key("t")), Some(&value(1)));
        assert!(offsets.latest("g").is_none());
        offsets.settle(AppendId(0), &key("t"));
        assert_eq!(offsets.committed(&key("t")), Some(&value(2)));
        assert_eq!(offsets.all_committed("g").len(), 1);
        offsets.settle(AppendId(1), &key("t"));
        assert_eq!(offsets.committed(&key("t")), None);
        assert!(offsets.all_committed("g").is_empty());
    }

    #[test]
    fn one_append_may_change_a_key_twice() {
        let mut offsets = Offsets::default();
        offsets.change(AppendId(0), &key("t"), Some(&value(1)));
        offsets.change(AppendId(0), &key("t"), Some(&value(2)));
        assert_eq!(offsets.committed(&key("t")), None);
        offsets.settle(AppendId(0), &key("t"));
        assert_eq!(offsets.committed(&key("t")), Some(&value(2)));
        assert_eq!(offsets.len(), 1);
    }

    #[test]
    fn groups_do_not_see_each_other() {
        let mut offsets = Offsets::default();
        let other = OffsetKey { group_id: "h".to_owned(), ..key("t") };
        offsets.change(AppendId(0), &other, Some(&value(9)));
        offsets.load(&key("u"), Some(&value(1)));
        assert_eq!(offsets.all_committed("g").len(), 1);
        assert!(offsets.all_committed("h").is_empty());
    }
}

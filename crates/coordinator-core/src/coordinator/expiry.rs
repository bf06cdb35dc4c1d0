//! Offsets that nobody needs any more: too old (KIP-211), or of topics that are gone.

use std::ops::Bound;

use base_types::{Now, PartitionIndex, TopicId, invariant};

use super::GroupCoordinator;
use super::offsets::tombstone;
use crate::effect::Effects;
use crate::group::Group;
use crate::records::{OffsetValue, Record};
use crate::timers::Timer;

/// How many groups one step looks through.
const GROUPS_PER_STEP: usize = 1_000;

impl GroupCoordinator {
    pub(super) fn schedule_expiry(&mut self, now: Now) {
        let interval_ms = self.desk.settings.offsets_retention_check_interval_ms;
        self.desk.timers.set(Timer::Expiry, now.tick.plus_ms(interval_ms));
    }

    /// A round goes through all groups, a portion in each step.
    pub(super) fn expire_offsets(&mut self, now: Now, effects: &mut Effects) {
        let from = self.expiry_from.take().map_or(Bound::Unbounded, Bound::Included);
        let mut ids: Vec<String> = self
            .groups
            .range::<String, _>((from, Bound::Unbounded))
            .map(|(group_id, _)| group_id.clone())
            .take(GROUPS_PER_STEP + 1)
            .collect();
        if ids.len() > GROUPS_PER_STEP {
            self.expiry_from = ids.pop();
            self.desk.timers.set(Timer::Expiry, now.tick);
        } else {
            self.schedule_expiry(now);
        }
        for group_id in &ids {
            self.expire_group(now, group_id, effects);
        }
    }

    /// A group that has no offsets any more goes too, if it has no members.
    fn expire_group(&mut self, now: Now, group_id: &str, effects: &mut Effects) {
        let Some(group) = self.groups.get(group_id) else { return };
        let retention_ms = self.desk.settings.offsets_retention_ms;
        let mut expired = Vec::new();
        let mut all_expired = true;
        for ((topic, partition), value) in self.offsets.latest(group_id).into_iter().flatten() {
            if is_expired(group, topic, value, now, retention_ms) {
                invariant!(G8, !group.is_subscribed_to(topic), "group {group_id} consumes {topic}-{partition}");
                expired.push(tombstone(group_id, topic, *partition));
            } else {
                all_expired = false;
            }
        }
        if all_expired && group.is_idle() {
            self.delete_group(now, group_id, effects);
        } else {
            self.append(now, group_id, &expired, effects);
        }
    }

    /// Offsets of topics that were deleted. One that was committed for another topic of that name stays (R18).
    pub(super) fn forget_removed_topics(&mut self, now: Now, effects: &mut Effects) {
        if !self.may_decide() {
            return;
        }
        for (id, name) in std::mem::take(&mut self.removed_topics) {
            let ids: Vec<String> = self.offsets.groups().cloned().collect();
            for group_id in &ids {
                let records = self.offsets_of_removed(group_id, id, &name);
                self.append(now, group_id, &records, effects);
            }
        }
    }

    fn offsets_of_removed(&self, group_id: &str, id: TopicId, name: &str) -> Vec<Record> {
        let all = (name.to_owned(), PartitionIndex(i32::MIN))..=(name.to_owned(), PartitionIndex(i32::MAX));
        let of_topic = self.offsets.latest(group_id).into_iter().flat_map(|offsets| offsets.range(all.clone()));
        of_topic
            .filter(|(_, value)| value.topic_id.is_zero() || value.topic_id == id)
            .map(|((_, partition), _)| tombstone(group_id, name, *partition))
            .collect()
    }
}

fn is_expired(group: &Group, topic: &str, value: &OffsetValue, now: Now, retention_ms: i64) -> bool {
    let Some(since) = group.unused_since(value.committed_at) else { return false };
    if group.is_subscribed_to(topic) {
        return false;
    }
    match value.expires_at {
        Some(expires_at) => now.wall >= expires_at,
        None => now.wall.0.saturating_sub(since.0) >= retention_ms,
    }
}

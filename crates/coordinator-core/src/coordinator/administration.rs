//! Groups as operators see them.

use base_types::{ErrorCode, Now};
use peer_api::groups::{ConsumerGroupDescribe, DeleteGroups, DescribeGroups, GroupNotFound, GroupResponse, ListGroups};
use peer_api::metadata::Image;

use super::GroupCoordinator;
use super::offsets::tombstone;
use crate::effect::Effects;
use crate::event::{AppendId, RequestKey};
use crate::group::Group;
use crate::records::Record;

impl GroupCoordinator {
    pub(super) fn describe_groups(&mut self, request: RequestKey, describe: &DescribeGroups, effects: &mut Effects) {
        let described = describe.groups.iter().map(|group_id| {
            let result = match self.groups.get(group_id) {
                Some(Group::Classic(group)) => Ok(group.describe()),
                Some(Group::Consumer(_)) => Err(format!("Group {group_id} is not a classic group.")),
                None => Err(format!("Group {group_id} not found.")),
            };
            (group_id.clone(), result.map_err(|message| GroupNotFound { message }))
        });
        let response = GroupResponse::DescribeGroups(described.collect());
        self.reply(request, Ok(response), effects);
    }

    pub(super) fn describe_consumer_groups(
        &mut self,
        image: &Image,
        request: RequestKey,
        describe: &ConsumerGroupDescribe,
        effects: &mut Effects,
    ) {
        let described = describe.groups.iter().map(|group_id| {
            let result = match self.groups.get(group_id) {
                Some(Group::Consumer(group)) => Ok(group.describe(image, &self.desk.settings)),
                Some(Group::Classic(_)) => Err(format!("Group {group_id} is not a consumer group.")),
                None => Err(format!("Group {group_id} not found.")),
            };
            (group_id.clone(), result.map_err(|message| GroupNotFound { message }))
        });
        let response = GroupResponse::ConsumerGroupDescribe(described.collect());
        self.reply(request, Ok(response), effects);
    }

    pub(super) fn list_groups(&mut self, request: RequestKey, list: &ListGroups, effects: &mut Effects) {
        let lets_through = |filter: &[String], name: &str| {
            filter.is_empty() || filter.iter().any(|word| word.eq_ignore_ascii_case(name))
        };
        let listed = self
            .groups
            .iter()
            .map(|(group_id, group)| group.listed(group_id))
            .filter(|group| lets_through(&list.states, group.state.name()))
            .filter(|group| lets_through(&list.types, group.kind.name()));
        let response = GroupResponse::ListGroups(listed.collect());
        self.reply(request, Ok(response), effects);
    }

    pub(super) fn delete_groups(
        &mut self,
        now: Now,
        request: RequestKey,
        delete: &DeleteGroups,
        effects: &mut Effects,
    ) {
        let mut last = None;
        let mut results = Vec::with_capacity(delete.groups.len());
        for group_id in &delete.groups {
            let error = match self.groups.get(group_id) {
                None => ErrorCode::GroupIdNotFound,
                Some(group) if !group.is_empty() => ErrorCode::NonEmptyGroup,
                Some(_) => {
                    last = self.delete_group(now, group_id, effects);
                    ErrorCode::None
                }
            };
            results.push((group_id.clone(), error));
        }
        self.reply_after(last, request, GroupResponse::DeleteGroups(results), effects);
    }

    /// The offsets go first: a group that is half deleted is still a group.
    pub(super) fn delete_group(&mut self, now: Now, group_id: &str, effects: &mut Effects) -> Option<AppendId> {
        let group = self.groups.remove(group_id)?;
        let offsets = self.offsets.latest(group_id).into_iter().flat_map(|offsets| offsets.keys());
        let mut records: Vec<Record> =
            offsets.map(|(topic, partition)| tombstone(group_id, topic, *partition)).collect();
        records.extend(group.tombstones(group_id));
        self.append(now, group_id, &records, effects)
    }
}

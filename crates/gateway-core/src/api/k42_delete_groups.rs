//! DeleteGroups (42): groups without members, and their offsets.
//!
//! Versions 0–2. v2: flexible.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use base_types::ErrorCode;
use kafka_wire::k42_delete_groups::DeletableGroupResult;
use kafka_wire::{DeleteGroupsRequest, DeleteGroupsResponse, KafkaString};
use peer_api::groups::{DeleteGroups, GroupRequest, GroupResponse};

use crate::api::coordination::{self, Ask, Place, Told};
use crate::limits::COORDINATOR_ANSWER_MS;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=2;

pub(crate) fn begin(cx: &mut Context<'_>, request: DeleteGroupsRequest) -> Begun {
    if let Some(refused) = coordination::refuse_too_many(request.groups_names.len()) {
        return refused;
    }
    // The answer is keyed by group: what is named several times is told once.
    let mut named = BTreeSet::new();
    let groups: Vec<KafkaString> =
        request.groups_names.into_iter().filter(|group_id| named.insert(group_id.clone())).collect();
    let asks = groups.iter().map(|group_id| Ask {
        place: Place::OfGroup(group_id.to_string()),
        request: GroupRequest::DeleteGroups(DeleteGroups { groups: vec![group_id.to_string()] }),
    });
    coordination::ask_each(cx, asks.collect(), COORDINATOR_ANSWER_MS, |cx, told| answer(cx, groups, told))
}

fn answer(cx: &mut Context<'_>, groups: Vec<KafkaString>, told: Vec<Told>) -> Answer {
    let mut results = Vec::with_capacity(groups.len());
    for (group_id, told) in groups.into_iter().zip(told) {
        let code = match told {
            Ok(GroupResponse::DeleteGroups(groups)) => {
                groups.first().map_or(ErrorCode::UnknownServerError, |(_, code)| *code)
            }
            Ok(_) => ErrorCode::UnknownServerError,
            Err(code) => code,
        };
        results.push(DeletableGroupResult { group_id, error_code: cx.code(code) });
    }
    cx.respond(&DeleteGroupsResponse { results, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use peer_api::groups::CoordinatorError;

    use super::*;
    use crate::testing::World;

    #[test]
    fn each_group_is_told_once_with_its_own_code() {
        for version in SUPPORTED {
            let mut world = World::with_groups(1);
            let groups_names = vec!["a".into(), "b".into(), "a".into(), "".into()];
            world.send(version, &DeleteGroupsRequest { groups_names });
            let (node, first, _) = world.next_question();
            let (_, second, _) = world.next_question();
            let (_, third, _) = world.next_question();
            assert!(world.to_storage.is_empty());
            let gone = |group_id: &str, code| Ok(GroupResponse::DeleteGroups(vec![(group_id.into(), code)]));
            world.coordinator_answers(node, first, gone("a", ErrorCode::NonEmptyGroup));
            world.coordinator_answers(node, second, Err(CoordinatorError::TimedOut));
            world.coordinator_answers(node, third, gone("", ErrorCode::None));
            let (_, response) = world.answer::<DeleteGroupsRequest>(version);
            let told: Vec<_> = response.results.iter().map(|r| (&*r.group_id, r.error_code)).collect();
            assert_eq!(told, [("a", 68), ("b", 15), ("", 0)]);
        }
    }
}
